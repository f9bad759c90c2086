// One event loop of the gateway: its share of the connections, and what is done with each request.
//
//   HttpConnection --request--> GatewayWorker --put, get, stat, delete--> AsyncClient --> dsp
//                 <--answer---                <------- callback --------
//
// Callbacks name a connection by a number that is never given again, so an answer that comes after
// its client has gone finds nothing.
//
// Threads: its own; Start and Stop come from the owner's. Workers share atomics (memory budgets,
// metrics), and behind locks what is rarely asked or off by default: the count of connections by
// address, rates, nonces, the cluster's state.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cache/cached_reads_shell.h"
#include "client/async_client.h"
#include "client/shared_locations_shell.h"
#include "common/delete_token.h"
#include "common/io/acceptor.h"
#include "common/io/loop.h"
#include "common/io/system_random.h"
#include "common/text.h"
#include "gateway/admission.h"
#include "gateway/browser_guard.h"
#include "gateway/cache_control.h"
#include "gateway/cluster_view.h"
#include "gateway/connection_shell.h"
#include "gateway/cors.h"
#include "gateway/gateway_options.h"
#include "gateway/memory_budget.h"
#include "gateway/nonce_table.h"
#include "gateway/pages.h"
#include "gateway/rate_limiter_shell.h"
#include "gateway/referer_list.h"
#include "gateway/rights.h"
#include "gateway/routes.h"
#include "gateway/url_templates.h"

namespace hayloft {

#define GATEWAY_METRICS(X)                                                                     \
  X(Counter, uploads_total, "files stored")                                                    \
  X(Counter, upload_bytes_total, "their bytes")                                                \
  X(Counter, duplicates_total, "uploads of what is stored already: nothing was stored")        \
  X(Counter, uploads_unchecked_total, "files stored without the directory's word")             \
  X(Counter, upload_failures_total, "uploads answered with 5xx")                               \
  X(Counter, digest_mismatches_total, "files refused: they are not what their digest says")    \
  X(Counter, upload_memory_refused_total, "uploads refused: the memory for them was taken")    \
  X(Counter, reads_total, "files or parts of files answered with 200 or 206")                  \
  X(Counter, read_bytes_total, "their bytes")                                                  \
  X(Counter, read_failures_total, "reads answered with 5xx")                                   \
  X(Counter, revalidated_total, "reads answered with 304")                                     \
  X(Counter, deletes_total, "deletes done")                                                    \
  X(Counter, undeletes_total, "undeletes done")                                                \
  X(Counter, names_written_total, "names given to files")                                      \
  X(Counter, names_deleted_total, "names deleted")                                             \
  X(Counter, denied_total, "requests with a wrong delete token or none")                       \
  X(Counter, foreign_total, "requests refused as another site's: its page, or a strange Host") \
  X(Counter, rights_missing_total, "requests refused: they need a key or a signed URL")        \
  X(Counter, rights_wrong_total, "requests refused: a wrong key or signed URL")                \
  X(Counter, rights_expired_total, "requests refused: their signed URL has expired")           \
  X(Counter, rights_spent_total, "requests refused: their signed URL was for once")            \
  X(Gauge, nonces, "signed URLs for once that were used and have not expired")                 \
  X(Counter, overload_refused_total, "requests refused: too many wait for the store")          \
  X(Counter, overload_abandoned_total, "requests whose client had gone while they waited")     \
  X(Gauge, requests_waiting, "requests that wait until the store has room for them")           \
  X(Counter, referer_refused_total, "reads refused: a page of another host shows the file")    \
  X(Counter, rate_limited_total, "requests refused with 429: too much of one client")          \
  X(Gauge, upload_memory_bytes, "memory charged for uploads")                                  \
  X(Gauge, download_memory_bytes, "memory held for slow readers")                              \
  X(Gauge, gateways, "gateways that share their caches, as far as is known; 0: alone")         \
  X(Counter, peer_failures_total, "reads of which another gateway was asked in vain")          \
  X(Counter, refilled_total, "files taken over from other gateways' caches after the start")   \
  X(Counter, access_log_lost_total, "lines of the access log that could not be written")
struct GatewayMetrics {
  HAYLOFT_METRICS("hayloft_gateway_", GATEWAY_METRICS)
};

// Counts connections over all workers, in all and by address (IPv6: by /64).
class ConnectionCount {
 public:
  // False when a bound is met; then nothing is counted.
  bool TryEnter(const PeerAddress& peer, const GatewayOptions& options);
  void Leave(const PeerAddress& peer);
  // The same for those that are let in only for their 503.
  bool TryRefuse();
  void LeaveRefused() { --refused_; }

