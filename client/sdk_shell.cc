// Opening and closing a client of the SDK, and the tasks that its calls put onto its loop.
#include "client/sdk_shell.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <system_error>

#include "client/prepare.h"
#include "client/sniff.h"
#include "common/content.h"
#include "common/io/server_start.h"
#include "common/io/socket_address.h"
#include "common/io/system_clock.h"
#include "common/io/system_random.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/version.h"

namespace hayloft {

namespace {

std::atomic<Logger> g_logger{nullptr};

void PassToLogger(LogLevel level, std::string_view line) {
  const Logger logger = g_logger.load();
  if (logger != nullptr) logger(static_cast<LogSeverity>(level), line);
}

std::vector<std::string> SplitAddresses(const std::string& list) {
  std::vector<std::string> addresses;
  for (size_t start = 0; start <= list.size();) {
    const size_t end = std::min(list.find(',', start), list.size());
    if (end > start) addresses.push_back(list.substr(start, end - start));
    start = end + 1;
  }
  return addresses;
}

Status CheckAddresses(const char* option, const std::vector<std::string>& addresses) {
  for (const std::string& address : addresses) {
    if (!ParseSocketAddress(address).ok()) {
      return {Code::kConfig, std::string(option) + ": " + address + " is not IP:PORT"};
    }
  }
  return {};
}

std::atomic<uint64_t> g_forks{0};  // that led to this process, since the library was first used

// How long a call may still take when the loop comes to it; 0: no longer.
uint32_t LeftMs(uint32_t timeout_ms, uint64_t begun_ms) {
  if (begun_ms == 0) return timeout_ms;
  const uint64_t waited_ms = SystemMonotonicMs() - begun_ms;
  return waited_ms < timeout_ms ? timeout_ms - static_cast<uint32_t>(waited_ms) : 0;
}

// One call's callback, which is called exactly once: with an answer, or when whatever held it is
// destroyed.
template <typename T>
class Pending {
 public:
  Pending(SdkClient* client, SdkClient::Done<T>&& done) noexcept
      : client_(client), done_(std::move(done)) {
    admitted_ = client_->calls.fetch_add(1) < client_->options.in_flight_max;
  }
  ~Pending() {
    if (done_ != nullptr) Answer(Forsaken(), T());
  }
  Pending(const Pending&) = delete;  // it would be called twice
  Pending& operator=(const Pending&) = delete;

  bool admitted() const { return admitted_; }
  // False: too many bytes are on their way.
  bool HoldBytes(uint64_t bytes) {
    put_bytes_ = bytes;
    return client_->put_bytes.fetch_add(bytes) + bytes <= client_->options.put_bytes_max;
  }
  // What a callback throws ends the process here, where a debugger sees who threw it.
  void Answer(const Status& status, T&& value) noexcept {
    ASSERT(done_ != nullptr);
    client_->put_bytes.fetch_sub(put_bytes_);
    // Afterwards the client may be gone: destroyed by the callback, or with it.
    client_->calls.fetch_sub(1);
    const SdkClient::Done<T> done = std::exchange(done_, nullptr);
    done(status, std::move(value));
  }

 private:
  Status Forsaken() const {
    if (client_->forked()) return {Code::kInvalid, "opened before a fork"};
    if (client_->closing) return {Code::kCancelled, "the client was destroyed"};
    return OutOfMemory();
  }

