// libFuzzer target: the metadata of a needle, as a client sends it.
// covers: common/needle.cc ParseMetadata TakeField
//
// Promise: what is accepted is the same after encoding and parsing it again.
#include <memory>

#include "common/needle.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[size]);
  std::copy(data, data + size, exact.get());
  const Result<Metadata> metadata = ParseMetadata({exact.get(), size});
  if (!metadata.ok()) return 0;
  const std::string written = EncodeMetadata(*metadata);
  if (written.size() > kMetadataBytesMax) return 0;  // tags that were absent are written as zeros
  const Result<Metadata> again = ParseMetadata(AsBytes(written));
  ASSERT(again.ok());
  ASSERT(EncodeMetadata(*again) == written);
  ASSERT(again->content_type == metadata->content_type);
  ASSERT(again->fields == metadata->fields);
  return 0;
}
