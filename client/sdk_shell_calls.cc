// The SDK's methods: one image, many, and streams.
#include <algorithm>
#include <cstring>

#include "client/sdk_shell.h"
#include "common/limits.h"

namespace hayloft {

namespace {

constexpr size_t kRunBytes = 1 << 20;
constexpr size_t kGatherBytesFirst = 256 << 10;
// Of a batch: sent, and not answered yet. A round is what leaves together; enough for large
// commits, and the next one is hashed meanwhile.
constexpr size_t kBatchRound = 64;
constexpr uint64_t kRoundBytes = 4 << 20;  // large images gain nothing by one commit
constexpr size_t kBatchCallsMax = 256;
constexpr uint64_t kBatchBytesMax = 64 << 20;

Hasher* HashOf(std::string_view bytes) {
  static thread_local Hasher hasher;  // making one costs more than hashing a small image
  hasher.Reset();
  hasher.Update(AsBytes(bytes));
  return &hasher;
}

struct Call {
  std::string_view bytes;
  uint64_t batch = 0;
};
SdkClient::Task CopyingPutTask(SdkClient* client, const Call& put, const PutOptions& options,
                               Client::PutCallback done) {
  if (put.bytes.size() > kFileBytesMax) {
    return client->FailedPut(Err::kTooLarge, std::move(done));
  }
  return client->PutTask({.bytes = Buffer::CopyOf(AsBytes(put.bytes)),
                          .hasher = HashOf(put.bytes),
                          .batch = put.batch},
                         options, std::move(done));
}

// Counts the calls of a batch.
class Window {
 public:
  void Enter(uint64_t bytes) {
    std::unique_lock<std::mutex> lock(mutex_);
    room_wanted_ = true;
    changed_.wait(lock, [&] {
      return calls_ == 0 || (calls_ < kBatchCallsMax && bytes_ + bytes <= kBatchBytesMax);
    });
    room_wanted_ = false;
    ++calls_;
    bytes_ += bytes;
  }
  bool WouldWait(uint64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return calls_ > 0 && (calls_ >= kBatchCallsMax || bytes_ + bytes > kBatchBytesMax);
  }
  void Leave(uint64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    --calls_;
    bytes_ -= bytes;
    // Not at each answer of a batch: a thread that wakes in vain takes the loop's processor.
    if (calls_ == 0 || room_wanted_) changed_.notify_one();
  }
  void WaitForAll() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return calls_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t calls_ = 0;
  uint64_t bytes_ = 0;
  bool room_wanted_ = false;
};

// Tasks of a batch that leave together.
class Round {
 public:
  Round(SdkClient* client, Window* window) : client_(client), window_(window) {}
  ~Round() {
    tasks_.clear();  // none is left, unless memory ran out
    window_->WaitForAll();
  }
  Round(const Round&) = delete;  // its tasks would be answered twice
  Round& operator=(const Round&) = delete;

  // The number of what is added next: a round's puts share a block's commits.
  uint64_t batch() const { return batch_; }
  void Add(uint64_t bytes, const std::function<SdkClient::Task()>& make) {
    SdkClient::Task task = make();
    if (window_->WouldWait(bytes)) Send();
    window_->Enter(bytes);
    tasks_.push_back(std::move(task));
    bytes_ += bytes;
    if (tasks_.size() == kBatchRound || bytes_ >= kRoundBytes) Send();
  }
  void Finish() {
    Send();
    window_->WaitForAll();
  }

