// Names that users give to files (docs/http.md): flat keys, never interpreted. Here is what can be
// decided of them without asking anybody. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/file_address.h"
#include "common/proto/hayloft.pb.h"
#include "gateway/http_parser.h"

namespace hayloft {

// What stands for a name in a path, decoded: 1 to kNameBytesMax bytes of UTF-8. '/' may stand there
// as it is. nullopt: it is none.
std::optional<std::string> DecodeName(std::string_view encoded);
// "/v1/names/" and the name; all but letters, digits, '-', '.', '_' and '~' as %XX.
std::string NamePath(std::string_view name);

// What the answer to a request for a name depends on once its file is known, as the head of
// another request: its conditions, ranges and codings are parsed then, for the file's tag. Dates
// are left out: a name may be given to an older file, so that what was read before could look
// fresh. With a date in If-Range the range is off.
std::string KeptHead(const HttpRequest& request);

// Whether If-Match and If-None-Match of a write hold. `etag`: of the file that the name has now,
// with its quotes; empty: none.
bool WriteMayProceed(const HttpRequest& kept, std::string_view etag);

// GET /v1/names?prefix=&after=&limit=
struct NamesQuery {
  std::string prefix;
  std::string after;
  uint32_t limit = 100;
};
// nullopt: a parameter is malformed, or the limit not 1 to kDirNamesMax.
std::optional<NamesQuery> ParseNamesQuery(std::string_view query);

struct NamesPage {
  std::vector<pb::DirNamed> names;  // in byte order
  bool more = false;
  std::string after;  // where the next page begins; a name that may have been deleted
};
// How many names to ask of each shard for a page.
uint32_t NamesOfShard(uint32_t limit, uint32_t shards);
// One page of what each shard has told of its names behind the same `after`. It may be shorter
// than `limit` though there is more.
NamesPage MergeNames(std::vector<pb::DirNameListReply> shards, size_t limit);

}  // namespace hayloft
