#include "gateway/url_templates.h"

#include <algorithm>

#include "common/check.h"
#include "common/codec.h"
#include "common/options.h"
#include "gateway/content_disposition.h"

namespace hayloft {

namespace {

constexpr std::string_view kId = "{id}";
constexpr std::string_view kExt = "{ext}";
constexpr uint64_t kWeightMax = 1'000'000;

struct Entry {
  uint64_t weight = 0;  // 0: none is given, or it is wrong
  bool weighted = false;
  std::string text;
};

Entry ParseEntry(const std::string& text) {
  const size_t gap = text.find(' ');
  if (gap == std::string::npos) return {.weight = 1, .weighted = false, .text = text};
  Entry entry{.weight = 0, .weighted = true, .text = text.substr(text.find_first_not_of(' ', gap))};
  for (const char c : text.substr(0, gap)) {
    if (c < '0' || c > '9' || entry.weight > kWeightMax) return {.weighted = true, .text = text};
    entry.weight = entry.weight * 10 + static_cast<uint64_t>(c - '0');
  }
  return entry;
}

// It goes into a header line and into JSON as it stands.
bool IsUrlChar(char c) {
  constexpr std::string_view kNever = "\"<>\\^`|";
  return c > ' ' && c <= '~' && kNever.find(c) == std::string_view::npos;
}

const char* TemplateFault(std::string_view text) {
  if (!std::all_of(text.begin(), text.end(), IsUrlChar)) return "holds what no URL may hold";
  size_t host = text.find("://");
  const bool scheme = text.starts_with("https://") || text.starts_with("http://");
  if (!scheme && !text.starts_with('/')) return "begins with none of https://, http://, /";
  if (scheme && text.substr(host + 3, 1).find_first_of("/{") != std::string_view::npos) {
    return "has no host";
  }
  if (text.find(kId) == std::string_view::npos) return "has no {id}";
  std::string rest(text);
  for (const std::string_view known : {kId, kExt}) {
    for (size_t at = rest.find(known); at != std::string::npos; at = rest.find(known)) {
      rest.erase(at, known.size());
    }
  }
  if (rest.find_first_of("{}") != std::string::npos) return "has other braces than {id} and {ext}";
  return nullptr;
}

}  // namespace

std::string UrlTemplatesFault(std::string_view list) {
  size_t weighted = 0;
  const std::vector<std::string> entries = SplitList(list);
  for (const std::string& text : entries) {
    const Entry entry = ParseEntry(text);
    if (entry.weight == 0 || entry.weight > kWeightMax) {
      return text + ": a weight is 1 to 1000000, with a space behind it";
    }
    if (const char* fault = TemplateFault(entry.text)) return entry.text + " " + fault;
    weighted += entry.weighted ? 1 : 0;
  }
  if (weighted != 0 && weighted != entries.size()) return "weights: for all of them or for none";
  return {};
}

UrlTemplates::UrlTemplates(std::string_view list) {
  ASSERT(UrlTemplatesFault(list).empty());
  uint64_t end = 0;
  for (const std::string& text : SplitList(list)) {
    Entry entry = ParseEntry(text);
    end += entry.weight;
    templates_.push_back({.weight_end = end, .text = std::move(entry.text)});
  }
}

std::string UrlTemplates::Url(std::string_view id, std::string_view content_type) const {
  if (templates_.empty()) return "/" + std::string(id);
  // The CRC as a fraction of 2^32, of all weights: at most 2^32 * 2^20 * entries, which fits.
  const uint64_t place = uint64_t{Crc32c(AsBytes(id))} * templates_.back().weight_end >> 32;
  const auto chosen =
      std::find_if(templates_.begin(), templates_.end(),
                   [place](const Template& each) { return place < each.weight_end; });
  ASSERT(chosen != templates_.end());
  std::string_view extension = ExtensionOf(content_type);  // ".png", or nothing
  std::string url;
  for (std::string_view rest = chosen->text; !rest.empty();) {
    if (rest.starts_with(kId)) {
      url.append(id);
      rest.remove_prefix(kId.size());
    } else if (rest.starts_with(kExt)) {
      if (extension.empty() && url.ends_with('.')) url.pop_back();
      url.append(extension.substr(extension.empty() ? 0 : 1));
      rest.remove_prefix(kExt.size());
    } else {
      url.push_back(rest.front());
      rest.remove_prefix(1);
    }
  }
  return url;
}

}  // namespace hayloft
