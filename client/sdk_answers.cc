#include "client/sdk_answers.h"

#include <algorithm>
#include <utility>

namespace hayloft {

namespace {

Code CodeOf(Err err) {
  switch (err) {
    case Err::kOk:
      return Code::kOk;
    case Err::kInvalid:
      return Code::kInvalid;
    case Err::kNotFound:
      return Code::kNotFound;
    case Err::kGone:
      return Code::kDeleted;
    case Err::kTooLarge:
      return Code::kTooLarge;
    case Err::kRange:
      return Code::kRange;
    case Err::kDenied:
    case Err::kUnauthorized:
      return Code::kDenied;
    case Err::kConfig:
      return Code::kConfig;
    case Err::kBusy:
      return Code::kBusy;
    case Err::kTimeout:
      return Code::kTimeout;
    case Err::kUnavailable:
    case Err::kClosed:
    case Err::kStaleEpoch:
    case Err::kNotActive:
    case Err::kNoBlock:
    case Err::kNotServing:
      return Code::kUnavailable;
    case Err::kFull:
    case Err::kReadOnly:
      return Code::kFull;
    case Err::kCorrupt:
    case Err::kIo:
    case Err::kLost:
      return Code::kDamaged;
    case Err::kCancelled:
      return Code::kCancelled;
    case Err::kInternal:
    case Err::kUnsupported:
    case Err::kExists:
      return Code::kInternal;
  }
  return Code::kInternal;
}

bool IsEncoded(const NeedleHead& head) {
  return head.header.encoding == static_cast<uint8_t>(Encoding::kZstd);
}

}  // namespace

Status StatusOf(Err err) {
  if (err == Err::kOk) return {};
  return {CodeOf(err), std::string(ErrName(err)) + ": " + std::string(ErrMeaning(err))};
}

Status::Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

bool Status::MayRetry() const {
  return code_ == Code::kBusy || code_ == Code::kTimeout || code_ == Code::kUnavailable ||
         code_ == Code::kFull || code_ == Code::kDamaged;
}

std::string_view Status::name() const {
  static constexpr std::string_view kNames[] = {
      "ok",     "invalid", "not_found", "deleted",     "range", "too_large", "denied",
      "config", "busy",    "timeout",   "unavailable", "full",  "damaged",   "cancelled"};
  const auto number = static_cast<size_t>(code_);
  return number < std::size(kNames) ? kNames[number] : "internal";
}

std::string Status::ToString() const {
  std::string text(name());
  return message_.empty() ? text : text + " (" + message_ + ")";
}

struct Image::Rep {
  std::string head;
  Buffer payload;
  bool deleted = false;
};

Result<Image> ImageMaker::Make(GetDone&& done, const GetOptions& wanted) {
  auto rep = std::make_shared<Image::Rep>();
  rep->head = std::move(done.head);
  rep->payload = std::move(done.payload);
  rep->deleted = done.delete_counter % 2 == 1;
  TRY_ASSIGN(const NeedleHead head, ParseNeedleHead(AsBytes(rep->head)));
  const uint64_t size = head.header.raw_size;
  if (wanted.offset >= size) return Err::kRange;
  const uint64_t left = size - wanted.offset;
  const uint64_t length = wanted.length == 0 ? left : std::min(wanted.length, left);
  uint64_t begins = done.offset;
  if (IsEncoded(head)) {
    TRY_ASSIGN(rep->payload, Decompress(rep->payload.bytes(), size));
    begins = 0;
  }
  if (begins > wanted.offset || wanted.offset - begins > rep->payload.size()) return Err::kCorrupt;
  const uint64_t skip = wanted.offset - begins;
  if (length > rep->payload.size() - skip) return Err::kCorrupt;
  Image image;
  image.bytes_ = AsText(rep->payload.bytes().subspan(skip, length));
  image.offset_ = wanted.offset;
  image.image_size_ = size;
  image.rep_ = std::move(rep);
  return image;
}

ImageInfo Image::info() const {
  if (rep_ == nullptr) return {};
  Result<ImageInfo> info = InfoOf(AsBytes(rep_->head));
  if (!info.ok()) return {};  // the head was taken apart before; only its metadata can be odd
  info->deleted = rep_->deleted;
  return std::move(info).value();
}

Result<ImageInfo> InfoOf(Bytes head_bytes) {
  TRY_ASSIGN(const NeedleHead head, ParseNeedleHead(head_bytes));
  TRY_ASSIGN(Metadata metadata, ParseMetadata(head.metadata));
  ImageInfo info;
  info.content_type = std::move(metadata.content_type);
  info.size = head.header.raw_size;
  info.created_ms = head.header.created_ms;
  info.sha1 = ToHex(metadata.sha1);
  info.sha256 = ToHex(metadata.sha256);
  info.fields = std::move(metadata.fields);
  return info;
}

Result<ImageInfo> InfoOf(const StatDone& done) {
  if (done.err != Err::kOk) return done.err;
  if (done.purged) return Err::kNotFound;
  TRY_ASSIGN(ImageInfo info, InfoOf(AsBytes(done.head)));
  info.deleted = done.delete_counter % 2 == 1;
  info.changed_ms = done.changed_ms;
  return info;
}

}  // namespace hayloft
