#include "common/ha/etcd_coordinator.h"

#include <curl/curl.h>

#include <algorithm>

#include "common/codec.h"
#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/log.h"

namespace hayloft {

namespace {

constexpr size_t kAnswerBytesMax = 256 << 10;
constexpr uint64_t kPasswordBytesMax = 4096;

// After these a transaction may have been done, or may still be.
bool IsUnclear(Err err) { return err == Err::kTimeout || err == Err::kUnavailable; }

// Whatever is wrong with an answer says nothing about the record.
template <typename T>
Result<T> Understood(Result<T> decoded) {
  if (decoded.ok()) return decoded;
  LOG_WARN("etcd_answer_not_understood", "action=none");
  return Err::kUnavailable;
}

size_t TakeBody(char* data, size_t one, size_t count, void* into) {
  auto* body = static_cast<std::string*>(into);
  if (body->size() + count > kAnswerBytesMax) return 0;  // ends the request
  body->append(data, one * count);
  return one * count;
}

struct Posted {
  Err err = Err::kOk;
  bool sent = false;  // a byte of it, at least
  std::string body{};
};

}  // namespace

// One libcurl handle.
class EtcdCoordinator::Http {
 public:
  explicit Http(const EtcdOptions& options) {
    static const CURLcode kReady = curl_global_init(CURL_GLOBAL_DEFAULT);
    ASSERT(kReady == CURLE_OK);
    curl_ = curl_easy_init();
    ASSERT(curl_ != nullptr);
    Set(CURLOPT_NOSIGNAL, 1L);
    Set(CURLOPT_QUICK_EXIT, 1L);  // a name server that hangs is not waited for
    Set(CURLOPT_PROXY, "");       // whatever the environment says
    Set(CURLOPT_PROTOCOLS_STR, "http,https");
    Set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    Set(CURLOPT_FRESH_CONNECT, 1L);
    Set(CURLOPT_FORBID_REUSE, 1L);
    Set(CURLOPT_WRITEFUNCTION, &TakeBody);
    if (!options.ca_file.empty()) Set(CURLOPT_CAINFO, options.ca_file.c_str());
    if (!options.cert_file.empty()) Set(CURLOPT_SSLCERT, options.cert_file.c_str());
    if (!options.key_file.empty()) Set(CURLOPT_SSLKEY, options.key_file.c_str());
  }
  ~Http() { curl_easy_cleanup(curl_); }
  Http(const Http&) = delete;  // owns the handle
  Http& operator=(const Http&) = delete;

  Posted Post(const std::string& url, const std::string& token, const std::string& body,
              uint64_t timeout_ms) {
    Posted posted;
    curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    if (!token.empty()) headers = curl_slist_append(headers, ("Authorization: " + token).c_str());
    Set(CURLOPT_HTTPHEADER, headers);
    Set(CURLOPT_URL, url.c_str());
    Set(CURLOPT_TIMEOUT_MS, static_cast<long>(std::max<uint64_t>(timeout_ms, 1)));
    Set(CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
    Set(CURLOPT_POSTFIELDS, body.c_str());
    Set(CURLOPT_WRITEDATA, &posted.body);
    const CURLcode code = curl_easy_perform(curl_);
    curl_slist_free_all(headers);
    long request_bytes = 0;
    long status = 0;
    curl_easy_getinfo(curl_, CURLINFO_REQUEST_SIZE, &request_bytes);
    curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &status);
    posted.sent = request_bytes > 0;
    if (code == CURLE_OK) {
      posted.err = EtcdErrOf(static_cast<int>(status), posted.body);
    } else {
      posted.err = code == CURLE_OPERATION_TIMEDOUT ? Err::kTimeout : Err::kUnavailable;
    }
    if (posted.err != Err::kOk) {
      LOG_DEBUG("etcd_request_failed", "url=%s err=%s cause=\"%s\"", LogText(url).c_str(),
                std::string(ErrName(posted.err)).c_str(), curl_easy_strerror(code));
    }
    return posted;
  }