 private:
  std::mutex mutex_;  // taken once when a connection comes and once when it goes
  uint32_t total_ = 0;
  std::atomic<uint32_t> refused_{0};
  std::map<PeerAddress, uint32_t> by_peer_;  // by LimitKey
};

inline constexpr uint32_t kFeedsMax = 4'096;  // dsps whose deletes are listened to

// The options of reads through the cache, for one of the loops that share it.
struct GatewayShared;
CachedReadsOptions CachedReadsOptionsOf(GatewayShared* shared, uint32_t loop);

// What the workers of one gateway share.
struct GatewayShared {
  explicit GatewayShared(const GatewayOptions& gateway_options)
      : options(gateway_options),
        browser_guard(options.hosts),
        referer_list(options.referers, options.hosts, options.referer_needed),
        cors(options.cors_origins, options.cors_reads),
        pages(options.pages),
        cache_control(CacheControl(options, std::nullopt)),
        not_found_cache_control(NotFoundCacheControl(options, std::nullopt)),
        too_large("The file is too large: at most " + std::to_string(options.upload_bytes_max) +
                  " bytes are taken here."),
        urls(options.url_template),
        feeds(kFeedsMax),
        trusted_proxies(options.trusted_proxies),
        cdn_networks(options.cdn_networks),
        cdn_header(LowerText(options.cdn_header)),
        address_rates(RateTableOf({.requests_per_s = options.requests_per_s_per_address,
                                   .upload_bytes_per_s = options.upload_bytes_per_s_per_address,
                                   .upload_bytes_max = options.upload_bytes_max})),
        key_rates(RateTableOf({.requests_per_s = options.requests_per_s_per_key,
                               .upload_bytes_per_s = options.upload_bytes_per_s_per_key,
                               .upload_bytes_max = options.upload_bytes_max})),
        upload_memory(options.upload_memory_bytes),
        download_memory(options.download_memory_bytes) {}
  const GatewayOptions options;
  const BrowserGuard browser_guard;
  const RefererList referer_list;
  const CorsPolicy cors;
  const PageTable pages;
  const std::string cache_control;            // of a file
  const std::string not_found_cache_control;  // of 404 and 410 of a file
  const std::string too_large;                // the message of 413
  const UrlTemplates urls;                    // of files, in answers
  AsyncClientOptions client_options;
  LockedLocations locations{ClientOptions{}.locations_max};
  std::unique_ptr<SharedCache> cache;  // made at the start; outlives all that reads
  FeedTable feeds;
  // Where what readers waited for goes, by the loops that share the cache. Set before they start.
  std::vector<std::function<void(ReadDelivery&&)>> readers;
  ClusterKey key;
  HttpMetrics http_metrics;
  GatewayMetrics metrics;
  RequestTimes times;
  std::unique_ptr<LineWriter> access_writer;  // null: no access log
  RpcClientMetrics rpc_metrics;
  std::unique_ptr<TlsContext> tls;  // null: plain HTTP
  const TrustedProxies trusted_proxies;
  const TrustedProxies cdn_networks;
  const std::string cdn_header;                          // in lower case
  const std::unique_ptr<SharedRateTable> address_rates;  // null: no limit
  const std::unique_ptr<SharedRateTable> key_rates;      // likewise
  // The owner's; each worker has its own reference. Null: there are no keys, nothing needs one.
  std::shared_ptr<const Rights> rights;
  std::mutex nonces_mutex;  // taken only for a URL that is for once
  NonceTable nonces;
  MemoryBudget upload_memory;
  MemoryBudget download_memory;
  ConnectionCount connections;
  std::atomic<bool> was_writable{false};     // an upload would have found a block at least once
  std::atomic<uint64_t> last_success_ms{0};  // of anything that needed another process
  std::atomic<bool> stopping{false};
  std::atomic<uint32_t> loops_running{0};
  std::mutex view_mutex;  // taken when the cluster is asked, and for an answer to /v1/status
  ClusterView view;       // kept only if that is served
  std::function<void()> on_stopped;  // called by the last loop that ends, on its thread
  bool counts_bodies() const { return address_rates != nullptr || key_rates != nullptr; }
  // Why it cannot serve, or null. At first an upload must find a block; from then on anything of
  // the cluster must answer: reads go on without a writable block and without a nameserver.
  const char* NotReady(uint64_t now_ms) const;
};

class GatewayWorker : private HttpConnection::Handler {
 public:
  // `listener` listens and does not block. Borrows `shared`. `number`: 0, 1... among the workers.
  GatewayWorker(GatewayShared* shared, UniqueFd listener, uint32_t number);
  ~GatewayWorker() override;
  void Start();
  // After `delay_ms` no new connections; running requests are finished, for at most `patience_ms`
  // more. Then Join.
  void BeginStop(uint64_t delay_ms, uint64_t patience_ms);
  void Join();
  // From its next turn on; any thread.
  void UseRights(std::shared_ptr<const Rights> rights);
  void UseTier(std::shared_ptr<const CacheTier> tier);
  void Deliver(ReadDelivery&& delivery);
  // When its loop last ran its timer, on the monotonic clock; any thread may ask.
  uint64_t last_tick_ms() const { return last_tick_ms_.load(std::memory_order_relaxed); }

