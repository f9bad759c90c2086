// A client of a Hayloft cluster: stores, reads and deletes images.
//
//   std::unique_ptr<hayloft::Client> client;
//   hayloft::Options options;
//   options.cluster = "127.0.0.1:9001";
//   options.key_file = "run/secret";
//   hayloft::Status status = hayloft::Client::Open(options, &client);
//   hayloft::Stored stored;
//   if (status.ok()) status = client->Put(bytes, {}, &stored);
//
// Threads: all methods may be called from any thread at the same time. A client has one thread of
// its own, which does its I/O and calls your callbacks; 10,000 calls may be in flight on it. It
// takes none of the process's signals. Hashing and compression of a put happen in the thread that
// calls. One client a process is enough; several don't disturb each other.
//
// Callbacks: each is called exactly once, on the client's thread, never from inside the call that
// took it (but for the two cases below). They must not block (all other calls wait meanwhile), must
// not throw (the process ends: std::terminate), and may begin further asynchronous calls; a
// blocking call made in one is answered kInvalid. A callback may destroy the client, or be its last
// owner.
//
// Errors: no method throws. An out-parameter is set only when the status is ok.
//
// Memory: a call for which there is none is answered kBusy, if need be by its callback from inside
// the call. The client's thread survives that there is none for an image that comes; small objects
// of its own it must have (std::bad_alloc ends the process there).
//
// Deadlines: every call ends at its deadline at the latest, blocking ones too; it counts from the
// call. Until then the client itself tries other replicas, blocks and disks.
//
// Forks: a client belongs to the process that opened it. In a child all its calls are answered
// kInvalid, callbacks from inside the call, and its destructor does nothing; the child may open a
// client of its own.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "hayloft/export.h"
#include "hayloft/image.h"
#include "hayloft/options.h"
#include "hayloft/status.h"

namespace hayloft {

struct SdkClient;  // not for you

class HAYLOFT_EXPORT Client {
 public:
  using PutCallback = std::function<void(const Status&, Stored&&)>;
  using GetCallback = std::function<void(const Status&, Image&&)>;
  using GetIntoCallback = std::function<void(const Status&, const Filled&)>;
  using StatCallback = std::function<void(const Status&, ImageInfo&&)>;
  using DeleteCallback = std::function<void(const Status&)>;
  // Writes up to `capacity` bytes to `buffer`, sets *filled to how many, 0 at the end; false: give
  // up.
  using Reader = std::function<bool(char* buffer, size_t capacity, size_t* filled)>;
  // Takes the next run of bytes; false: give up.
  using Writer = std::function<bool(std::string_view run)>;

  // kConfig: `options` or the key file are not usable. Nothing is sent: whether the cluster is
  // there shows at the first call.
  static Status Open(const Options& options, std::unique_ptr<Client>* client);
  // Callbacks of what is in flight are called with kCancelled before this returns, in the thread
  // that destroys; what they begin is cancelled, too. In a callback: after it has returned, on the
  // client's thread, which then ends; they must not use the client any more.
  // REQUIRES: no other thread is in a method.
  ~Client();
  Client(const Client&) = delete;  // it owns a thread
  Client& operator=(const Client&) = delete;

  // --- One image, blocking ---

  // Ok: synced to disk on all replicas. kTimeout, kUnavailable: it may have been stored as well, as
  // an image whose id nobody knows; putting it again is safe and stores another one, unless there
  // is a directory. 1 byte to 60 MiB. Images are never overwritten. Equal ones, with equal types
  // and fields, share an id where there is a directory, and have one of their own each where not.
  Status Put(std::string_view bytes, const PutOptions& options, Stored* stored);
  Status Get(std::string_view id, const GetOptions& options, Image* image);
  // Up to `capacity` bytes into your buffer, from options.offset on, like pread. The buffer's
  // contents are undefined after an error.
  Status GetInto(std::string_view id, const GetOptions& options, char* buffer, size_t capacity,
                 Filled* filled);
  // Also of a deleted image, as long as it isn't purged.
  Status Stat(std::string_view id, const StatOptions& options, ImageInfo* info);
  // Ok also when it is so already. Ok: no replica that serves will answer otherwise. Needs no
  // token: see DeleteOptions. With a directory an image goes with the last put that it came by.
  Status Delete(std::string_view id, const DeleteOptions& options);
  // kNotFound or kDeleted when the trash time has passed.
  Status Undelete(std::string_view id, const DeleteOptions& options);

  // --- One image, asynchronous ---
  // What is passed in is copied before the call returns, but for GetIntoAsync's buffer, which must
  // stay until its callback.

  void PutAsync(std::string_view bytes, const PutOptions& options, PutCallback done);
  void GetAsync(std::string_view id, const GetOptions& options, GetCallback done);
  void GetIntoAsync(std::string_view id, const GetOptions& options, char* buffer, size_t capacity,
                    GetIntoCallback done);
  void StatAsync(std::string_view id, const StatOptions& options, StatCallback done);
  void DeleteAsync(std::string_view id, const DeleteOptions& options, DeleteCallback done);
  void UndeleteAsync(std::string_view id, const DeleteOptions& options, DeleteCallback done);

  // --- Many images in one round, blocking ---
  // One result each, in order; returns the first status that isn't ok. Several times as fast as one
  // call after the other: what is sent together is synced together. The deadline is for each image,
  // from when it is sent: a batch, of any length, goes out in windows of 256 images and 64 MiB.

  Status PutBatch(const std::vector<std::string_view>& images, const PutOptions& options,
                  std::vector<PutResult>* results);
  Status GetBatch(const std::vector<std::string>& ids, const GetOptions& options,
                  std::vector<GetResult>* results);

  // --- Large images, blocking; your callback is called in your thread and may block or throw
  // (kCancelled) ---

  // The image is gathered in memory (once, as it must be placed whole), hashed as it comes. The
  // deadline counts from the reader's end, as it may take its time.
  Status PutStream(const Reader& reader, const PutOptions& options, Stored* stored);
  // In runs of at most 1 MiB, the next one being read while you write. The deadline is for each
  // run. After an error you have got a part.
  Status GetStream(std::string_view id, const GetOptions& options, const Writer& writer);

  // --- Others ---

  // Whether `token` is the delete token of this image. False without a key file.
  bool CheckDeleteToken(std::string_view id, std::string_view token) const;

 private:
  explicit Client(std::unique_ptr<SdkClient> own);
  std::unique_ptr<SdkClient> own_;
};

// --- Of the process ---

enum class LogSeverity : int { kDebug = 0, kInfo = 1, kWarn = 2, kError = 3 };
using Logger = void (*)(LogSeverity severity, std::string_view line);

// Warnings of all clients ("event key=value ..."), called from their threads; must not throw. The
// library is silent unless this is called, before the first Open.
HAYLOFT_EXPORT void SetLogger(Logger logger);

// "0.1.0"
HAYLOFT_EXPORT const char* Version();

}  // namespace hayloft
