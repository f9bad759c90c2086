#include "common/content.h"

#include <algorithm>
#include <string>

#include "common/check.h"

namespace hayloft {

namespace {

// Parts of any length one after the other, so that no two lists of them are the same bytes.
void AddPart(std::string_view part, std::string* out) {
  const le32 size = static_cast<uint32_t>(part.size());
  out->append(AsText(StructBytes(size)));
  out->append(part);
}

template <typename Hash>
bool TakeHash(const std::string& bytes, Hash* hash) {
  if (bytes.size() != hash->size()) return false;
  std::copy(bytes.begin(), bytes.end(), hash->begin());
  return true;
}

}  // namespace

ContentId ContentOf(const Metadata& metadata, uint32_t raw_size) {
  Metadata same = metadata;
  same.nonce = {};
  std::string all;
  AddPart("hayloft content", &all);
  const le32 size = raw_size;
  AddPart(AsText(StructBytes(size)), &all);
  AddPart(EncodeMetadata(same), &all);
  return {.sha1 = metadata.sha1, .digest = Sha256Of(AsBytes(all))};
}

Result<ContentId> ContentOf(const NeedleHead& head) {
  TRY_ASSIGN(const Metadata metadata, ParseMetadata(head.metadata));
  return ContentOf(metadata, head.header.raw_size);
}

void FillContent(const ContentId& content, pb::Content* message) {
  message->set_sha1(content.sha1.data(), content.sha1.size());
  message->set_digest(content.digest.data(), content.digest.size());
}

std::optional<ContentId> ContentFrom(const pb::Content& message) {
  ContentId content;
  const bool fits =
      TakeHash(message.sha1(), &content.sha1) && TakeHash(message.digest(), &content.digest);
  return fits ? std::optional(content) : std::nullopt;
}

uint32_t ShardOf(const Sha1& sha1, uint32_t shards) {
  ASSERT(shards >= 1 && shards <= kShardsMax);
  return sha1[0] * shards / kShardsMax;
}

uint32_t ShardOfName(std::string_view name, uint32_t shards) {
  ASSERT(shards >= 1 && shards <= kShardsMax);
  return Sha256Of(AsBytes(name))[0] * shards / kShardsMax;
}

bool IsIdempotencyKey(std::string_view key) {
  return key.size() >= 16 && key.size() <= 128 &&
         std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c <= '~'; });
}

Sha256 IdempotencyHash(std::string_view uploader, std::string_view key, const ContentId& content) {
  std::string all;
  AddPart("hayloft idempotency", &all);
  AddPart(uploader, &all);
  AddPart(key, &all);
  AddPart(AsText(content.sha1), &all);
  AddPart(AsText(content.digest), &all);
  return Sha256Of(AsBytes(all));
}

}  // namespace hayloft