 private:
  void Send() {
    if (tasks_.empty()) return;
    batch_ = ++client_->batches;
    bytes_ = 0;
    client_->Post([tasks = std::exchange(tasks_, {})] {
      for (const SdkClient::Task& task : tasks) task();
    });
  }
  SdkClient* client_;
  Window* window_;
  uint64_t batch_ = ++client_->batches;
  uint64_t bytes_ = 0;  // of tasks_
  std::vector<SdkClient::Task> tasks_;
};

template <typename Results>
Status FirstFailure(const Results& results) {
  for (const auto& result : results) {
    if (!result.status.ok()) return result.status;
  }
  return {};
}

// What is still read ahead when a writer gives up must outlive this call.
using Run = std::shared_ptr<SdkWaiter<Image>>;
Run BeginRun(SdkClient* client, std::string_view id, const GetOptions& options) {
  auto run = std::make_shared<SdkWaiter<Image>>();
  client->Post(client->GetTask(id, options,
                               [run, tell = run->Callback()](const Status& status, Image&& image) {
                                 tell(status, std::move(image));
                               }));
  return run;
}

uint64_t EndOf(const GetOptions& options, uint64_t image_size) {
  const uint64_t left = image_size - options.offset;
  return options.offset + (options.length == 0 ? left : std::min(options.length, left));
}

}  // namespace

// --- One image, asynchronous ---

void Client::PutAsync(std::string_view bytes, const PutOptions& options, PutCallback done) {
  own_->Post(CopyingPutTask(own_.get(), {.bytes = bytes}, options, std::move(done)));
}

void Client::GetAsync(std::string_view id, const GetOptions& options, GetCallback done) {
  own_->Post(own_->GetTask(id, options, std::move(done)));
}

void Client::GetIntoAsync(std::string_view id, const GetOptions& options, char* buffer,
                          size_t capacity, GetIntoCallback done) {
  GetOptions part = options;
  part.length = options.length == 0 ? capacity : std::min<uint64_t>(options.length, capacity);
  const bool no_room = part.length == 0;
  if (no_room) part.length = 1;
  own_->Post(own_->GetTask(
      id, part, [buffer, no_room, done = std::move(done)](const Status& status, Image&& image) {
        if (no_room) return done({Code::kInvalid, "the buffer has no room"}, Filled());
        if (!status.ok()) return done(status, Filled());
        std::memcpy(buffer, image.bytes().data(), image.bytes().size());
        done(status, Filled{image.bytes().size(), image.image_size()});
      }));
}

void Client::StatAsync(std::string_view id, const StatOptions& options, StatCallback done) {
  own_->Post(own_->StatTask(id, options, std::move(done)));
}

void Client::DeleteAsync(std::string_view id, const DeleteOptions& options, DeleteCallback done) {
  own_->Post(own_->DeleteTask(
      id, options, /*undelete=*/false,
      [done = std::move(done)](const Status& status, Nothing&&) { done(status); }));
}

void Client::UndeleteAsync(std::string_view id, const DeleteOptions& options, DeleteCallback done) {
  own_->Post(own_->DeleteTask(
      id, options, /*undelete=*/true,
      [done = std::move(done)](const Status& status, Nothing&&) { done(status); }));
}

// --- One image, blocking ---

Status Client::Put(std::string_view bytes, const PutOptions& options, Stored* stored) {
  if (own_->InCallback()) return BlockingInCallback();
  return SdkGuarded([&] {
    SdkWaiter<Stored> waiter;
    PutAsync(bytes, options, waiter.Callback());
    return waiter.Take(stored);
  });
}

Status Client::Get(std::string_view id, const GetOptions& options, Image* image) {
  if (own_->InCallback()) return BlockingInCallback();
  return SdkGuarded([&] {
    SdkWaiter<Image> waiter;
    GetAsync(id, options, waiter.Callback());
    return waiter.Take(image);
  });
}

Status Client::GetInto(std::string_view id, const GetOptions& options, char* buffer,
                       size_t capacity, Filled* filled) {
  if (own_->InCallback()) return BlockingInCallback();
  return SdkGuarded([&] {
    SdkWaiter<Filled> waiter;
    GetIntoAsync(id, options, buffer, capacity,
                 [tell = waiter.Callback()](const Status& status, const Filled& got) {
                   tell(status, Filled(got));
                 });
    return waiter.Take(filled);
  });
}

Status Client::Stat(std::string_view id, const StatOptions& options, ImageInfo* info) {
  if (own_->InCallback()) return BlockingInCallback();
  return SdkGuarded([&] {
    SdkWaiter<ImageInfo> waiter;
    StatAsync(id, options, waiter.Callback());
    return waiter.Take(info);
  });
}

Status Client::Delete(std::string_view id, const DeleteOptions& options) {
  if (own_->InCallback()) return BlockingInCallback();
  return SdkGuarded([&] {
    SdkWaiter<Nothing> waiter;
    own_->Post(own_->DeleteTask(id, options, /*undelete=*/false, waiter.Callback()));
    Nothing nothing;
    return waiter.Take(&nothing);
  });
}

Status Client::Undelete(std::string_view id, const DeleteOptions& options) {
  if (own_->InCallback()) return BlockingInCallback();
  return SdkGuarded([&] {
    SdkWaiter<Nothing> waiter;
    own_->Post(own_->DeleteTask(id, options, /*undelete=*/true, waiter.Callback()));
    Nothing nothing;
    return waiter.Take(&nothing);
  });
}

// --- Many images in one round ---

Status Client::PutBatch(const std::vector<std::string_view>& images, const PutOptions& options,
                        std::vector<PutResult>* results) {
  if (own_->InCallback()) return BlockingInCallback();
  return SdkGuarded([&] {
    results->assign(images.size(), PutResult());
    Window window;
    Round round(own_.get(), &window);
    for (size_t i = 0; i < images.size(); ++i) {
      const uint64_t bytes = images[i].size();
      round.Add(bytes, [&] {
        return CopyingPutTask(
            own_.get(), {.bytes = images[i], .batch = round.batch()}, options,
            [&window, bytes, result = &(*results)[i]](const Status& status, Stored&& stored) {
              *result = {status, std::move(stored)};
              window.Leave(bytes);
            });
      });
    }
    round.Finish();
    return FirstFailure(*results);
  });
}

Status Client::GetBatch(const std::vector<std::string>& ids, const GetOptions& options,
                        std::vector<GetResult>* results) {
  if (own_->InCallback()) return BlockingInCallback();
  return SdkGuarded([&] {
    results->assign(ids.size(), GetResult());
    Window window;
    Round round(own_.get(), &window);
    for (size_t i = 0; i < ids.size(); ++i) {
      round.Add(0, [&] {
        return own_->GetTask(
            ids[i], options,
            [&window, result = &(*results)[i]](const Status& status, Image&& image) {
              *result = {status, std::move(image)};
              window.Leave(0);
            });
      });
    }
    round.Finish();
    return FirstFailure(*results);
  });
}

// --- Streams ---

Status Client::PutStream(const Reader& reader, const PutOptions& options, Stored* stored) {
  if (own_->InCallback()) return BlockingInCallback();
  return SdkGuarded([&]() -> Status {
    Hasher hasher;
    hasher.Reset();
    Buffer gathered(kGatherBytesFirst);
    size_t size = 0;
    while (true) {
      if (size == gathered.size()) {
        if (size == kFileBytesMax) {  // full, but is there more?
          char more = 0;
          size_t filled = 0;
          if (!reader(&more, 1, &filled)) return {Code::kCancelled, "the reader gave up"};
          if (filled > 0) return StatusOf(Err::kTooLarge);
          break;
        }
        Buffer larger(std::min<size_t>(size * 2, kFileBytesMax));
        std::memcpy(larger.mutable_bytes().data(), gathered.data(), size);
        gathered = std::move(larger);
      }
      const MutableBytes room = gathered.mutable_bytes().subspan(size);
      size_t filled = 0;
      const size_t capacity = std::min(room.size(), kRunBytes);
      if (!reader(reinterpret_cast<char*>(room.data()), capacity, &filled)) {
        return {Code::kCancelled, "the reader gave up"};
      }
      if (filled > capacity) return {Code::kInvalid, "the reader filled more than there was room"};
      if (filled == 0) break;
      hasher.Update(room.first(filled));
      size += filled;
    }
    gathered.Narrow(0, size);
    SdkWaiter<Stored> waiter;
    own_->Post(own_->PutTask({.bytes = std::move(gathered), .hasher = &hasher}, options,
                             waiter.Callback()));
    return waiter.Take(stored);
  });
}

Status Client::GetStream(std::string_view id, const GetOptions& options, const Writer& writer) {
  if (own_->InCallback()) return BlockingInCallback();
  return SdkGuarded([&]() -> Status {
    GetOptions part = options;
    part.length = options.length == 0 ? kRunBytes : std::min<uint64_t>(options.length, kRunBytes);
    Run run = BeginRun(own_.get(), id, part);
    while (true) {
      Image image;
      if (Status status = run->Take(&image); !status.ok()) return status;
      const uint64_t end = EndOf(options, image.image_size());
      part.offset += image.bytes().size();
      const bool more = part.offset < end;
      if (more) {
        part.length = std::min<uint64_t>(end - part.offset, kRunBytes);
        run = BeginRun(own_.get(), id, part);
      }
      if (!writer(image.bytes())) return {Code::kCancelled, "the writer gave up"};
      if (!more) return {};
    }
  });
}

}  // namespace hayloft