 private:
  template <typename T>
  void Set(CURLoption option, T value) {
    const CURLcode code = curl_easy_setopt(curl_, option, value);
    ASSERT(code == CURLE_OK);
  }
  CURL* curl_ = nullptr;
};

EtcdCoordinator::EtcdCoordinator(EtcdOptions options, Random* random)
    : options_(std::move(options)),
      keys_{.record = options_.prefix + "/record", .holder = options_.prefix + "/holder"},
      random_(random),
      http_(std::make_unique<Http>(options_)) {
  ASSERT(!options_.endpoints.empty());
}

EtcdCoordinator::~EtcdCoordinator() = default;

Result<CoordinatorView> EtcdCoordinator::Read() {
  const uint64_t end_ms = SystemMonotonicMs() + options_.timeout_ms;
  bool unsure = false;
  TRY_ASSIGN(const std::string body, Ask("/v3/kv/txn", EtcdViewRequest(keys_), end_ms, &unsure));
  TRY_ASSIGN(const EtcdView view, Understood(DecodeEtcdView(body, keys_)));
  Saw(view);
  CoordinatorView out;
  out.version = view.version;
  out.held = view.held;
  if (view.version == 0) return out;
  if (!out.record.ParseFromString(view.record) || out.record.identity().size() != kNodeIdBytes) {
    corrupt_ = true;
    return Err::kCorrupt;
  }
  identity_ = out.record.identity();
  out.identity = IdentityOf(out.record);
  return out;
}

Result<uint64_t> EtcdCoordinator::Put(const pb::LeaseRecord& record, uint64_t version,
                                      bool renews) {
  ASSERT(record.holder().size() == kNodeIdBytes);
  if (version != (corrupt_ ? 0 : version_)) return Err::kExists;
  const uint64_t end_ms = SystemMonotonicMs() + options_.timeout_ms;
  if (renews) TRY(RenewLease(end_ms));
  pb::LeaseRecord next = record;
  next.set_identity(identity_);
  if (version == 0) {
    std::string identity(kNodeIdBytes, '\0');
    random_->Fill({reinterpret_cast<uint8_t*>(identity.data()), identity.size()});
    next.set_identity(identity);
  }
  const EtcdCommit commit{.version = version_,
                          .was = version_ != 0 ? &value_ : nullptr,
                          .record = next.SerializeAsString(),
                          .holder = ToHex(AsBytes(record.holder())),
                          .lease = renews ? lease_ : 0};
  bool unsure = false;
  const Result<std::string> body =
      Ask("/v3/kv/txn", EtcdCommitRequest(keys_, commit), end_ms, &unsure);
  if (body.err() == Err::kNotFound) {  // the lease has ended since; the next call makes a new one
    lease_ = 0;
    return Err::kUnavailable;
  }
  if (!body.ok()) return body.err();
  TRY_ASSIGN(const EtcdCommitted committed, Understood(DecodeEtcdCommit(*body, renews ? 2 : 1)));
  // An endpoint that gave no answer may have done it: then another's version is our own.
  if (committed.version == 0) return unsure ? Err::kUnavailable : Err::kExists;
  if (committed.cluster_id != cluster_id_) return Err::kUnavailable;
  version_ = committed.version;
  value_ = commit.record;
  identity_ = next.identity();
  corrupt_ = false;
  return version_;
}

void EtcdCoordinator::Release() {
  if (lease_ == 0) return;
  bool unsure = false;
  (void)Ask("/v3/lease/revoke", EtcdLeaseRequest(lease_), SystemMonotonicMs() + options_.timeout_ms,
            &unsure);
  lease_ = 0;
}

// The answer of the first endpoint that gives one. `unsure` becomes true when the request was sent
// to one that gave none.
Result<std::string> EtcdCoordinator::Ask(const char* path, const std::string& body, uint64_t end_ms,
                                         bool* unsure) {
  Err last = Err::kTimeout;
  bool token_is_new = false;
  for (size_t left = options_.endpoints.size(); left > 0;) {
    const std::string& endpoint = options_.endpoints[current_ % options_.endpoints.size()];
    const auto share_ms = [&]() -> uint64_t {
      const uint64_t now_ms = SystemMonotonicMs();
      return now_ms < end_ms ? (end_ms - now_ms + left - 1) / left : 0;
    };
    if (share_ms() == 0) return Err::kTimeout;
    Posted posted;
    if (!options_.user.empty() && token_.empty()) {
      posted.err = Authenticate(endpoint, share_ms());
      token_is_new = true;
    }
    if (posted.err == Err::kOk && share_ms() > 0) {
      posted = http_->Post(endpoint + path, token_, body, share_ms());
      *unsure |= posted.sent && IsUnclear(posted.err);
    } else if (posted.err == Err::kOk) {
      return Err::kTimeout;
    }
    if (posted.err == Err::kOk) return std::move(posted.body);
    if (posted.err == Err::kDenied && !token_.empty() && !token_is_new) {
      token_.clear();  // it may have ended
      continue;
    }
    if (!IsUnclear(posted.err)) return posted.err;
    last = posted.err;
    ++current_;
    --left;
  }
  return last;
}

Err EtcdCoordinator::Authenticate(const std::string& endpoint, uint64_t timeout_ms) {
  std::string why;
  Result<std::string> password = ReadWholeFile(options_.password_file, kPasswordBytesMax, &why);
  if (!password.ok()) {
    LOG_WARN("etcd_password_unreadable", "file=%s cause=\"%s\"",
             LogText(options_.password_file).c_str(), why.c_str());
    return Err::kDenied;
  }
  while (password->ends_with('\n') || password->ends_with('\r')) password->pop_back();
  const Posted posted = http_->Post(endpoint + "/v3/auth/authenticate", /*token=*/"",
                                    EtcdTokenRequest(options_.user, *password), timeout_ms);
  if (posted.err == Err::kUnsupported) return Err::kOk;  // it lets everybody in
  TRY(posted.err);
  TRY_ASSIGN(token_, Understood(DecodeEtcdToken(posted.body)));
  return Err::kOk;
}

// kExists: this is another cluster than the one that the version is of.
Err EtcdCoordinator::RenewLease(uint64_t end_ms) {
  const uint64_t ttl_s = (uint64_t{options_.lease_ms} + 999) / 1000;
  bool unsure = false;
  if (lease_ != 0) {
    TRY_ASSIGN(const std::string body,
               Ask("/v3/lease/keepalive", EtcdLeaseRequest(lease_), end_ms, &unsure));
    TRY_ASSIGN(const EtcdLease lease, Understood(DecodeEtcdKeepAlive(body, ttl_s)));
    if (IsOtherCluster(lease.cluster_id)) return Err::kExists;
    if (lease.id == lease_) return Err::kOk;
    lease_ = 0;
  }
  TRY_ASSIGN(const std::string body,
             Ask("/v3/lease/grant", EtcdGrantRequest(ttl_s), end_ms, &unsure));
  TRY_ASSIGN(const EtcdLease lease, Understood(DecodeEtcdGrant(body, ttl_s)));
  if (IsOtherCluster(lease.cluster_id)) return Err::kExists;
  lease_ = lease.id;
  return Err::kOk;
}

bool EtcdCoordinator::IsOtherCluster(uint64_t cluster_id) {
  if (cluster_id_ == 0) cluster_id_ = cluster_id;
  if (cluster_id == cluster_id_) return false;
  LOG_WARN("etcd_cluster_changed", "action=read_anew");
  lease_ = 0;
  return true;
}

void EtcdCoordinator::Saw(const EtcdView& view) {
  if (view.cluster_id != cluster_id_) lease_ = 0;
  cluster_id_ = view.cluster_id;
  version_ = view.version;
  value_ = view.record;
  corrupt_ = false;
}

std::string EtcdCoordinator::IdentityOf(const pb::LeaseRecord& record) const {
  uint8_t number[8];
  PutBigEndian64(cluster_id_, number);
  return record.identity() + std::string(AsText(number));
}

}  // namespace hayloft
