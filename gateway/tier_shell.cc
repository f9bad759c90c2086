#include "gateway/tier_shell.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/io/socket_address.h"
#include "common/io/system_clock.h"
#include "common/log.h"

namespace hayloft {

namespace {

constexpr uint64_t kPollMs = 50;
constexpr uint64_t kHelloMs = 1'000;
constexpr uint32_t kHelloTimeoutMs = 900;
constexpr uint32_t kHottestTimeoutMs = 2'000;
constexpr uint32_t kRefillTimeoutMs = 1'000;
constexpr uint32_t kRefillInFlight = 8;  // reads of one gateway
constexpr uint32_t kRefillTries = 5;
constexpr uint64_t kRefillMs =
    10'000;  // after its start a gateway asks those that it comes to know
constexpr uint32_t kPeerReadsMax = 2'048;

FileAddress AddressOf(const pb::FileName& name) {
  return {name.block_id(), FileId{name.file_id()}};
}

bool IsSound(const FileRead& read) {
  const Result<NeedleHead> head = ParseNeedleHead(AsBytes(read.head));
  return head.ok() && read.stored.size() == head->header.stored_size &&
         CheckPieces(*head, 0, read.stored.bytes()) == Err::kOk;
}

}  // namespace

TierShell::TierShell(GatewayShared* shared, uint32_t loop_number)
    : shared_(shared),
      number_(loop_number),
      client_(&loop_, shared->client_options),
      cached_(&loop_, &client_, shared->client_options.rpc,
              CachedReadsOptionsOf(shared, loop_number), shared->cache.get(), &shared->feeds,
              [this](ReadDelivery&& delivery) {
                const uint32_t loop = delivery.to.loop;
                loop == number_ ? OnRead(delivery) : shared_->readers[loop](std::move(delivery));
              }),
      rpc_(&loop_, shared->client_options.rpc),
      feed_rpc_(&loop_, shared->client_options.rpc) {
  rpc_.OnDone([this](CallDone&& done) {
    auto call = calls_.extract(done.call_id);
    ASSERT(!call.empty());
    call.mapped()(std::move(done));
  });
  feed_rpc_.OnDone([this](CallDone&& done) { OnFeed(std::move(done)); });
}

TierShell::~TierShell() { ASSERT(!thread_.joinable()); }

Err TierShell::Listen(std::string* why) {
  const GatewayOptions& options = shared_->options;
  if (options.tier_listen.empty()) return Err::kOk;
  RpcServerOptions server;
  server.listen = options.tier_listen;
  server.cluster_key = shared_->key.bytes;
  // Who asks gives up after peer_timeout_ms and asks a dsp itself: more would be read for nobody.
  server.bounds[static_cast<size_t>(RpcQueue::kClient)].requests_max = kPeerReadsMax;
  server_ = std::make_unique<RpcServer>(&loop_, server);
  server_->OnRequest([this](RpcRequest&& request) { OnRequest(std::move(request)); });
  const Err err = server_->Listen(why);
  if (err != Err::kOk) {
    why->insert(0, "tier_listen: ");
    server_.reset();
    return err;
  }
  address_ = options.tier_advertise.empty() ? server_->address() : options.tier_advertise;
  // All hosts have this one: it is nobody's name.
  const bool any = address_.starts_with("0.0.0.0:") || address_.starts_with("[::]:");
  if (any || !ParseSocketAddress(address_).ok()) {
    *why = any ? "tier_advertise: where do other gateways reach " + address_ + "?"
               : "tier_advertise: not an IP:PORT: " + address_;
    server_.reset();
    return Err::kConfig;
  }
  view_ = std::make_unique<TierView>(address_);
  LOG_INFO("tier_listens", "address=%s told=%s", server_->address().c_str(), address_.c_str());
  return Err::kOk;
}

void TierShell::Start(std::function<void(std::shared_ptr<const CacheTier>)> use) {
  use_ = std::move(use);
  thread_ = std::thread([this] {
    (void)pthread_setname_np(pthread_self(), "gateway-tier");  // only for people
    poll_ = loop_.Every(kPollMs, [this] { PollFeeds(); });
    if (view_ != nullptr) {
      began_ms_ = SystemMonotonicMs();
      SayHello();
      hello_ = loop_.Every(kHelloMs, [this] { SayHello(); });
    }
    loop_.Run();
    // What the loop's handles belong to must go on the loop's thread.
    poll_.reset();
    hello_.reset();
    server_.reset();
  });
}

// The others learn of it at once, and take over what is asked for while this one still answers
// them.
void TierShell::Leave() {
  loop_.Post([this] {
    if (view_ == nullptr || leaves_) return;
    leaves_ = true;
    hello_.reset();
    SayHello();
  });
}

// What Leave has begun to tell leaves before the loop ends.
void TierShell::Stop() {
  if (!thread_.joinable()) return;
  Leave();
  loop_.Post([this] {
    if (hellos_ == 0) return loop_.Stop();
    stops_ = true;
    hello_ = loop_.After(kHelloMs, [this] { loop_.Stop(); });
  });
  thread_.join();
}

void TierShell::Deliver(ReadDelivery&& delivery) {
  loop_.Post([this, delivery = std::move(delivery)] { OnRead(delivery); });
}

// --- feeds of deletes

void TierShell::PollFeeds() {
  std::vector<RpcCall> calls;
  shared_->feeds.Poll(loop_.now(), &calls);
  for (RpcCall& call : calls) feed_rpc_.Call(std::move(call));
}

// What came is applied before the feed is trusted for it.
void TierShell::OnFeed(CallDone&& done) {
  std::vector<FileChange> changes;
  // By the clock of this moment: what came while the loop was in a turn is not from its beginning.
  const Now now{.mono_ms = SystemMonotonicMs(), .wall_ms = loop_.now().wall_ms};
  shared_->feeds.OnDone(done, now, &changes);
  shared_->cache->Apply(changes, SystemMonotonicMs());
  PollFeeds();
}

// --- who is there

void TierShell::Call(RpcCall&& call, std::function<void(CallDone&&)> then) {
  call.call_id = next_call_id_++;
  calls_.emplace(call.call_id, std::move(then));
  rpc_.Call(std::move(call));
}

void TierShell::SayHello() {
  pb::GatewayHelloRequest message;
  message.set_address(address_);
  message.set_leaves(leaves_);
  for (const std::string& nameserver : shared_->client_options.core.nameservers) {
    RpcCall call;
    call.address = nameserver;
    call.type = MessageType::kGatewayHello;
    call.timeout_ms = kHelloTimeoutMs;
    call.message = message.SerializeAsString();
    ++hellos_;
    Call(std::move(call), [this, nameserver](CallDone&& done) {
      --hellos_;
      if (stops_ && hellos_ == 0) return loop_.Stop();
      if (leaves_) return;
      if (done.err == Err::kInvalid) {
        LOG_ERROR("tier_address_refused", "address=%s nameserver=%s", address_.c_str(),
                  nameserver.c_str());
      }
      pb::GatewayHelloReply reply;
      if (done.err == Err::kOk && reply.ParseFromString(done.message)) {
        view_->Note(nameserver, reply, loop_.now().mono_ms);
      }
      if (auto tier = view_->Changed(loop_.now().mono_ms)) UseTier(std::move(tier));
    });
  }
}

void TierShell::UseTier(std::shared_ptr<const CacheTier> tier) {
  LOG_INFO("tier_changed", "gateways=%zu", tier->addresses.size());
  shared_->metrics.gateways.Set(static_cast<int64_t>(tier->addresses.size()));
  tier_ = std::move(tier);
  cached_.UseTier(tier_);
  use_(tier_);
  if (SystemMonotonicMs() < began_ms_ + kRefillMs) AskForHottest();
}

// --- other gateways ask

void TierShell::OnRequest(RpcRequest&& request) {
  switch (request.type) {
    case MessageType::kRead:
      return AnswerRead(std::move(request));
    case MessageType::kHottest:
      return AnswerHottest(request);
    default:
      return server_->Reply(
          {.token = request.token, .type = request.type, .err = Err::kUnsupported});
  }
}

void TierShell::AnswerRead(RpcRequest&& request) {
  pb::ReadRequest message;
  if (!message.ParseFromString(request.message)) {
    return server_->Reply({.token = request.token, .type = request.type, .err = Err::kInvalid});
  }
  const FileAddress address{message.block_id(), FileId{message.file_id()}};
  Read(address,
       {.by_cdn = message.by_cdn(), .from_peer = true, .cached_only = message.cached_only()},
       [this, token = request.token](const FileRead& read) {
         if (server_ == nullptr) return;  // it is stopping
         server_->Reply(ReplyToPeer(token, read));
       });
}

// Readers are bounded by what the server lets in, and by refills.
void TierShell::Read(const FileAddress& address, const ReadTerms& terms,
                     std::function<void(const FileRead&)> then) {
  const uint64_t reader = next_reader_++;
  readers_.emplace(reader, std::move(then));
  cached_.Read(address, terms, reader);
}

void TierShell::OnRead(const ReadDelivery& delivery) {
  const auto reader = readers_.extract(delivery.to.id);
  ASSERT(!reader.empty());
  reader.mapped()(*delivery.read);
}

void TierShell::AnswerHottest(const RpcRequest& request) {
  pb::HottestRequest message;
  RpcReply reply{.token = request.token, .type = request.type};
  const bool parses = message.ParseFromString(request.message);
  if (!parses || tier_ == nullptr || message.count() > kHottestMax) {
    reply.err = parses && message.count() <= kHottestMax ? Err::kUnavailable : Err::kInvalid;
    return server_->Reply(std::move(reply));
  }
  const auto asker = std::find(tier_->addresses.begin(), tier_->addresses.end(), message.address());
  if (asker == tier_->addresses.end()) {  // not heard of yet: it asks again
    reply.err = Err::kUnavailable;
    return server_->Reply(std::move(reply));
  }
  const auto index = static_cast<size_t>(asker - tier_->addresses.begin());
  pb::HottestReply hottest;
  for (const FileAddress& address : shared_->cache->Hottest(kHottestMax)) {
    if (tier_->OwnerOf(address) != index) continue;
    if (hottest.files_size() >= static_cast<int>(message.count())) break;
    pb::FileName& name = *hottest.add_files();
    name.set_block_id(address.block_id);
    name.set_file_id(address.file_id.value);
  }
  reply.message = hottest.SerializeAsString();
  server_->Reply(std::move(reply));
}

// --- refill

void TierShell::AskForHottest() {
  for (const std::string& peer : tier_->addresses) {
    const auto asked = [&peer](const auto& refill) { return refill->peer == peer; };
    if (peer == address_ || std::any_of(refills_.begin(), refills_.end(), asked)) continue;
    refills_.push_back(std::make_unique<Refill>());
    refills_.back()->peer = peer;
    AskForHottest(refills_.back().get());
  }
}

void TierShell::AskForHottest(Refill* refill) {
  pb::HottestRequest message;
  message.set_address(address_);
  message.set_count(kHottestMax);
  RpcCall call;
  call.address = refill->peer;
  call.type = MessageType::kHottest;
  call.timeout_ms = kHottestTimeoutMs;
  call.message = message.SerializeAsString();
  Call(std::move(call), [this, refill](CallDone&& done) {
    pb::HottestReply reply;
    if (done.err != Err::kOk || !reply.ParseFromString(done.message)) {
      // It may not have heard of this one yet.
      if (++refill->tries >= kRefillTries) return;
      refill->again = loop_.After(kHelloMs, [this, refill] { AskForHottest(refill); });
      return;
    }
    for (const pb::FileName& name : reply.files()) {
      if (name.block_id() <= kBlockIdMax) refill->files.push_back(AddressOf(name));
    }
    LOG_INFO("refill", "peer=%s files=%d", refill->peer.c_str(), reply.files_size());
    while (refill->asked < kRefillInFlight && !refill->files.empty()) AskRefill(refill);
  });
}

// Of the other's memory, not of a disk.
void TierShell::AskRefill(Refill* refill) {
  const FileAddress address = refill->files.front();
  refill->files.pop_front();
  ++refill->asked;
  pb::ReadRequest message;
  message.set_block_id(address.block_id);
  message.set_file_id(address.file_id.value);
  message.set_length(kCachedFileBytesMax);
  message.set_cached_only(true);
  RpcCall call;
  call.address = refill->peer;
  call.type = MessageType::kRead;
  call.timeout_ms = kRefillTimeoutMs;
  call.message = message.SerializeAsString();
  const uint64_t began_ms = loop_.now().mono_ms;
  Call(std::move(call), [this, refill, address, began_ms](CallDone&& done) {
    if (done.err == Err::kUnavailable || done.err == Err::kTimeout) refill->files.clear();
    OnRefilled(refill, address, ReadOfPeer(address, std::move(done)), began_ms);
  });
}

// Asked about at once, while nobody waits for it: from then on it has a feed, and its dsps are
// known should no nameserver be there to tell of them.
void TierShell::OnRefilled(Refill* refill, const FileAddress& address, Result<FileRead> read,
                           uint64_t began_ms) {
  const auto next = [this, refill] {
    --refill->asked;
    if (!refill->files.empty()) AskRefill(refill);
  };
  // It has lain in another memory: its bytes are looked at once more, this is no hot path.
  const bool sound = read.ok() && read->err == Err::kOk && !read->doubtful && IsSound(*read);
  const bool kept = sound && cached_.Stored({.address = address,
                                             .head = read->head,
                                             .bytes = read->stored.bytes(),
                                             .dsp = {},
                                             .began_ms = began_ms});
  if (!kept) return next();
  Read(address, {.from_peer = true}, [this, next](const FileRead&) {
    shared_->metrics.refilled_total.Add();
    next();
  });
}

}  // namespace hayloft
