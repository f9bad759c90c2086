#include "gateway/names.h"

#include <algorithm>

#include "common/check.h"
#include "common/limits.h"
#include "gateway/conditions.h"
#include "gateway/http_semantics.h"
#include "gateway/query.h"

namespace hayloft {

namespace {

constexpr uint64_t kLimitDigitsMax = 4;

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

bool IsUnreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

// False: the parameter is there and is malformed.
bool TakeText(std::string_view query, std::string_view name, std::string* text) {
  const std::optional<std::string_view> value = QueryValue(query, name);
  if (!value) return true;
  std::optional<std::string> decoded = DecodeQueryValue(*value, kNameBytesMax);
  if (!decoded || !IsUtf8(*decoded)) return false;
  *text = std::move(*decoded);
  return true;
}

}  // namespace

std::optional<std::string> DecodeName(std::string_view encoded) {
  std::optional<std::string> name = DecodePercent(encoded, kNameBytesMax);
  if (!name || name->empty() || !IsUtf8(*name)) return std::nullopt;
  return name;
}

std::string NamePath(std::string_view name) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string path = "/v1/names/";
  for (const char c : name) {
    if (IsUnreserved(c)) {
      path.push_back(c);
      continue;
    }
    path.push_back('%');
    path.push_back(kDigits[static_cast<uint8_t>(c) >> 4]);
    path.push_back(kDigits[static_cast<uint8_t>(c) & 15]);
  }
  return path;
}

std::string KeptHead(const HttpRequest& request) {
  std::string head(HttpMethodName(request.method));
  head.append(" /");
  if (!request.query.empty()) head.append("?").append(request.query);
  head.append(" HTTP/1.1\r\nHost: h\r\n");
  for (const HttpHeader& header : request.headers()) {
    switch (header.field) {
      case HttpField::kIfRange:
        if (!header.value.ends_with('"')) {
          head.append("If-Range: \"no date\"\r\n");
          break;
        }
        [[fallthrough]];
      case HttpField::kIfMatch:
      case HttpField::kIfNoneMatch:
      case HttpField::kRange:
      case HttpField::kAcceptEncoding:
        head.append(header.name).append(": ").append(header.value).append("\r\n");
        break;
      default:
        break;
    }
  }
  return head.append("\r\n");
}

bool WriteMayProceed(const HttpRequest& kept, std::string_view etag) {
  if (etag.empty()) return kept.Count(HttpField::kIfMatch) == 0;
  return Evaluate(ParseConditions(kept, etag), 0) == Verdict::kProceed;
}

std::optional<NamesQuery> ParseNamesQuery(std::string_view query) {
  NamesQuery parsed;
  if (!TakeText(query, "prefix", &parsed.prefix)) return std::nullopt;
  if (!TakeText(query, "after", &parsed.after)) return std::nullopt;
  const std::optional<std::string_view> limit = QueryValue(query, "limit");
  if (!limit) return parsed;
  if (limit->empty() || limit->size() > kLimitDigitsMax) return std::nullopt;
  parsed.limit = 0;
  for (const char c : *limit) {
    if (c < '0' || c > '9') return std::nullopt;
    parsed.limit = parsed.limit * 10 + static_cast<uint32_t>(c - '0');
  }
  if (parsed.limit == 0 || parsed.limit > kDirNamesMax) return std::nullopt;
  return parsed;
}

// A shard that has more has told all of its names up to its `last`: what another one told behind
// the least of these may have names of this one before it.
uint32_t NamesOfShard(uint32_t limit, uint32_t shards) {
  constexpr uint32_t kLeast = 16;  // few names lie less evenly
  return std::min(limit, 2 * limit / shards + kLeast);
}

NamesPage MergeNames(std::vector<pb::DirNameListReply> shards, size_t limit) {
  ASSERT(limit > 0);
  NamesPage page;
  const std::string* horizon = nullptr;
  for (const pb::DirNameListReply& shard : shards) {
    if (!shard.more()) continue;
    if (horizon == nullptr || shard.last() < *horizon) horizon = &shard.last();
  }
  for (pb::DirNameListReply& shard : shards) {
    for (pb::DirNamed& named : *shard.mutable_names()) {
      if (horizon == nullptr || named.name() <= *horizon) page.names.push_back(std::move(named));
    }
  }
  std::sort(page.names.begin(), page.names.end(),
            [](const pb::DirNamed& a, const pb::DirNamed& b) { return a.name() < b.name(); });
  if (page.names.size() > limit) {
    page.names.resize(limit);
    page.more = true;
    page.after = page.names.back().name();
  } else if (horizon != nullptr) {
    page.more = true;
    page.after = *horizon;
  }
  return page;
}

}  // namespace hayloft
