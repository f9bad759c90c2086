// Opening and closing a client of the SDK, and the tasks that its calls put onto its loop.
#include "client/sdk_shell.h"

#include <pthread.h>

#include <algorithm>
#include <system_error>

#include "client/prepare.h"
#include "client/sniff.h"
#include "common/io/server_start.h"
#include "common/io/socket_address.h"
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

// One call's callback, which is called exactly once: with an answer, or as cancelled when whatever
// held it is destroyed.
template <typename T>
class Pending {
 public:
  Pending(SdkClient* client, SdkClient::Done<T> done) : client_(client), done_(std::move(done)) {
    admitted_ = client_->calls.fetch_add(1) < client_->options.in_flight_max;
  }
  ~Pending() {
    if (done_ != nullptr) Answer({Code::kCancelled, "the client was destroyed"}, T());
  }
  Pending(const Pending&) = delete;  // it would be called twice
  Pending& operator=(const Pending&) = delete;

  bool admitted() const { return admitted_; }
  // False: too many bytes are on their way.
  bool HoldBytes(uint64_t bytes) {
    put_bytes_ = bytes;
    return client_->put_bytes.fetch_add(bytes) + bytes <= client_->options.put_bytes_max;
  }
  void Answer(const Status& status, T&& value) {
    ASSERT(done_ != nullptr);
    client_->calls.fetch_sub(1);
    client_->put_bytes.fetch_sub(put_bytes_);
    const SdkClient::Done<T> done = std::exchange(done_, nullptr);
    done(status, std::move(value));
  }

 private:
  SdkClient* client_;
  SdkClient::Done<T> done_;
  bool admitted_ = false;
  uint64_t put_bytes_ = 0;
};

// Failures are told by the loop too: a callback is never called from inside its own call.
template <typename T>
SdkClient::Task FailTask(std::shared_ptr<Pending<T>> pending, Status status) {
  return
      [pending = std::move(pending), status = std::move(status)] { pending->Answer(status, T()); };
}

Status TooMuch() { return {Code::kBusy, "too much in flight in this client"}; }

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
  for (const std::string& address : async.core.nameservers) {
    if (!ParseSocketAddress(address).ok()) {
      return {Code::kConfig, "cluster: " + address + " is not IP:PORT"};
    }
  }
  std::string why;
  Result<std::string> secret = ReadClusterKey(options.key_file, &why);
  if (!secret.ok()) return {Code::kConfig, why};
  if (!secret->empty()) key = ClusterKey{.bytes = *secret};
  async.rpc.cluster_key = std::move(*secret);
  client = std::make_unique<AsyncClient>(&loop, async);
  thread = std::thread([this] { loop.Run(); });
  (void)pthread_setname_np(thread.native_handle(), "hayloft-sdk");  // only for people
  return {};
}

// Nothing is lost by this order: what is in flight is answered when the AsyncClient goes, what
// waits to be begun when the loop runs for the last time, what comes now by Post.
void SdkClient::Close() {
  ASSERT(!InCallback());
  closing = true;
  if (thread.joinable()) {
    loop.Stop();
    thread.join();
  }
  client.reset();
  loop.Post([this] { loop.Stop(); });
  loop.Run();
  ASSERT(calls == 0);
}

SdkClient::~SdkClient() { Close(); }

void SdkClient::Post(Task task) {
  if (closing) return;  // destroying the task answers it
  loop.Post(std::move(task));
}

Client::Client(std::unique_ptr<SdkClient> own) : own_(std::move(own)) {}
Client::~Client() { own_->Close(); }

Status Client::Open(const Options& options, std::unique_ptr<Client>* client) {
  static std::once_flag once;  // other clients may be logging
  try {
    std::call_once(once, [] { SetLogSink(PassToLogger, LogLevel::kWarn); });
    auto own = std::make_unique<SdkClient>();
    if (Status status = own->Start(options); !status.ok()) return status;
    client->reset(new Client(std::move(own)));
    return {};
  } catch (const std::system_error& error) {
    return {Code::kBusy, std::string("no thread can be started: ") + error.what()};
  } catch (const std::bad_alloc&) {
    return {Code::kBusy, "out of memory"};
  }
}

SdkClient::Task SdkClient::FailedPut(Err err, Done<Stored> done) {
  return FailTask(std::make_shared<Pending<Stored>>(this, std::move(done)), StatusOf(err));
}

