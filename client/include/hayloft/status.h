// How a call of the SDK says what became of it.
//
//   hayloft::Status status = client->Get(id, {}, &image);
//   if (status.IsNotFound()) ...                // a fact: no retry changes it
//   if (!status.ok() && status.MayRetry()) ...  // later, or with a longer deadline
//
// Threads: a Status is a value; several threads may read one.
#pragma once

#include <string>
#include <string_view>

#include "hayloft/export.h"

namespace hayloft {

// Numbers are never reused; a later version may add some. Treat one that you don't know by
// Status::MayRetry.
enum class Code : int {
  kOk = 0,
  // Facts. The same call gets the same answer.
  // Malformed: an empty image, a bad id or content type, a buffer without room; a blocking call in
  // a callback; a client of before a fork.
  kInvalid = 1,
  kNotFound = 2,  // no such image, or the secret part of its id is wrong; or it was purged
  kDeleted = 3,   // deleted; Undelete brings it back until the trash time has passed
  kRange = 4,     // the range begins at or behind the image's end
  kTooLarge = 5,  // over 60 MiB or Options::put_bytes_max, or over 8 KiB of metadata
  kDenied = 6,    // the delete token is not this image's, or the cluster does not accept the key
  kConfig = 7,    // Open: an option or the key file is not usable. Delete, Undelete: the cluster
                  // has a directory, and `options` don't name it
  // The client or the cluster can't do it now.
  // Too much in flight, here or there, or no memory or descriptors here: send less, then again.
  kBusy = 8,
  kTimeout = 9,       // the deadline passed. A put may have been stored all the same: see Put
  kUnavailable = 10,  // nobody who could answer was reached before the deadline
  kFull = 11,         // no disk takes more
  kDamaged = 12,      // no intact copy could be read now; others may come back
  // Neither.
  kCancelled = 13,  // given up: by the client's destructor, or by your reader or writer
  kInternal = 14,   // a bug, or an answer that this version does not understand
};

class [[nodiscard]] HAYLOFT_EXPORT Status {
 public:
  Status() = default;  // kOk
  Status(Code code, std::string message);

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  // The same call may succeed later, or with a longer deadline. The client has then already tried
  // other replicas and other disks until the deadline, so pause before you do (a second or more).
  bool MayRetry() const;
  bool IsNotFound() const { return code_ == Code::kNotFound; }
  bool IsDeleted() const { return code_ == Code::kDeleted; }

  // "not_found", "busy"...: for logs and metrics; stable.
  std::string_view name() const;
  // For people; not stable. Empty if ok.
  const std::string& message() const { return message_; }
  std::string ToString() const;  // "not_found: no such file..."

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

}  // namespace hayloft