 private:
  struct Slot {
    std::unique_ptr<HttpConnection> connection;
    uint32_t generation = 0;
  };

  void OnRequest(HttpConnection* connection, const HttpRequest& request) override;
  void OnBody(HttpConnection* connection, Bytes piece) override;
  void OnBodyEnd(HttpConnection* connection) override;
  void OnBodyFault(HttpConnection* connection, const HttpFault& fault) override;
  void OnSent(HttpConnection* connection) override;
  void OnClosed(HttpConnection* connection) override;

  // worker_shell.cc: connections and the small resources
  void Accept(UniqueFd fd);
  HttpConnection* Find(uint64_t connection_id);
  void Tick();
  void StopListening();
  void CloseIdle();
  void ProbeCluster();
  void SetCors(HttpConnection* connection, const HttpRequest& request, const Route& route);
  void AnswerOptions(HttpConnection* connection, const HttpRequest& request, const Route& route);
  void AnswerReady(HttpConnection* connection);
  void AnswerNoRoute(HttpConnection* connection, HttpMethod method, const Route& route);
  bool PassesGuard(HttpConnection* connection, BrowserVerdict verdict);
  bool PassesReferer(HttpConnection* connection, const HttpRequest& request);

  // worker_shell_rates.cc
  bool PassesAddressRate(HttpConnection* connection, const HttpRequest& request,
                         const Route& route);
  bool PassesKeyRate(HttpConnection* connection, std::string_view key_name, const Route& route);
  bool TakeRate(HttpConnection* connection, SharedRateTable* table, const RateKey& key,
                const Route& route);
  bool TakeBodyRate(HttpConnection* connection, uint64_t bytes);
  void AnswerRateLimited(HttpConnection* connection, uint64_t wait_ms);

  void AnswerErr(HttpConnection* connection, Err err);
  void AnswerText(HttpConnection* connection, int status, std::string_view text);
  void AnswerJson(HttpConnection* connection, int status, std::string_view json);
  bool CheckToken(HttpConnection* connection, const HttpRequest& request);
  void Describe(HttpConnection* connection);
  void SetDelete(HttpConnection* connection, bool undelete);
  void OnSetDelete(HttpConnection* connection, bool undelete, const SetDeleteDone& done);
  void NoteSuccess();

  // worker_shell_pages.cc
  void AnswerPage(HttpConnection* connection, const HttpRequest& request, const Page& page);
  void AnswerStatus(HttpConnection* connection, const HttpRequest& request);
  std::string OwnStatusJson();

