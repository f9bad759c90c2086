// Pages for people, and the status of the cluster that one of them shows.
#include <algorithm>

#include "common/version.h"
#include "gateway/object_text.h"
#include "gateway/worker_shell.h"

namespace hayloft {

void GatewayWorker::AnswerPage(HttpConnection* connection, const HttpRequest& request,
                               const Page& page) {
  if (!PassesGuard(connection, shared_->browser_guard.CheckPage(request))) return;
  Conditions conditions = ParseConditions(request, page.etag);
  // It has no date (RFC 9110 sections 13.1.3 and 13.1.4).
  conditions.if_modified_since.reset();
  conditions.if_unmodified_since.reset();
  const Verdict verdict = Evaluate(conditions, 0);
  if (verdict == Verdict::kFailed) {
    return AnswerError(connection,
                       {.status = 412, .message = "A condition of the request does not hold."});
  }
  const bool whole = verdict == Verdict::kProceed;
  ResponseHead head = connection->Head(whole ? 200 : 304);
  if (whole) head.Add("Content-Type", page.type).Add("Content-Length", page.bytes.size());
  // Kept, but asked for again each time: a new release shows at once.
  head.Add("ETag", page.etag).Add("Cache-Control", "no-cache");
  connection->out()->append(kPageHeaderLines);
  head.End();
  if (whole && !connection->is_head()) connection->out()->append(page.bytes);
  connection->SendAll();
}

// For the status page, and not for pages of others: no CORS, and no name that was rebound.
void GatewayWorker::AnswerStatus(HttpConnection* connection, const HttpRequest& request) {
  if (!PassesGuard(connection, shared_->browser_guard.CheckPage(request))) return;
  const std::string own = OwnStatusJson();
  std::string json;
  {
    const std::lock_guard<std::mutex> lock(shared_->view_mutex);
    json = shared_->view.Json(own, loop_.now().mono_ms);
  }
  connection->AddToAnswer("Cross-Origin-Resource-Policy: same-origin\r\n");
  AnswerJson(connection, 200, json);
}

std::string GatewayWorker::OwnStatusJson() {
  ObjectText counters;
  const auto add = [&counters](std::string_view name, const auto& metric) {
    counters.Number(
        name, static_cast<uint64_t>(std::max<int64_t>(0, static_cast<int64_t>(metric.value()))));
  };
#define X(type, name, help) add(#name, shared_->metrics.name);
  GATEWAY_METRICS(X)
#undef X
#define X(type, name, help) add("http_" #name, shared_->http_metrics.name);
  HTTP_METRICS(X)
#undef X
  return ObjectText()
      .Text("version", kVersion)
      .Flag("ready", shared_->NotReady(loop_.now().mono_ms) == nullptr)
      .Raw("counters", counters.End())
      .End();
}

}  // namespace hayloft