  SdkClient* client_;
  SdkClient::Done<T> done_;
  bool admitted_ = false;
  uint64_t put_bytes_ = 0;
};

template <typename T>
SdkClient::Task FailTask(std::shared_ptr<Pending<T>> pending, Status status) {
  return
      [pending = std::move(pending), status = std::move(status)] { pending->Answer(status, T()); };
}

// The task that `make` makes for a call, or one that says why there is none. When there is no
// memory even for that, it is said here.
template <typename T, typename Make>
SdkClient::Task MakeTask(SdkClient* client, SdkClient::Done<T>&& done, Make make) noexcept {
  if (done == nullptr) return nullptr;
  std::shared_ptr<Pending<T>> pending;
  try {
    pending = std::make_shared<Pending<T>>(client, std::move(done));  // moved once there is room
  } catch (const std::bad_alloc&) {
    done(OutOfMemory(), T());
    return nullptr;
  }
  try {
    if (!pending->admitted()) {
      return FailTask(pending, {Code::kBusy, "too much in flight in this client"});
    }
    return make(pending);
  } catch (const std::bad_alloc&) {
    try {
      return FailTask(pending, OutOfMemory());
    } catch (const std::bad_alloc&) {
      return nullptr;  // and `pending`, which nobody else holds, says so
    }
  }
}

template <typename T>
SdkClient::Task FailedTask(SdkClient* client, const Status& status, SdkClient::Done<T>&& done) {
  return MakeTask<T>(client, std::move(done),
                     [&](const auto& pending) { return FailTask(pending, status); });
}

Status BadId(std::string_view id) {
  return {Code::kInvalid, "not an image's id: " + std::string(WhyNoFileAddress(id))};
}

}  // namespace

void SetLogger(Logger logger) { g_logger = logger; }
const char* Version() { return kVersion; }

Status SdkClient::Start(const Options& given) {
  options = given;
  options.in_flight_max = std::min(options.in_flight_max, kRpcInFlightMax);
  if (options.timeout_ms == 0) return {Code::kConfig, "timeout_ms: 0"};
  if (options.in_flight_max == 0) return {Code::kConfig, "in_flight_max: 0"};
  AsyncClientOptions async{.core = {}, .rpc = {.role = "sdk", .cluster_key = ""}};
  async.core.nameservers = SplitAddresses(options.cluster);
  async.core.ops_max = options.in_flight_max;
  if (async.core.nameservers.empty()) return {Code::kConfig, "cluster: no address given"};
  if (Status bad = CheckAddresses("cluster", async.core.nameservers); !bad.ok()) return bad;
  for (const std::string& nodes : options.directory) {
    async.core.directory.push_back(SplitAddresses(nodes));
    if (async.core.directory.back().empty()) return {Code::kConfig, "directory: an empty shard"};
  }
  if (async.core.directory.size() > kShardsMax) return {Code::kConfig, "directory: 256 at most"};
  for (const std::vector<std::string>& nodes : async.core.directory) {
    if (Status bad = CheckAddresses("directory", nodes); !bad.ok()) return bad;
  }
  std::string why;
  Result<std::string> secret = ReadClusterKey(options.key_file, &why);
  if (!secret.ok()) return {Code::kConfig, why};
  if (!secret->empty()) key = ClusterKey{.bytes = *secret};
  async.rpc.cluster_key = std::move(*secret);
  loop = Loop::Make();
  if (loop == nullptr) return {Code::kBusy, "no file descriptors left"};
  client = std::make_unique<AsyncClient>(loop.get(), async);
  forks = g_forks;
  StartThread();
  return {};
}

// The program's signals are its own threads' business; but a fault in ours is not hidden from its
// handlers, nor our time from its profiler.
void SdkClient::StartThread() {
  struct Blocked {
    sigset_t before{};
    ~Blocked() { pthread_sigmask(SIG_SETMASK, &before, nullptr); }
  } blocked;
  sigset_t ours;
  sigfillset(&ours);
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGPROF}) {
    sigdelset(&ours, number);
  }
  pthread_sigmask(SIG_SETMASK, &ours, &blocked.before);
  thread = std::thread([this] {
    loop->Run();
    const std::unique_ptr<SdkClient> self = std::move(orphan_);
    if (self != nullptr) self->EndCalls();
  });
  callback_thread = thread.get_id();
  (void)pthread_setname_np(thread.native_handle(), "hayloft-sdk");  // only for people
}

void SdkClient::Close(std::unique_ptr<SdkClient>* own) {
  SdkClient* const self = own->get();
  if (self->forked()) {
    (void)own->release();  // there is no thread to wait for, and its loop is its parent's as well
    return;
  }
  if (std::this_thread::get_id() != self->callback_thread) return self->End();
  // The loop is on this stack. Its thread goes on with what follows when the callback returns.
  self->closing = true;
  self->loop->Stop();
  self->thread.detach();
  self->orphan_ = std::move(*own);
}

void SdkClient::End() {
  closing = true;
  loop->Stop();
  thread.join();
  EndCalls();
}

// What is in flight is answered when the AsyncClient goes; what waits to be begun, and what
// callbacks begin now, when the loop comes to it.
void SdkClient::EndCalls() {
  callback_thread = std::this_thread::get_id();
  client.reset();
  while (calls > 0) {
    loop->Post([this] { loop->Stop(); });
    loop->Run();
  }
}

SdkClient::~SdkClient() {
  if (thread.joinable()) End();  // Open had no memory for the rest
  ASSERT(calls == 0);
}

bool SdkClient::forked() const { return forks != g_forks; }

Status SdkClient::MayBlock() const {
  if (forked()) return {Code::kInvalid, "the client was opened before a fork"};
  if (std::this_thread::get_id() != callback_thread) return {};
  return {Code::kInvalid, "a blocking call was made in a callback"};
}

void SdkClient::Post(Task task) {
  if (task == nullptr || forked()) return;  // a task that is destroyed answers its call
  try {
    loop->Post(std::move(task));
  } catch (const std::bad_alloc&) {  // as above
  }
}

Client::Client(std::unique_ptr<SdkClient> own) : own_(std::move(own)) {}
Client::~Client() { SdkClient::Close(&own_); }