  // worker_shell_admission.cc
  Admission& LaneOf(Work work) { return work <= Work::kDescribe ? reads_ : writes_; }
  bool IsLateFor(const HttpConnection& connection);
  void Admit(HttpConnection* connection, Work work);
  void BeginWork(HttpConnection* connection);
  void WorkEnded(Admission* lane, uint64_t asked_ms);
  void ReadEnded(const HttpConnection* connection);
  void BeginWaiting(Admission* lane);
  void TickAdmission(uint64_t now_ms);
  void RefuseOverload(HttpConnection* connection);

  // worker_shell_rights.cc
  bool PassesRights(HttpConnection* connection, const HttpRequest& request, const Route& route);
  void RefuseRights(HttpConnection* connection, RightsVerdict::Kind kind);
  bool SpendNonce(HttpConnection* connection);

  // worker_shell_upload.cc
  void BeginUpload(HttpConnection* connection, const HttpRequest& request);
  void TakeSpareUpload(HttpConnection* connection, uint64_t size_max);
  HttpFault AddToUpload(UploadState* upload, Bytes piece);
  bool GrowUpload(UploadState* upload, uint64_t size);
  HttpFault FinishBytes(UploadState* upload);
  void RefuseUpload(HttpConnection* connection, const HttpFault& fault);
  void EndUpload(HttpConnection* connection);
  void Recycle(std::unique_ptr<UploadState> upload);
  void StoreBody(HttpConnection* connection);
  static HttpFault TypeFault(const Exchange& exchange);
  Err StoreUpload(HttpConnection* connection, UploadState* upload, size_t part);
  void NoteStored(HttpConnection* connection, const PutDone& done, uint64_t size);
  std::string StoredJson(const FileAddress& address, const StoredFile& file) const;
  void OnStored(HttpConnection* connection, const PutDone& done);
  void TellUnchecked(uint64_t now_ms);

  // worker_shell_form.cc
  void BeginForm(HttpConnection* connection, std::string_view boundary);
  void OnFormBytes(HttpConnection* connection, Bytes piece);
  void BeginPart(HttpConnection* connection);
  void AddToPart(HttpConnection* connection, Bytes piece);
  void EndPart(HttpConnection* connection);
  void StorePart(HttpConnection* connection);
  void RefusePart(HttpConnection* connection);
  void PartEnded(HttpConnection* connection);
  void OnPartStored(HttpConnection* connection, size_t part, const PutDone& done);
  void EndForm(HttpConnection* connection, const HttpFault& fault);
  void AnswerForm(HttpConnection* connection);

  // worker_shell_names.cc
  struct DirectoryCall {
    uint32_t shard = 0;
    MessageType type = MessageType::kDirStatus;
    std::string message{};
    Admission* lane = nullptr;
    std::vector<Err> also{};  // go on to `next` like kOk
    std::function<void(HttpConnection*, const AskDone&)> next{};
    std::function<void(HttpConnection*, Err)> refused{};  // another error, when nothing was done
  };
  bool TakeName(HttpConnection* connection, const HttpRequest& request, const Route& route);
  void BeginPutName(HttpConnection* connection, const HttpRequest& request, const Route& route);
  void AskDirectory(HttpConnection* connection, DirectoryCall&& call);
  uint32_t ShardOfOwnName(const HttpConnection* connection) const;
  void LookUpName(HttpConnection* connection);
  void OnName(HttpConnection* connection, Work work, const AskDone& done);
  bool MayWriteName(HttpConnection* connection);
  void LookAtFile(HttpConnection* connection);
  Err NoteFile(HttpConnection* connection, const GetDone& done);
  void TakeReference(HttpConnection* connection);
  void AskEpoch(HttpConnection* connection, bool adopted);
  void AddReference(HttpConnection* connection, uint64_t epoch, bool adopted);
  void AdoptFile(HttpConnection* connection);
  void OnNameStored(HttpConnection* connection, const PutDone& done);
  void WriteName(HttpConnection* connection);
  void GiveReferenceBack(HttpConnection* connection, Err why);
  void AnswerConflict(HttpConnection* connection);
  void AnswerName(HttpConnection* connection);
  void DeleteName(HttpConnection* connection);
  void BeginListNames(HttpConnection* connection, const HttpRequest& request);
  void ListNames(HttpConnection* connection);
  void OnNamesOfShard(HttpConnection* connection, uint32_t shard, const AskDone& done);

