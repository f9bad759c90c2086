// The body of a 206 with several ranges: multipart/byteranges (RFC 9110 section 14.6), made piece
// by piece as the file is read, in a number of bytes that is known before the first of them.
//
//   --hayloft-<id> CRLF Content-Type CRLF Content-Range CRLF CRLF bytes CRLF
//   --hayloft-<id> CRLF ...                                       bytes CRLF
//   --hayloft-<id>-- CRLF
//
// The boundary is the file's, so that any gateway and any replica sends the same bytes. That those
// of the file hold it is not made impossible, only idle: an id is drawn, with 40 random bits, after
// the bytes have been received, so no uploader can put it into them; and each part says in
// Content-Range how long it is.
//
// What is read of the file at a time is bounded by the caller. Parts that lie near each other come
// out of one read. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/buffer.h"
#include "common/le.h"
#include "common/result.h"
#include "gateway/ranges.h"

namespace hayloft {

struct ByterangesFile {
  std::string_view id;    // 18 characters
  std::string_view type;  // Content-Type; no control byte
  uint64_t size = 0;
};

class ByterangesBody {
 public:
  // `ranges` as ResolveRanges gives them: at least one, none touches another.
  ByterangesBody(const ByterangesFile& file, std::vector<ByteRange> ranges);

  std::string ContentType() const;
  uint64_t Length() const;  // of the whole body
  bool done() const { return part_ == parts_.size(); }

  // What to read of the file next, at most `bytes_max` (not 0). REQUIRES: !done().
  ByteRange NextRead(uint64_t bytes_max) const;
  // The next piece of the body, of `bytes`, which are `read` of the file: NextRead's, or more.
  // kCorrupt when they are fewer, or do not hold what comes next: the body cannot go on then.
  Result<Buffer> Take(const ByteRange& read, Bytes bytes);

 private:
  struct Part {
    ByteRange range;
    std::string head;  // with the line that parts it from the one before
  };
  std::vector<Part> parts_;
  std::string end_;
  std::string boundary_;
  size_t part_ = 0;         // the next one to be sent, or to be sent on
  uint64_t part_sent_ = 0;  // bytes of it that were
};

}  // namespace hayloft
