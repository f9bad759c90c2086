// The bytes of an image on their way from a socket to a disk and back, without a copy.
//
// Filled by whoever made it, then only read: by then several may hold it (the attempts of one
// upload, the replicas that it goes to, answers to several readers), on any thread.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "common/check.h"
#include "common/le.h"

namespace hayloft {

class Buffer {
 public:
  Buffer() = default;
  // Contents are undefined. Callers have compared `size` with its bound before.
  explicit Buffer(size_t size)
      : data_(size > 0 ? std::make_shared_for_overwrite<uint8_t[]>(size) : nullptr), size_(size) {}
  static Buffer CopyOf(Bytes bytes) {
    Buffer buffer(bytes.size());
    if (!bytes.empty()) std::memcpy(buffer.mutable_bytes().data(), bytes.data(), bytes.size());
    return buffer;
  }
  // Bytes in somebody else's memory, a cache's for one: `bytes` says how that gets them back when
  // the last holder lets go, on whichever thread.
  static Buffer Over(std::shared_ptr<uint8_t[]> bytes, size_t size) {
    ASSERT(bytes != nullptr || size == 0);
    Buffer buffer;
    buffer.data_ = std::move(bytes);
    buffer.size_ = size;
    return buffer;
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::move(other.data_)),
        begin_(std::exchange(other.begin_, 0)),
        size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    data_ = std::move(other.data_);
    begin_ = std::exchange(other.begin_, 0);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }
  // The same bytes, held once more. Named, because a copy by accident would hide a lifetime.
  Buffer Share() const {
    Buffer other;
    other.data_ = data_;
    other.begin_ = begin_;
    other.size_ = size_;
    return other;
  }
  const uint8_t* data() const { return data_.get() + begin_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  Bytes bytes() const { return {data(), size_}; }
  // Somebody else holds them, too.
  bool shared() const { return data_.use_count() > 1; }
  // Only while nobody else holds the bytes.
  MutableBytes mutable_bytes() {
    ASSERT(data_.use_count() <= 1);
    return {data_.get() + begin_, size_};
  }
  // Keeps only [begin, begin + size) of what it holds; nothing is copied or freed.
  void Narrow(size_t begin, size_t size) {
    ASSERT(begin <= size_);
    ASSERT(size <= size_ - begin);
    begin_ += begin;
    size_ = size;
  }

 private:
  std::shared_ptr<uint8_t[]> data_;
  size_t begin_ = 0;
  size_t size_ = 0;
};

}  // namespace hayloft