  // worker_shell_cache.cc
  bool AnswerAtOnce(HttpConnection* connection, const HttpRequest& request,
                    const CacheAnswer& found);
  void SendKept(HttpConnection* connection, const CachedFile& kept);
  void AnswerKept(HttpConnection* connection, const CachedFile& kept);
  void ReadThroughCache(HttpConnection* connection);
  void OnRead(const ReadDelivery& delivery);
  struct UploadedNeedle {
    Buffer stored{};
    std::string metadata{};
    uint32_t raw_size = 0;
    Encoding encoding = Encoding::kIdentity;
  };
  void KeepUploaded(const UploadedNeedle& needle, const PutDone& done, uint64_t began_ms);
  bool IsByCdn(const HttpConnection& connection, const HttpRequest& request) const;

  // worker_shell_warm.cc
  void BeginWarm(HttpConnection* connection, const HttpRequest& request);
  void AddToWarm(HttpConnection* connection, Bytes piece);
  void EndWarmBody(HttpConnection* connection);
  void WarmMore(HttpConnection* connection);
  void OnWarmed(HttpConnection* connection, const ReadDelivery& delivery);

  // worker_shell_download.cc
  void BeginDownload(HttpConnection* connection, const HttpRequest& request);
  bool NoteSaveName(HttpConnection* connection, std::string_view query);
  void ReadHead(HttpConnection* connection, DownloadState::Step step);
  uint64_t RunBytes() const;
  void ReadFirstRun(HttpConnection* connection);
  void Get(HttpConnection* connection, GetRequest&& request);
  void OnGot(HttpConnection* connection, GetDone&& done);
  void OnGetFailed(HttpConnection* connection, Err err);
  void AnswerFile(HttpConnection* connection, GetDone&& done);
  void ReadAfterHead(HttpConnection* connection);
  void AddCacheControl(const HttpConnection& connection, ResponseHead* out) const;
  static void AddForm(const Exchange& exchange, const NeedleHead& head, ResponseHead* out);
  void SendNotModified(HttpConnection* connection, const NeedleHead& head);
  void AnswerUnsatisfiable(HttpConnection* connection, uint64_t size);
  bool SettleRanges(HttpConnection* connection, const NeedleHead& head);
  Result<Buffer> FirstPayload(HttpConnection* connection, const NeedleHead& head, GetDone&& done);
  void SendFile(HttpConnection* connection, const NeedleHead& head, Buffer payload);
  void ReadNextRun(HttpConnection* connection);
  void SendRun(HttpConnection* connection, GetDone&& done);
  void SendPayload(HttpConnection* connection, Buffer payload);

  GatewayShared* const shared_;
  const uint32_t number_;
  const bool probes_;  // one worker of a gateway asks after the cluster's state
  Loop loop_;
  AsyncClient client_;
  CachedReadsShell cached_;
  SystemRandom random_;
  std::vector<uint64_t> epochs_;  // of each shard, as names' references were told last; 0: not yet
  std::shared_ptr<const Rights> rights_;  // null: off
  std::optional<AccessLog> access_log_;
  Admission reads_;
  Admission writes_;
  int64_t told_waiting_ = 0;  // our part of requests_waiting
  Buffer scratch_;
  HttpRequest request_;
  HttpConnection::Shared connection_shared_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  size_t open_connections_ = 0;
  std::vector<std::unique_ptr<UploadState>> spare_uploads_;
  uint64_t unchecked_untold_ = 0;  // uploads without the directory, since the log had a line
  uint64_t unchecked_told_ms_ = 0;
  std::vector<uint64_t> starved_;  // connections whose next run waits for memory
  std::vector<std::unique_ptr<HttpConnection>> closed_;  // destroyed at the end of the turn
  Loop::TurnEnd reap_;
  Loop::Handle tick_;
  Loop::Handle probe_;
  std::unique_ptr<Acceptor> acceptor_;
  uint64_t listen_until_ms_ = 0;   // while stopping
  uint64_t stop_deadline_ms_ = 0;  // 0: not stopping
  std::atomic<uint64_t> last_tick_ms_;
  std::thread thread_;
};

}  // namespace hayloft
