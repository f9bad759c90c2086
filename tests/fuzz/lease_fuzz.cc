// libFuzzer target: the lease's file, behind sound headers of both versions and as it is.
// covers: common/ha/lease_format.cc
//
// Promise: what is read can be written and read again without a change.
#include "common/codec.h"
#include "common/ha/lease_format.h"

namespace hayloft {
namespace {

void Check(const std::string& bytes) {
  const Result<pb::StoredLease> lease = DecodeLease(AsBytes(bytes));
  ASSERT(lease.ok() || lease.err() == Err::kCorrupt);
  if (!lease.ok()) return;
  const Result<pb::StoredLease> again = DecodeLease(AsBytes(EncodeLease(*lease)));
  ASSERT(again.ok());
  ASSERT(again->SerializeAsString() == lease->SerializeAsString());
}

std::string WithHeader(std::string_view magic, const std::string& body) {
  const le32 numbers[] = {static_cast<uint32_t>(body.size()), Crc32c(AsBytes(body))};
  std::string bytes(magic);
  for (const le32& number : numbers) bytes += AsText(StructBytes(number));
  return bytes + body;
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  if (size > 4000) return 0;  // the longest record that a node would write is shorter
  const std::string input(AsText({data, size}));
  Check(input);
  Check(WithHeader("HLS1", input));
  Check(WithHeader("HLS2", input));
  return 0;
}
