// What makes two uploads duplicates, which shard of the directory knows, and under which hash it
// keeps a user's Idempotency-Key.
//
// SHA-1 catches duplicates and can be forged (SHAttered, Stevens and others 2017); so it only says
// where to look. Equal are uploads whose `digest` is: SHA-256 over all that a reader is given: the
// SHA-256 of the bytes, their number, content type, fields and tags. Were less compared, the first
// uploader would decide the rest for all that come later. Pure.
#pragma once

#include <compare>
#include <optional>
#include <string_view>

#include "common/codec.h"
#include "common/needle.h"
#include "common/proto/hayloft.pb.h"

namespace hayloft {

struct ContentId {
  Sha1 sha1{};
  Sha256 digest{};
  friend bool operator==(const ContentId&, const ContentId&) = default;
  friend auto operator<=>(const ContentId&, const ContentId&) = default;
};

inline constexpr uint32_t kShardsMax = 256;

// `raw_size`: of the bytes as uploaded. The metadata's nonce doesn't count.
ContentId ContentOf(const Metadata& metadata, uint32_t raw_size);
// Of a needle's head. REQUIRES: `head` was checked. kCorrupt: its metadata can't be understood.
Result<ContentId> ContentOf(const NeedleHead& head);

void FillContent(const ContentId& content, pb::Content* message);
std::optional<ContentId> ContentFrom(const pb::Content& message);  // none: a size is wrong

// REQUIRES: 1 <= shards <= kShardsMax.
uint32_t ShardOf(const Sha1& sha1, uint32_t shards);
uint32_t ShardOfName(std::string_view name, uint32_t shards);

// 16 to 128 visible characters of ASCII.
bool IsIdempotencyKey(std::string_view key);
// `uploader`: the id of the upload key that was used; empty: none. So one user's key never meets
// another's, nor the same one of another body.
Sha256 IdempotencyHash(std::string_view uploader, std::string_view key, const ContentId& content);

}  // namespace hayloft
