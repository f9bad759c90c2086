// What a client answers with: values, which outlive the client.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "hayloft/export.h"
#include "hayloft/status.h"

namespace hayloft {

// An image that was stored: synced to disk on each of its replicas.
struct Stored {
  std::string id;  // 18 characters of [A-Za-z0-9_-]; a gateway serves it at /ID
  std::string content_type;
  uint64_t size = 0;        // bytes
  uint64_t created_ms = 0;  // since 1970
  std::string sha1;         // of the bytes, in hex
  // What an HTTP client must show to delete the image. Empty without a key file.
  std::string delete_token;
  bool duplicate = false;  // it was there already: nothing was stored, the token is another one
  bool unchecked = false;  // the directory did not answer: it may be stored twice
};

// What is known of an image beside its bytes.
struct ImageInfo {
  std::string content_type;
  uint64_t size = 0;        // of the whole image, bytes
  uint64_t created_ms = 0;  // since 1970
  std::string sha1;         // of the whole image, in hex
  std::string sha256;       // likewise
  std::map<std::string, std::string> fields;
  bool deleted = false;
  uint64_t changed_ms = 0;  // of the last delete or undelete; 0: never, or not asked for (a get)
};

// The bytes of an image, or of a part of it. Copies share them.
class HAYLOFT_EXPORT Image {
 public:
  Image() = default;                                 // empty
  std::string_view bytes() const { return bytes_; }  // valid as long as any copy of this lives
  uint64_t offset() const { return offset_; }        // of the first byte in the whole image
  uint64_t image_size() const { return image_size_; }
  ImageInfo info() const;  // taken apart at each call

 private:
  friend struct ImageMaker;
  struct Rep;
  std::shared_ptr<const Rep> rep_;
  std::string_view bytes_;
  uint64_t offset_ = 0;
  uint64_t image_size_ = 0;
};

// What GetInto did.
struct Filled {
  size_t bytes = 0;         // written to the buffer's beginning
  uint64_t image_size = 0;  // of the whole image
};

// One of a batch.
struct PutResult {
  Status status;
  Stored stored;  // if ok
};
struct GetResult {
  Status status;
  Image image;  // if ok
};

}  // namespace hayloft
