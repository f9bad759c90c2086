#include "gateway/server_shell.h"

#include <algorithm>
#include <thread>

#include "common/io/server_start.h"
#include "common/io/socket_address.h"
#include "common/io/system_clock.h"
#include "common/io/system_random.h"
#include "common/log.h"

namespace hayloft {

namespace {

constexpr size_t kKeyBytesMin = 32;
constexpr uint64_t kLoopStallMs = 3'000;
constexpr int64_t kDayS = 86'400;
constexpr int64_t kExpiryWarningS = 14 * kDayS;

// With SO_REUSEPORT a second gateway on the same port would quietly take half of the clients. So
// the port is tried without it first.
Result<SocketAddress> ClaimPort(const SocketAddress& wanted) {
  TRY_ASSIGN(const UniqueFd probe, ListenOn(wanted, {}));
  return BoundAddress(probe.get());
}

}  // namespace

GatewayServer::GatewayServer(GatewayConfig config)
    : config_(std::move(config)), shared_(config_.options) {
  shared_.client_options = config_.client;
  shared_.client_options.rpc.metrics = &shared_.rpc_metrics;
  shared_.client_options.core.shared_locations = &shared_.locations;
  // All workers speak as one: they have one network, and the nameserver believes two reporters.
  shared_.client_options.core.reporter = SystemRandom().Next64();
  shared_.key = config_.key;
}

GatewayServer::~GatewayServer() { Stop(0); }

Err GatewayServer::Start(std::string* why) {
  ASSERT(workers_.empty());
  if (config_.key.bytes.size() < kKeyBytesMin) {
    *why = "the gateway needs a cluster key of at least 32 bytes: delete tokens rest on it";
    return Err::kConfig;
  }
  Result<std::unique_ptr<SharedCache>> cache = SharedCache::Create(config_.options.cache_bytes);
  if (!cache.ok()) {
    *why = "cache_bytes: there is not so much memory";
    return Err::kConfig;
  }
  shared_.cache = std::move(*cache);
  if (!config_.options.access_log.empty()) {
    shared_.access_writer =
        LineWriter::Open(config_.options.access_log, &shared_.metrics.access_log_lost_total);
    if (shared_.access_writer == nullptr) {
      *why = "access_log: cannot append to " + config_.options.access_log;
      return Err::kConfig;
    }
  }
  if (!config_.options.tls_certificate.empty()) {
    shared_.tls = std::make_unique<TlsContext>();
    TRY(LoadTls(why));
  }
  if (HasKeys()) TRY(LoadRights(why));
  const Result<SocketAddress> wanted = ParseSocketAddress(config_.options.listen);
  if (!wanted.ok()) {
    *why = "not an address to listen on: " + config_.options.listen;
    return Err::kConfig;
  }
  const Result<SocketAddress> claimed = ClaimPort(*wanted);
  uint32_t loops = config_.options.loops;
  if (loops == 0) loops = std::max(1u, std::thread::hardware_concurrency());
  for (uint32_t i = 0; claimed.ok() && i < loops; ++i) {
    Result<UniqueFd> listener = ListenOn(*claimed, {.reuse_port = true});
    if (!listener.ok()) break;
    workers_.push_back(std::make_unique<GatewayWorker>(&shared_, std::move(*listener), i));
  }
  if (workers_.size() < loops) {
    workers_.clear();
    const Err err = claimed.err();
    *why = "cannot listen on " + config_.options.listen + ": " +
           std::string(err == Err::kExists ? "the port is in use" : ErrMeaning(err));
    return Err::kConfig;
  }
  TRY(StartTier(why));
  address_ = SocketAddressText(*claimed);
  for (const auto& worker : workers_) worker->Start();
  LOG_INFO("gateway_started", "address=%s loops=%u", address_.c_str(), loops);
  return Err::kOk;
}

// The loops that share the cache are the workers', then the tier's.
Err GatewayServer::StartTier(std::string* why) {
  tier_ = std::make_unique<TierShell>(&shared_, static_cast<uint32_t>(workers_.size()));
  if (const Err err = tier_->Listen(why); err != Err::kOk) {
    tier_.reset();
    workers_.clear();
    return err;
  }
  for (const auto& worker : workers_) {
    shared_.readers.emplace_back(
        [&worker](ReadDelivery&& delivery) { worker->Deliver(std::move(delivery)); });
  }
  shared_.readers.emplace_back(
      [this](ReadDelivery&& delivery) { tier_->Deliver(std::move(delivery)); });
  tier_->Start([this](const std::shared_ptr<const CacheTier>& tier) {
    for (const auto& worker : workers_) worker->UseTier(tier);
  });
  return Err::kOk;
}

std::string GatewayServer::NotReady(uint64_t now_mono_ms) const {
  for (const auto& worker : workers_) {
    if (now_mono_ms > worker->last_tick_ms() + kLoopStallMs) return "a loop hangs";
  }
  const char* reason = shared_.NotReady(now_mono_ms);
  return reason == nullptr ? "" : reason;
}

void GatewayServer::PrintMetrics(MetricsText* out) const {
  shared_.http_metrics.Print(out);
  shared_.metrics.Print(out);
  shared_.times.Print(out);
  if (shared_.cache != nullptr) {
    shared_.cache->Print(out);
    PrintFeeds(out);
  }
  if (shared_.tls != nullptr) {
    out->AddGauge({"hayloft_gateway_", "tls_certificate_expires_s",
                   "when the TLS certificate ends, in seconds since 1970"},
                  shared_.tls->expires_s());
  }
  shared_.rpc_metrics.Print(out);
}

void GatewayServer::PrintFeeds(MetricsText* out) const {
  const FeedTable::Stats feeds = shared_.feeds.StatsAt(SystemMonotonicMs());
  out->AddGauge({"hayloft_gateway_", "feeds", "dsps of which files are kept"},
                static_cast<int64_t>(feeds.feeds));
  out->AddGauge(
      {"hayloft_gateway_", "feeds_trusted",
       "those of them whose feed of deletes is heard; of others each file is asked about"},
      static_cast<int64_t>(feeds.trusted));
}

Err GatewayServer::LoadTls(std::string* why) {
  return shared_.tls->Load(
      {.certificate = config_.options.tls_certificate, .key = config_.options.tls_key}, why);
}

void GatewayServer::WarnOfExpiry(uint64_t wall_ms) const {
  if (shared_.tls == nullptr) return;
  const int64_t left_s = shared_.tls->expires_s() - static_cast<int64_t>(wall_ms / 1'000);
  if (left_s >= kExpiryWarningS) return;
  LOG_WARN("tls_certificate_expires", "days_left=%lld expired=%s",
           static_cast<long long>(left_s / kDayS), left_s < 0 ? "yes" : "no");
}

void GatewayServer::ReloadTls() {
  std::string why;
  if (LoadTls(&why) == Err::kOk) {
    LOG_INFO("tls_certificate_loaded", "expires_s=%lld",
             static_cast<long long>(shared_.tls->expires_s()));
  } else {
    LOG_ERROR("tls_certificate_not_loaded", "cause=\"%s\" action=keep_old", LogText(why).c_str());
  }
}

bool GatewayServer::HasKeys() const {
  return !config_.options.upload_keys.empty() || !config_.options.signing_keys.empty();
}

// Of the keys as they lie in their files now. The former ones stay when any of them is unfit.
Err GatewayServer::LoadRights(std::string* why) {
  const GatewayOptions& options = config_.options;
  RightsKeys keys{.signed_reads = options.signed_reads, .skew_s = options.signed_url_skew_s};
  const auto load = [why](std::string_view option, const std::string& path, auto parse, auto* to) {
    if (path.empty()) return Err::kOk;
    const Result<std::string> text = ReadSecretFile(path, kKeyFileBytesMax, why);
    if (!text.ok()) {
      why->insert(0, std::string(option) + ": ");
      return Err::kConfig;
    }
    auto parsed = parse(*text, why);
    if (!parsed.ok()) {
      why->insert(0, std::string(option) + ": " + path + ": ");
      return Err::kConfig;
    }
    *to = std::move(*parsed);
    return Err::kOk;
  };
  TRY(load("upload_keys", options.upload_keys, ParseUploadKeys, &keys.upload));
  TRY(load("signing_keys", options.signing_keys, ParseSigningKeys, &keys.signing));
  LOG_INFO("keys_loaded", "upload_keys=%zu signing_keys=%zu", keys.upload.size(),
           keys.signing.size());
  shared_.rights = std::make_shared<const Rights>(std::move(keys));
  return Err::kOk;
}

void GatewayServer::ReloadRights() {
  std::string why;
  if (LoadRights(&why) != Err::kOk) {
    LOG_ERROR("keys_not_loaded", "cause=\"%s\" action=keep_old", LogText(why).c_str());
    return;
  }
  for (const auto& worker : workers_) worker->UseRights(shared_.rights);
}

void GatewayServer::Reload() {
  if (HasKeys()) ReloadRights();
  if (shared_.tls != nullptr) ReloadTls();
  if (shared_.access_writer != nullptr) shared_.access_writer->Reopen();
}

void GatewayServer::BeginStop(std::function<void()> on_stopped) {
  shared_.on_stopped = std::move(on_stopped);
  shared_.stopping.store(true);
  const GatewayOptions& options = shared_.options;
  if (tier_ != nullptr) tier_->Leave();
  for (const auto& worker : workers_) worker->BeginStop(options.drain_delay_ms, options.drain_ms);
}

void GatewayServer::Stop(uint64_t patience_ms) {
  shared_.stopping.store(true);
  for (const auto& worker : workers_) worker->BeginStop(0, patience_ms);
  for (const auto& worker : workers_) worker->Join();
  if (tier_ != nullptr) tier_->Stop();
  workers_.clear();
  tier_.reset();
}

}  // namespace hayloft
