#include "gateway/byteranges.h"

#include <algorithm>

#include "common/check.h"
#include "gateway/http_semantics.h"

namespace hayloft {

ByterangesBody::ByterangesBody(const ByterangesFile& file, std::vector<ByteRange> ranges)
    : boundary_("hayloft-" + std::string(file.id)) {
  ASSERT(!ranges.empty());
  for (const ByteRange& range : ranges) {
    std::string head = parts_.empty() ? "--" : "\r\n--";
    head.append(boundary_).append("\r\nContent-Type: ").append(file.type);
    head.append("\r\nContent-Range: ");
    AppendContentRange(range, file.size, &head);
    parts_.push_back({.range = range, .head = std::move(head.append("\r\n\r\n"))});
  }
  end_ = "\r\n--" + boundary_ + "--\r\n";
}

std::string ByterangesBody::ContentType() const {
  return "multipart/byteranges; boundary=" + boundary_;
}

uint64_t ByterangesBody::Length() const {
  uint64_t length = end_.size();
  for (const Part& part : parts_) length += part.head.size() + part.range.length;
  return length;
}

ByteRange ByterangesBody::NextRead(uint64_t bytes_max) const {
  ASSERT(!done());
  ASSERT(bytes_max > 0);
  const ByteRange& first = parts_[part_].range;
  uint64_t begin = first.offset + part_sent_;
  uint64_t end = first.end();
  if (end - begin > bytes_max) return {.offset = begin, .length = bytes_max};
  for (size_t i = part_ + 1; i < parts_.size(); ++i) {
    const uint64_t low = std::min(begin, parts_[i].range.offset);
    const uint64_t high = std::max(end, parts_[i].range.end());
    if (high - low > bytes_max) break;
    begin = low;
    end = high;
  }
  return {.offset = begin, .length = end - begin};
}

Result<Buffer> ByterangesBody::Take(const ByteRange& read, Bytes bytes) {
  ASSERT(!done());
  if (bytes.size() != read.length) return Err::kCorrupt;
  std::string out;
  while (!done()) {
    const Part& part = parts_[part_];
    const uint64_t begin = part.range.offset + part_sent_;
    if (begin < read.offset || begin >= read.end()) break;
    if (part_sent_ == 0) out.append(part.head);
    const uint64_t count = std::min(part.range.end(), read.end()) - begin;
    out.append(AsText(bytes.subspan(begin - read.offset, count)));
    part_sent_ += count;
    if (part_sent_ < part.range.length) break;
    ++part_;
    part_sent_ = 0;
  }
  if (out.empty()) return Err::kCorrupt;
  if (done()) out.append(end_);
  return Buffer::CopyOf(AsBytes(out));
}

}  // namespace hayloft
