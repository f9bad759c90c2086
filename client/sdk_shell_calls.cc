// The SDK's methods: one image, many, and streams.
#include <algorithm>
#include <cstring>

#include "client/sdk_shell.h"
#include "common/io/system_clock.h"
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

// Counts the calls of a batch, each from before it is made.
class Window {
 public:
  explicit Window(const Options& options)
      : calls_max_(std::min<size_t>(kBatchCallsMax, options.in_flight_max)),
        bytes_max_(std::min(kBatchBytesMax, options.put_bytes_max)) {}

  void Enter(uint64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++calls_;
    bytes_ += bytes;
  }
  // Whether the last that entered is one too many.
  bool IsOver() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return !HasRoom();
  }
  void WaitForRoom() {
    std::unique_lock<std::mutex> lock(mutex_);
    room_wanted_ = true;
    changed_.wait(lock, [this] { return HasRoom(); });
    room_wanted_ = false;
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
  bool HasRoom() const { return calls_ <= 1 || (calls_ <= calls_max_ && bytes_ <= bytes_max_); }

  const size_t calls_max_;
  const uint64_t bytes_max_;
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
  // `make` gives a task that leaves the window by `bytes`, or has left it.
  void Add(uint64_t bytes, const std::function<SdkClient::Task()>& make) {
    window_->Enter(bytes);
    if (window_->IsOver()) Send();
    window_->WaitForRoom();
    SdkClient::Task task = make();
    if (task == nullptr) return;
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

// An image that a reader gives piece by piece.
class Gathered {
 public:
  explicit Gathered(SdkClient* client)
      : client_(client), bytes_max_(std::min(kFileBytesMax, client->options.put_bytes_max)) {}
  ~Gathered() { client_->put_bytes.fetch_sub(bytes_.size()); }
  Gathered(const Gathered&) = delete;  // its bytes are counted once

  Status ReadAll(const Client::Reader& reader) {
    hasher_.Reset();
    while (true) {
      if (size_ == bytes_max_) return CheckEnd(reader);
      if (size_ == bytes_.size() && !Grow()) return {Code::kBusy, "too many bytes on their way"};
      const MutableBytes room = bytes_.mutable_bytes().subspan(size_);
      const size_t capacity = std::min(room.size(), kRunBytes);
      size_t filled = 0;
      if (!reader(reinterpret_cast<char*>(room.data()), capacity, &filled)) return GaveUp();
      if (filled > capacity) return {Code::kInvalid, "the reader filled more than there was room"};
      if (filled == 0) return {};
      hasher_.Update(room.first(filled));
      size_ += filled;
    }
  }
  SdkClient::Raw Take() {
    client_->put_bytes.fetch_sub(bytes_.size());  // a put counts its own
    bytes_.Narrow(0, size_);
    return {.bytes = std::exchange(bytes_, Buffer()),
            .hasher = &hasher_,
            .begun_ms = SystemMonotonicMs()};
  }

 private:
  static Status GaveUp() { return {Code::kCancelled, "the reader gave up"}; }
  // It is full, but is there more?
  static Status CheckEnd(const Client::Reader& reader) {
    char more = 0;
    size_t filled = 0;
    if (!reader(&more, 1, &filled)) return GaveUp();
    return filled > 0 ? StatusOf(Err::kTooLarge) : Status();
  }
  bool Grow() {
    const uint64_t wanted = size_ == 0 ? kGatherBytesFirst : size_ * 2;
    Buffer larger(std::min(wanted, bytes_max_));
    const uint64_t more = larger.size() - bytes_.size();
    const bool fits = client_->put_bytes.fetch_add(more) + more <= client_->options.put_bytes_max;
    if (size_ > 0) std::memcpy(larger.mutable_bytes().data(), bytes_.data(), size_);
    bytes_ = std::move(larger);
    return fits;
  }

  SdkClient* client_;
  const uint64_t bytes_max_;
  Hasher hasher_;
  Buffer bytes_;     // counted in put_bytes
  size_t size_ = 0;  // of what was read
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
  SdkClient::Done<Image> done = [run](const Status& status, Image&& image) {
    run->Tell(status, std::move(image));
  };
  client->Post(client->GetTask(id, options, SystemMonotonicMs(), std::move(done)));
  return run;
}

uint64_t EndOf(const GetOptions& options, uint64_t image_size) {
  const uint64_t left = image_size - options.offset;
  return options.offset + (options.length == 0 ? left : std::min(options.length, left));
}

}  // namespace

// --- One image, asynchronous ---

void Client::PutAsync(std::string_view bytes, const PutOptions& options, PutCallback done) {
  const uint64_t begun_ms = SystemMonotonicMs();
  own_->Post(
      own_->CopyingPutTask(bytes, {.bytes = {}, .begun_ms = begun_ms}, options, std::move(done)));
}

void Client::GetAsync(std::string_view id, const GetOptions& options, GetCallback done) {
  own_->Post(own_->GetTask(id, options, SystemMonotonicMs(), std::move(done)));
}

void Client::GetIntoAsync(std::string_view id, const GetOptions& options, char* buffer,
                          size_t capacity, GetIntoCallback done) {
  GetOptions part = options;
  part.length = options.length == 0 ? capacity : std::min<uint64_t>(options.length, capacity);
  auto kept =
      SdkClient::Kept<Image>([buffer, done = std::move(done)](const Status& status, Image&& image) {
        if (!status.ok()) return done(status, Filled());
        std::memcpy(buffer, image.bytes().data(), image.bytes().size());
        done(status, Filled{image.bytes().size(), image.image_size()});
      });
  if (part.length == 0) {
    static const Status kNoRoom{Code::kInvalid, "the buffer has no room"};
    return own_->Post(own_->FailedGet(kNoRoom, std::move(kept)));
  }
  own_->Post(own_->GetTask(id, part, SystemMonotonicMs(), std::move(kept)));
}

void Client::StatAsync(std::string_view id, const StatOptions& options, StatCallback done) {
  own_->Post(own_->StatTask(id, options, std::move(done)));
}

void Client::DeleteAsync(std::string_view id, const DeleteOptions& options, DeleteCallback done) {
  auto kept = SdkClient::Kept<Nothing>(
      [done = std::move(done)](const Status& status, Nothing&&) { done(status); });
  own_->Post(own_->DeleteTask(id, options, /*undelete=*/false, std::move(kept)));
}

void Client::UndeleteAsync(std::string_view id, const DeleteOptions& options, DeleteCallback done) {
  auto kept = SdkClient::Kept<Nothing>(
      [done = std::move(done)](const Status& status, Nothing&&) { done(status); });
  own_->Post(own_->DeleteTask(id, options, /*undelete=*/true, std::move(kept)));
}

// --- One image, blocking ---

Status Client::Put(std::string_view bytes, const PutOptions& options, Stored* stored) {
  if (const Status may = own_->MayBlock(); !may.ok()) return may;
  return SdkGuarded([&] {
    SdkWaiter<Stored> waiter;
    PutAsync(bytes, options, waiter.Callback());
    return waiter.Take(stored);
  });
}

Status Client::Get(std::string_view id, const GetOptions& options, Image* image) {
  if (const Status may = own_->MayBlock(); !may.ok()) return may;
  return SdkGuarded([&] {
    SdkWaiter<Image> waiter;
    GetAsync(id, options, waiter.Callback());
    return waiter.Take(image);
  });
}

Status Client::GetInto(std::string_view id, const GetOptions& options, char* buffer,
                       size_t capacity, Filled* filled) {
  if (const Status may = own_->MayBlock(); !may.ok()) return may;
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
  if (const Status may = own_->MayBlock(); !may.ok()) return may;
  return SdkGuarded([&] {
    SdkWaiter<ImageInfo> waiter;
    StatAsync(id, options, waiter.Callback());
    return waiter.Take(info);
  });
}

Status Client::Delete(std::string_view id, const DeleteOptions& options) {
  if (const Status may = own_->MayBlock(); !may.ok()) return may;
  return SdkGuarded([&] {
    SdkWaiter<Nothing> waiter;
    own_->Post(own_->DeleteTask(id, options, /*undelete=*/false, waiter.Callback()));
    Nothing nothing;
    return waiter.Take(&nothing);
  });
}

Status Client::Undelete(std::string_view id, const DeleteOptions& options) {
  if (const Status may = own_->MayBlock(); !may.ok()) return may;
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
  if (const Status may = own_->MayBlock(); !may.ok()) return may;
  return SdkGuarded([&] {
    results->assign(images.size(), PutResult());
    Window window(own_->options);
    Round round(own_.get(), &window);
    for (size_t i = 0; i < images.size(); ++i) {
      const uint64_t bytes = images[i].size();
      const auto done = [&window, bytes, result = &(*results)[i]](const Status& status,
                                                                  Stored&& stored) {
        *result = {status, std::move(stored)};
        window.Leave(bytes);
      };
      round.Add(bytes, [&] {
        return own_->CopyingPutTask(images[i], {.bytes = {}, .batch = round.batch()}, options,
                                    SdkClient::Kept<Stored>(done));
      });
    }
    round.Finish();
    return FirstFailure(*results);
  });
}

Status Client::GetBatch(const std::vector<std::string>& ids, const GetOptions& options,
                        std::vector<GetResult>* results) {
  if (const Status may = own_->MayBlock(); !may.ok()) return may;
  return SdkGuarded([&] {
    results->assign(ids.size(), GetResult());
    Window window(own_->options);
    Round round(own_.get(), &window);
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto done = [&window, result = &(*results)[i]](const Status& status, Image&& image) {
        *result = {status, std::move(image)};
        window.Leave(0);
      };
      round.Add(0, [&] {
        return own_->GetTask(ids[i], options, /*begun_ms=*/0, SdkClient::Kept<Image>(done));
      });
    }
    round.Finish();
    return FirstFailure(*results);
  });
}

// --- Streams ---

Status Client::PutStream(const Reader& reader, const PutOptions& options, Stored* stored) {
  if (const Status may = own_->MayBlock(); !may.ok()) return may;
  return SdkGuarded([&]() -> Status {
    Gathered image(own_.get());
    if (Status status = image.ReadAll(reader); !status.ok()) return status;
    SdkWaiter<Stored> waiter;
    own_->Post(own_->PutTask(image.Take(), options, waiter.Callback()));
    return waiter.Take(stored);
  });
}

Status Client::GetStream(std::string_view id, const GetOptions& options, const Writer& writer) {
  if (const Status may = own_->MayBlock(); !may.ok()) return may;
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
