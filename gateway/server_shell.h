// The gateway as an object: its listening sockets and one worker for each loop.
//
// Threads: its owner's. Ownership: borrows nothing.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gateway/tier_shell.h"
#include "gateway/worker_shell.h"

namespace hayloft {

struct GatewayConfig {
  GatewayOptions options;
  AsyncClientOptions client;
  ClusterKey key;
};

class GatewayServer {
 public:
  explicit GatewayServer(GatewayConfig config);
  ~GatewayServer();  // stops at once

  // kConfig with one line of cause in `why`: not an address, port in use, no key.
  Err Start(std::string* why);
  // The address that it listens on, with the real port.
  const std::string& address() const { return address_; }
  // Says so in the log when the TLS certificate has expired, or will within two weeks.
  void WarnOfExpiry(uint64_t wall_ms) const;
  // Takes files up again that may have changed: the access log goes on in a new file. Everything
  // that SIGHUP is for stands here. Never fails: what cannot be read stays as it was, with an error
  // in the log.
  void Reload();
  // Drains, by the options drain_delay_ms and drain_ms: it is not ready from now on, each answer is
  // its connection's last. Calls `on_stopped` from another thread when all loops have ended.
  void BeginStop(std::function<void()> on_stopped);
  // No new connections; running requests are finished, for at most `patience_ms`.
  void Stop(uint64_t patience_ms);

  // The reason why it is not ready, or empty. Also when a loop of its own hangs.
  std::string NotReady(uint64_t now_mono_ms) const;
  void PrintMetrics(MetricsText* out) const;
  const GatewayShared& shared() const { return shared_; }

 private:
  Err StartTier(std::string* why);
  void PrintFeeds(MetricsText* out) const;
  Err LoadTls(std::string* why);
  void ReloadTls();
  bool HasKeys() const;
  Err LoadRights(std::string* why);
  void ReloadRights();

  GatewayConfig config_;
  GatewayShared shared_;
  std::string address_;
  std::vector<std::unique_ptr<GatewayWorker>> workers_;
  std::unique_ptr<TierShell> tier_;
};

}  // namespace hayloft
