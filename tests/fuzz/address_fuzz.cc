// libFuzzer target: the text of a file address, out of a URL.
// covers: common/file_address.cc ParseFileAddress ToText
//
// Promise: there is one text for an address, and every address has one.
#include "common/check.h"
#include "common/file_address.h"
#include "common/le.h"
#include "common/limits.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  const std::string text(AsText({data, size}));
  const std::optional<FileAddress> address = ParseFileAddress(text);
  if (address.has_value()) {
    ASSERT(address->block_id <= kBlockIdMax);
    ASSERT(ToText(*address) == text);
  }
  if (size < 16) return 0;
  le64 block_id;
  le64 file_id;
  std::memcpy(&block_id, data, 8);
  std::memcpy(&file_id, data + 8, 8);
  const FileAddress made{.block_id = block_id & kBlockIdMax, .file_id = FileId{file_id}};
  ASSERT(ParseFileAddress(ToText(made)) == made);
  return 0;
}
