// Rate limits: by the client's address, and by the key that it shows.
#include "gateway/rate_limiter_shell.h"
#include "gateway/worker_shell.h"

namespace hayloft {

namespace {

constexpr const char* kRateLimited =
    "More is asked for than this client may in this time; Retry-After says when again.";

uint64_t WholeSeconds(uint64_t ms) { return (ms + 999) / 1'000; }

}  // namespace

// False when it was refused and answered. Who asks whether the gateway is alive always hears it.
bool GatewayWorker::PassesAddressRate(HttpConnection* connection, const HttpRequest& request,
                                      const Route& route) {
  if (route.kind == Route::Kind::kHealth || route.kind == Route::Kind::kReady) return true;
  RateKey& key = connection->exchange.address_rate_key;
  key = RateKeyOf(shared_->trusted_proxies.ClientOf(connection->peer, request));
  return TakeRate(connection, shared_->address_rates.get(), key, route);
}

// Likewise, once it is known which key allows the request.
bool GatewayWorker::PassesKeyRate(HttpConnection* connection, std::string_view key_name,
                                  const Route& route) {
  if (shared_->key_rates == nullptr || key_name.empty()) return true;
  const RateKey key = RateKeyOfName(key_name);
  connection->exchange.name_rate_key = key;
  return TakeRate(connection, shared_->key_rates.get(), key, route);
}

bool GatewayWorker::TakeRate(HttpConnection* connection, SharedRateTable* table, const RateKey& key,
                             const Route& route) {
  const uint64_t now_ms = loop_.now().mono_ms;
  uint64_t wait_ms = table->TakeRequest(key, now_ms);
  if (wait_ms == 0 && route.stores()) {
    wait_ms = table->BeginUpload(key, now_ms);
  }
  if (wait_ms > 0) AnswerRateLimited(connection, wait_ms);
  return wait_ms == 0;
}

// False when too much has come, and that was answered, or will be once what is stored is known.
bool GatewayWorker::TakeBodyRate(HttpConnection* connection, uint64_t bytes) {
  const uint64_t now_ms = loop_.now().mono_ms;
  Exchange& exchange = connection->exchange;
  uint64_t wait_ms = 0;
  if (shared_->address_rates != nullptr) {
    wait_ms = shared_->address_rates->TakeBytes(exchange.address_rate_key, bytes, now_ms);
  }
  if (exchange.name_rate_key) {
    wait_ms =
        std::max(wait_ms, shared_->key_rates->TakeBytes(*exchange.name_rate_key, bytes, now_ms));
  }
  if (wait_ms == 0) return true;
  if (exchange.form == nullptr) {
    EndUpload(connection);
    AnswerRateLimited(connection, wait_ms);
    return false;
  }
  shared_->metrics.rate_limited_total.Add();
  exchange.form->retry_after_s = WholeSeconds(wait_ms);
  connection->AbandonBody();
  EndForm(connection, {429, kRateLimited});
  return false;
}

void GatewayWorker::AnswerRateLimited(HttpConnection* connection, uint64_t wait_ms) {
  shared_->metrics.rate_limited_total.Add();
  AnswerError(connection,
              {.status = 429, .message = kRateLimited, .retry_after_s = WholeSeconds(wait_ms)});
}

}  // namespace hayloft
