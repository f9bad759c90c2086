#include "directory/purge_request.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "client/file_fields.h"
#include "common/check.h"
#include "common/text.h"

namespace hayloft {

namespace {

constexpr std::string_view kScheme = "http://";
constexpr std::string_view kId = "{id}";
constexpr std::string_view kTagFields[] = {"surrogate-key", "cache-tag"};
constexpr std::string_view kTagNames[] = {"Surrogate-Key", "Cache-Tag"};
constexpr char kSeparators[] = {' ', ','};

// What stands in a request's first line or in a field: no blank, nothing that ends a line.
bool IsVisible(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

struct UrlParts {
  std::string_view authority;
  std::string_view path;  // with its query
};

UrlParts SplitUrl(std::string_view url) {
  url.remove_prefix(kScheme.size());
  const size_t slash = std::min(url.find('/'), url.size());
  return {.authority = url.substr(0, slash), .path = url.substr(slash)};
}

std::string Filled(std::string_view url, std::string_view id) {
  std::string filled(url);
  for (size_t at = 0; (at = filled.find(kId, at)) != std::string::npos; at += id.size()) {
    filled.replace(at, kId.size(), id);
  }
  return filled;
}

// Of visible ASCII and spaces.
std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

// Each of a list's tags once, in the order in which they were given.
std::vector<std::string> Split(const std::vector<std::string>& lists) {
  std::vector<std::string> tags;
  for (size_t i = 0; i < lists.size(); ++i) {
    std::string_view list = lists[i];
    while (!list.empty()) {
      const size_t end = std::min(list.find(kSeparators[i]), list.size());
      const std::string tag(TrimBlanks(list.substr(0, end)));
      if (!tag.empty() && std::find(tags.begin(), tags.end(), tag) == tags.end()) {
        tags.push_back(tag);
      }
      list.remove_prefix(std::min(end + 1, list.size()));
    }
  }
  return tags;
}

// Those that may be sent, each in its place.
std::vector<std::string> Sendable(const std::vector<std::string>& tags) {
  std::vector<std::string> lists;
  for (size_t i = 0; i < std::min(tags.size(), std::size(kTagFields)); ++i) {
    lists.push_back(IsSendable(kTagFields[i], tags[i]) ? tags[i] : "");
  }
  return lists;
}

std::string Body(const PurgeOptions& options, std::string_view id,
                 const std::vector<std::string>& lists) {
  const std::string url = Filled(options.file_url.empty() ? "/{id}" : options.file_url, id);
  std::string body = "{\"id\":";
  body.append(Quoted(id)).append(",\"url\":").append(Quoted(url)).append(",\"tags\":[");
  bool first = true;
  for (const std::string& tag : Split(lists)) {
    if (!std::exchange(first, false)) body += ',';
    body += Quoted(tag);
  }
  return body.append("]}");
}

}  // namespace

std::string PurgeFault(const PurgeOptions& options) {
  const std::string_view url = options.url;
  if (options.method != "PURGE" && options.method != "POST") return "purge_method: PURGE or POST";
  if (!IsVisible(options.host)) return "purge_host: visible ASCII";
  if (!IsVisible(options.file_url)) return "purge_file_url: visible ASCII";
  if (url.empty()) return "";
  if (StartsWithNoCase(url, "https://")) {
    return "purge_url: TLS is not spoken here; a proxy at an http:// address has to";
  }
  if (!url.starts_with(kScheme)) return "purge_url: http://IP:PORT/...";
  if (!IsVisible(url)) return "purge_url: visible ASCII";
  const UrlParts parts = SplitUrl(url);
  if (parts.authority.empty() || parts.authority.find(kId) != parts.authority.npos) {
    return "purge_url: http://IP:PORT/...";
  }
  if (options.method == "PURGE" && parts.path.find(kId) == parts.path.npos) {
    return "purge_url: {id} has to stand in it, for PURGE";
  }
  return "";
}

std::string PurgeAddress(const PurgeOptions& options) {
  const std::string_view authority = SplitUrl(options.url).authority;
  const size_t bracket = authority.rfind(']');
  const bool has_port =
      authority.find(':', bracket == authority.npos ? 0 : bracket) != authority.npos;
  return std::string(authority) + (has_port ? "" : ":80");
}

std::vector<std::string> PurgeTags(const Metadata& metadata) {
  std::vector<std::string> tags;
  for (const std::string_view name : kTagFields) {
    const auto field = metadata.fields.find(std::string(name));
    tags.push_back(field == metadata.fields.end() ? "" : field->second);
  }
  while (!tags.empty() && tags.back().empty()) tags.pop_back();
  return tags;
}

std::string PurgeRequest(const PurgeOptions& options, std::string_view id,
                         const std::vector<std::string>& tags) {
  ASSERT(!options.url.empty());
  const UrlParts parts = SplitUrl(options.url);
  const bool post = options.method == "POST";
  const std::vector<std::string> lists = Sendable(tags);
  std::string request = options.method + ' ';
  request += parts.path.empty() ? "/" : Filled(parts.path, id);
  request += " HTTP/1.1\r\nHost: ";
  request += options.host.empty() ? parts.authority : std::string_view(options.host);
  request += "\r\nUser-Agent: hayloft\r\nConnection: close\r\n";
  for (size_t i = 0; !post && i < lists.size(); ++i) {
    if (lists[i].empty()) continue;
    request.append(kTagNames[i]).append(": ").append(lists[i]).append("\r\n");
  }
  const std::string body = post ? Body(options, id, lists) : "";
  if (post) request += "Content-Type: application/json\r\n";
  return request + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

bool IsPurged(std::string_view status) {
  return (status.size() == 3 && status[0] == '2') || status == "404" || status == "410";
}

}  // namespace hayloft
