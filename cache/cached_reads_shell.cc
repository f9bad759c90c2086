#include "cache/cached_reads_shell.h"

namespace hayloft {

CachedReadsShell::CachedReadsShell(Loop* loop, AsyncClient* client, const RpcClientOptions& rpc,
                                   CachedReadsOptions options, SharedCache* cache, FeedTable* feeds,
                                   std::function<void(ReadDelivery&&)> deliver)
    : loop_(loop),
      client_(client),
      core_(std::move(options), cache, feeds),
      peers_(loop, rpc),
      deliver_(std::move(deliver)),
      deliver_ready_(loop, [this] {
        for (ReadDelivery& one : std::exchange(ready_, {})) deliver_(std::move(one));
      }) {
  peers_.OnDone([this](CallDone&& done) {
    ReadsOutbox out;
    core_.OnPeerDone(std::move(done), ThisMoment(), &out);
    Carry(&out);
  });
}

void CachedReadsShell::Read(const FileAddress& address, const ReadTerms& terms, uint64_t reader) {
  ReadsOutbox out;
  core_.Begin(address, terms, reader, ThisMoment(), &out);
  Carry(&out);
}

void CachedReadsShell::Carry(ReadsOutbox* out) {
  for (ReadsOutbox::Get& get : out->gets) {
    client_->Get(std::move(get.request), [this, id = get.fetch_id](GetDone&& done) {
      ReadsOutbox more;
      core_.OnGot(id, std::move(done), ThisMoment(), &more);
      Carry(&more);
    });
  }
  for (RpcCall& call : out->peer_calls) peers_.Call(std::move(call));
  if (out->deliveries.empty()) return;
  for (ReadDelivery& one : out->deliveries) ready_.push_back(std::move(one));
  deliver_ready_.Schedule();
}

}  // namespace hayloft