Status Client::Open(const Options& options, std::unique_ptr<Client>* client) {
  static std::once_flag once;  // other clients may be logging
  try {
    std::call_once(once, [] {
      SetLogSink(PassToLogger, LogLevel::kWarn);
      pthread_atfork(nullptr, nullptr, [] { ++g_forks; });
    });
    auto own = std::make_unique<SdkClient>();
    if (Status status = own->Start(options); !status.ok()) return status;
    client->reset(new Client(std::move(own)));
    return {};
  } catch (const std::system_error& error) {
    return {Code::kBusy, std::string("no thread can be started: ") + error.what()};
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }
}

SdkClient::Task SdkClient::CopyingPutTask(std::string_view bytes, Raw raw, const PutOptions& put,
                                          Done<Stored> done) {
  try {
    if (bytes.size() > kFileBytesMax) {
      return FailedTask<Stored>(this, StatusOf(Err::kTooLarge), std::move(done));
    }
    static thread_local Hasher hasher;  // making one costs more than hashing a small image
    hasher.Reset();
    hasher.Update(AsBytes(bytes));
    raw.hasher = &hasher;
    raw.bytes = Buffer::CopyOf(AsBytes(bytes));
  } catch (const std::bad_alloc&) {
    return FailedTask<Stored>(this, OutOfMemory(), std::move(done));
  }
  return PutTask(std::move(raw), put, std::move(done));
}

namespace {

Status CheckKey(const PutOptions& put, const Options& options) {
  if (put.idempotency_key.empty()) return {};
  if (!IsIdempotencyKey(put.idempotency_key)) {
    return {Code::kInvalid, "idempotency_key has not 16 to 128 visible characters"};
  }
  if (options.directory.empty() || !put.dedup) {
    return {Code::kInvalid, "idempotency_key needs a directory, and to look there"};
  }
  return {};
}

struct Sent {  // a put that is on its way, and what of its answer is known already
  Stored stored;
  PutRequest request;
};

Result<std::shared_ptr<Sent>> Prepare(SdkClient::Raw&& raw, const PutOptions& put) {
  auto sent = std::make_shared<Sent>();
  Upload upload;
  upload.content_type = DecideType(put.content_type, raw.bytes.bytes());
  upload.raw = std::move(raw.bytes);
  upload.fields = put.fields;
  raw.hasher->Finish(&upload.sha1, &upload.sha256);
  SystemRandom().Fill(upload.nonce);
  sent->stored.content_type = upload.content_type;
  sent->stored.size = upload.raw.size();
  sent->stored.sha1 = ToHex(upload.sha1);
  TRY_ASSIGN(sent->request, PreparePut(std::move(upload)));
  sent->request.batch = raw.batch;
  sent->request.dedup = put.dedup;
  sent->request.idempotency_key = put.idempotency_key;
  return sent;
}

}  // namespace

SdkClient::Task SdkClient::PutTask(Raw raw, const PutOptions& put, Done<Stored> done) {
  return MakeTask<Stored>(this, std::move(done), [&](const auto& pending) -> Task {
    if (raw.bytes.size() > options.put_bytes_max) {
      return FailTask(pending, {Code::kTooLarge, "larger than put_bytes_max"});
    }
    if (!pending->HoldBytes(raw.bytes.size())) {
      return FailTask(pending, {Code::kBusy, "too many bytes on their way"});
    }
    if (HasControlByte(put.content_type)) {
      return FailTask(pending, {Code::kInvalid, "content_type holds a control byte"});
    }
    if (const Status status = CheckKey(put, options); !status.ok()) {
      return FailTask(pending, status);
    }
    const uint64_t begun_ms = raw.begun_ms;
    Result<std::shared_ptr<Sent>> prepared = Prepare(std::move(raw), put);
    if (!prepared.ok()) return FailTask(pending, StatusOf(prepared.err()));
    return [this, pending, begun_ms, timeout_ms = TimeoutMs(put.timeout_ms), sent = *prepared] {
      if (client == nullptr) return;
      sent->request.timeout_ms = LeftMs(timeout_ms, begun_ms);
      if (sent->request.timeout_ms == 0) return pending->Answer(StatusOf(Err::kTimeout), {});
      client->Put(std::move(sent->request), [this, pending, sent](PutDone&& answer) {
        Stored& stored = sent->stored;
        if (answer.err != Err::kOk) return pending->Answer(StatusOf(answer.err), Stored());
        stored.id = ToText(answer.address);
        stored.created_ms = answer.created_ms;
        if (key.has_value()) {
          stored.delete_token = MakeDeleteToken(*key, answer.address, answer.nonce);
        }
        stored.duplicate = answer.duplicate;
        stored.unchecked = answer.unchecked;
        pending->Answer({}, std::move(stored));
      });
    };
  });
}

