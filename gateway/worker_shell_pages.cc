// Pages for people, and the status of the cluster that one of them shows.
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

}  // namespace hayloft