SdkClient::Task SdkClient::PutTask(Raw raw, const PutOptions& put, Done<Stored> done) {
  auto pending = std::make_shared<Pending<Stored>>(this, std::move(done));
  if (!pending->admitted() || !pending->HoldBytes(raw.bytes.size())) {
    return FailTask(std::move(pending), TooMuch());
  }
  if (HasControlByte(put.content_type)) {
    return FailTask(std::move(pending), {Code::kInvalid, "content_type holds a control byte"});
  }
  struct Sent {
    Stored stored;
    Nonce nonce{};
    PutRequest request;
  };
  auto sent = std::make_shared<Sent>();
  Upload upload;
  upload.content_type = DecideType(put.content_type, raw.bytes.bytes());
  upload.raw = std::move(raw.bytes);
  upload.fields = put.fields;
  upload.timeout_ms = TimeoutMs(put.timeout_ms);
  raw.hasher->Finish(&upload.sha1, &upload.sha256);
  SystemRandom().Fill(upload.nonce);
  sent->nonce = upload.nonce;
  sent->stored.content_type = upload.content_type;
  sent->stored.size = upload.raw.size();
  sent->stored.sha1 = ToHex(upload.sha1);
  Result<PutRequest> request = PreparePut(std::move(upload));
  if (!request.ok()) return FailTask(std::move(pending), StatusOf(request.err()));
  sent->request = std::move(*request);
  sent->request.batch = raw.batch;
  return [this, pending = std::move(pending), sent = std::move(sent)] {
    if (client == nullptr) return;
    client->Put(std::move(sent->request), [this, pending, sent](PutDone&& answer) {
      Stored& stored = sent->stored;
      if (answer.err != Err::kOk) return pending->Answer(StatusOf(answer.err), Stored());
      stored.id = ToText(answer.address);
      stored.created_ms = answer.created_ms;
      if (key.has_value()) stored.delete_token = MakeDeleteToken(*key, answer.address, sent->nonce);
      pending->Answer({}, std::move(stored));
    });
  };
}

SdkClient::Task SdkClient::GetTask(std::string_view id, const GetOptions& get, Done<Image> done) {
  auto pending = std::make_shared<Pending<Image>>(this, std::move(done));
  if (!pending->admitted()) return FailTask(std::move(pending), TooMuch());
  const auto address = ParseFileAddress(id);
  if (!address.has_value()) return FailTask(std::move(pending), BadId(id));
  GetRequest request;
  request.address = *address;
  request.offset = get.offset;
  request.length = get.length;
  request.include_deleted = get.include_deleted;
  request.timeout_ms = TimeoutMs(get.timeout_ms);
  return [this, pending = std::move(pending), request = std::move(request), get]() mutable {
    if (client == nullptr) return;
    client->Get(std::move(request), [pending, get](GetDone&& answer) {
      if (answer.err != Err::kOk) return pending->Answer(StatusOf(answer.err), Image());
      Result<Image> image = ImageMaker::Make(std::move(answer), get);
      if (!image.ok()) return pending->Answer(StatusOf(image.err()), Image());
      pending->Answer({}, std::move(*image));
    });
  };
}

SdkClient::Task SdkClient::StatTask(std::string_view id, const StatOptions& stat,
                                    Done<ImageInfo> done) {
  auto pending = std::make_shared<Pending<ImageInfo>>(this, std::move(done));
  if (!pending->admitted()) return FailTask(std::move(pending), TooMuch());
  const auto address = ParseFileAddress(id);
  if (!address.has_value()) return FailTask(std::move(pending), BadId(id));
  const StatRequest request{.address = *address, .timeout_ms = TimeoutMs(stat.timeout_ms)};
  return [this, pending = std::move(pending), request] {
    if (client == nullptr) return;
    client->Stat(StatRequest(request), [pending](StatDone&& answer) {
      Result<ImageInfo> info = InfoOf(answer);
      if (!info.ok()) return pending->Answer(StatusOf(info.err()), ImageInfo());
      pending->Answer({}, std::move(*info));
    });
  };
}

SdkClient::Task SdkClient::DeleteTask(std::string_view id, const DeleteOptions& change,
                                      bool undelete, Done<Nothing> done) {
  auto pending = std::make_shared<Pending<Nothing>>(this, std::move(done));
  if (!pending->admitted()) return FailTask(std::move(pending), TooMuch());
  const auto address = ParseFileAddress(id);
  if (!address.has_value()) return FailTask(std::move(pending), BadId(id));
  if (!change.token.empty()) {
    if (!key.has_value()) {
      return FailTask(std::move(pending),
                      {Code::kDenied, "without a key file no token can be checked"});
    }
    if (!CheckDeleteToken(*key, *address, change.token).has_value()) {
      return FailTask(std::move(pending), StatusOf(Err::kDenied));
    }
  }
  const SetDeleteRequest request{
      .address = *address, .undelete = undelete, .timeout_ms = TimeoutMs(change.timeout_ms)};
  return [this, pending = std::move(pending), request] {
    if (client == nullptr) return;
    client->SetDelete(SetDeleteRequest(request), [pending](SetDeleteDone&& answer) {
      pending->Answer(StatusOf(answer.err), Nothing());
    });
  };
}

bool Client::CheckDeleteToken(std::string_view id, std::string_view token) const {
  const auto address = ParseFileAddress(id);
  if (!address.has_value() || !own_->key.has_value()) return false;
  return hayloft::CheckDeleteToken(*own_->key, *address, token).has_value();
}

}  // namespace hayloft