SdkClient::Task SdkClient::FailedGet(const Status& status, Done<Image> done) {
  return FailedTask<Image>(this, status, std::move(done));
}

namespace {

// What is stored compressed takes memory once more.
Status MakeImage(GetDone&& answer, const GetOptions& get, Image* image) {
  if (answer.err != Err::kOk) return StatusOf(answer.err);
  try {
    Result<Image> made = ImageMaker::Make(std::move(answer), get);
    if (!made.ok()) return StatusOf(made.err());
    *image = std::move(*made);
    return {};
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }
}

}  // namespace

SdkClient::Task SdkClient::GetTask(std::string_view id, const GetOptions& get, uint64_t begun_ms,
                                   Done<Image> done) {
  return MakeTask<Image>(this, std::move(done), [&](const auto& pending) -> Task {
    const auto address = ParseFileAddress(id);
    if (!address.has_value()) return FailTask(pending, BadId(id));
    GetRequest wanted;
    wanted.address = *address;
    wanted.offset = get.offset;
    wanted.length = get.length;
    wanted.include_deleted = get.include_deleted;
    wanted.timeout_ms = TimeoutMs(get.timeout_ms);
    return [this, pending, wanted, get, begun_ms] {
      if (client == nullptr) return;
      GetRequest request = wanted;
      request.timeout_ms = LeftMs(wanted.timeout_ms, begun_ms);
      if (request.timeout_ms == 0) return pending->Answer(StatusOf(Err::kTimeout), Image());
      client->Get(std::move(request), [pending, get](GetDone&& answer) {
        Image image;
        const Status status = MakeImage(std::move(answer), get, &image);
        pending->Answer(status, std::move(image));
      });
    };
  });
}

SdkClient::Task SdkClient::StatTask(std::string_view id, const StatOptions& stat,
                                    Done<ImageInfo> done) {
  return MakeTask<ImageInfo>(this, std::move(done), [&](const auto& pending) -> Task {
    const auto address = ParseFileAddress(id);
    if (!address.has_value()) return FailTask(pending, BadId(id));
    const StatRequest wanted{.address = *address, .timeout_ms = TimeoutMs(stat.timeout_ms)};
    return [this, pending, wanted, begun_ms = SystemMonotonicMs()] {
      if (client == nullptr) return;
      StatRequest request = wanted;
      request.timeout_ms = LeftMs(wanted.timeout_ms, begun_ms);
      if (request.timeout_ms == 0) return pending->Answer(StatusOf(Err::kTimeout), {});
      client->Stat(std::move(request), [pending](StatDone&& answer) {
        Result<ImageInfo> info = InfoOf(answer);
        if (!info.ok()) return pending->Answer(StatusOf(info.err()), ImageInfo());
        pending->Answer({}, std::move(*info));
      });
    };
  });
}

SdkClient::Task SdkClient::DeleteTask(std::string_view id, const DeleteOptions& change,
                                      bool undelete, Done<Nothing> done) {
  return MakeTask<Nothing>(this, std::move(done), [&](const auto& pending) -> Task {
    const auto address = ParseFileAddress(id);
    if (!address.has_value()) return FailTask(pending, BadId(id));
    if (!change.token.empty() && !key.has_value()) {
      return FailTask(pending, {Code::kDenied, "without a key file no token can be checked"});
    }
    std::optional<Nonce> nonce;
    if (!change.token.empty()) {
      nonce = hayloft::CheckDeleteToken(*key, *address, change.token);
      if (!nonce.has_value()) return FailTask(pending, StatusOf(Err::kDenied));
    } else if (!options.directory.empty() && !change.takedown) {
      return FailTask(pending, {Code::kInvalid, "with a directory: whose token, or takedown?"});
    }
    const SetDeleteRequest wanted{.address = *address,
                                  .undelete = undelete,
                                  .timeout_ms = TimeoutMs(change.timeout_ms),
                                  .nonce = nonce,
                                  .takedown = change.takedown};
    return [this, pending, wanted, begun_ms = SystemMonotonicMs()] {
      if (client == nullptr) return;
      SetDeleteRequest request = wanted;
      request.timeout_ms = LeftMs(wanted.timeout_ms, begun_ms);
      if (request.timeout_ms == 0) return pending->Answer(StatusOf(Err::kTimeout), Nothing());
      client->SetDelete(std::move(request), [pending](SetDeleteDone&& answer) {
        pending->Answer(StatusOf(answer.err), Nothing());
      });
    };
  });
}

bool Client::CheckDeleteToken(std::string_view id, std::string_view token) const {
  const auto address = ParseFileAddress(id);
  if (!address.has_value() || !own_->key.has_value()) return false;
  return hayloft::CheckDeleteToken(*own_->key, *address, token).has_value();
}

}  // namespace hayloft
