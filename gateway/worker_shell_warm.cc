// POST /v1/warm: files that will be asked for soon are brought into memory, each where it is kept.
//
// A few at a time, so that warming never takes the store from readers. The answer says how many are
// there, and which could not be read.
#include <algorithm>
#include <utility>

#include "common/io/json.h"
#include "gateway/object_text.h"
#include "gateway/worker_shell.h"

namespace hayloft {

namespace {

constexpr size_t kWarmBodyBytesMax = 64 << 10;
constexpr size_t kWarmIdsMax = 1'000;
constexpr size_t kWarmAtOnce = 8;

// The addresses of {"ids":["...", ...]}; false: it is something else, too many, or none.
bool ParseIds(std::string_view body, std::vector<FileAddress>* ids) {
  const Result<Json> json = Json::Parse(body);
  if (!json.ok()) return false;
  const Json* list = json->Find("ids");
  if (list == nullptr || list->array().empty() || list->array().size() > kWarmIdsMax) return false;
  for (const Json& id : list->array()) {
    const std::optional<FileAddress> address = ParseFileAddress(id.text());
    if (!address) return false;
    ids->push_back(*address);
  }
  std::sort(ids->begin(), ids->end());  // one that is named twice is read once
  ids->erase(std::unique(ids->begin(), ids->end()), ids->end());
  return true;
}

}  // namespace

void GatewayWorker::BeginWarm(HttpConnection* connection, const HttpRequest& request) {
  if (shared_->options.cache_bytes == 0) {
    return AnswerError(connection, {.status = 501, .message = "This gateway keeps no files."});
  }
  if (!request.chunked && !request.has_content_length) {
    return AnswerError(connection, {.status = 411, .message = "The list of ids needs a length."});
  }
  if (request.content_length > kWarmBodyBytesMax) {
    return AnswerError(connection, {.status = 413, .message = "The list of ids is too long."});
  }
  if (reads_.WouldRefuse() || IsLateFor(*connection)) {
    connection->exchange.work = Work::kDescribe;
    return RefuseOverload(connection);
  }
  connection->exchange.refused = false;
  connection->exchange.warm = std::make_unique<WarmState>();
  connection->ReadBody();
}

void GatewayWorker::AddToWarm(HttpConnection* connection, Bytes piece) {
  std::string& body = connection->exchange.warm->body;
  if (body.size() + piece.size() <= kWarmBodyBytesMax) {
    body.append(AsText(piece));
    return;
  }
  connection->exchange.warm.reset();
  AnswerError(connection, {.status = 413, .message = "The list of ids is too long."});
}

void GatewayWorker::EndWarmBody(HttpConnection* connection) {
  WarmState& warm = *connection->exchange.warm;
  if (!ParseIds(std::exchange(warm.body, {}), &warm.ids)) {
    connection->exchange.warm.reset();
    return AnswerError(
        connection, {.status = 400,
                     .message = "Not of the form {\"ids\":[\"<id>\", ...]} with 1 to 1,000 ids."});
  }
  WarmMore(connection);
}

void GatewayWorker::WarmMore(HttpConnection* connection) {
  WarmState& warm = *connection->exchange.warm;
  // Readers who wait for the store go first.
  const size_t at_once = reads_.waiting() > 0 ? 1 : kWarmAtOnce;
  while (warm.reading < at_once && warm.next < warm.ids.size()) {
    ++warm.reading;
    reads_.Begin();
    connection->exchange.store_asked_ms = loop_.now().mono_ms;
    cached_.Read(warm.ids[warm.next++], {}, connection->id);
  }
  if (warm.reading > 0) return;
  std::string failed = "[";
  for (const auto& [id, error] : warm.failed) {
    if (failed.size() > 1) failed.push_back(',');
    failed.append(ObjectText().Text("id", id).Text("error", error).End());
  }
  failed.push_back(']');
  const std::string json = ObjectText()
                               .Number("warmed", warm.ids.size() - warm.failed.size())
                               .Raw("failed", failed)
                               .End();
  connection->exchange.warm.reset();
  AnswerJson(connection, 200, json + "\n");
}

void GatewayWorker::OnWarmed(HttpConnection* connection, const ReadDelivery& delivery) {
  WarmState& warm = *connection->exchange.warm;
  --warm.reading;
  const FileRead& read = *delivery.read;
  const Found found = cached_.Look(read.address).found;
  const bool kept = found == Found::kHit || found == Found::kAsk;
  if (read.err != Err::kOk) {
    warm.failed.emplace_back(ToText(read.address), ErrName(read.err));
  } else if (read.doubtful || (read.from != ReadFrom::kPeer && !kept)) {
    warm.failed.emplace_back(ToText(read.address), "not_kept");
  }
  WarmMore(connection);
}

}  // namespace hayloft
