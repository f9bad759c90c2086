#include "tests/sim/sim_gateway.h"

#include <algorithm>
#include <cinttypes>
#include <utility>

namespace hayloft {

namespace {

// Calls of the parts of a gateway, told from each other by the upper bits of their ids.
constexpr uint64_t kFeedCalls = uint64_t{1} << 62;
constexpr uint64_t kPeerCalls = uint64_t{1} << 61;  // with the loop's number in the next bits
constexpr uint64_t kHelloCalls = uint64_t{1} << 60;
constexpr int kLoopShift = 56;
constexpr uint64_t kTurnUs = kFeedPollMs * 1000 / 4;
constexpr size_t kReadsMax = 24;
constexpr uint32_t kFeedsMax = 16;

}  // namespace

struct SimGateway::Process {
  struct Get {
    size_t loop = 0;
    uint64_t fetch_id = 0;
  };
  Process(const SimGatewayOptions& options, SimRandom* random)
      : cache(*SharedCache::Create(options.cache_bytes)),
        feeds(kFeedsMax, kFeedCalls),
        tier(options.address),
        client(ClientOptionsOf(options), random) {
    for (uint32_t loop = 0; loop < options.loops; ++loop) {
      loops.push_back(std::make_unique<CachedReads>(
          CachedReadsOptions{.admit = options.admit, .loop = loop, .lines = {}}, cache.get(),
          &feeds));
    }
  }
  static ClientOptions ClientOptionsOf(const SimGatewayOptions& options) {
    ClientOptions client;
    client.nameservers = options.nameservers;
    return client;
  }

  std::unique_ptr<SharedCache> cache;
  FeedTable feeds;
  TierView tier;
  ClientCore client;
  std::vector<std::unique_ptr<CachedReads>> loops;
  std::map<uint64_t, Get> gets;  // by the client's operation
  uint64_t hello_ms = 0;         // the next one
};

SimGateway::SimGateway(SimWorld* world, SimModel* model, SimGatewayOptions options)
    : world_(world), model_(model), options_(std::move(options)), random_(world->random.Next()) {
  clock_.mono_offset_ms = world_->random.Below(1'000'000'000);
}

SimGateway::~SimGateway() = default;

void SimGateway::Start() {
  ASSERT(process_ == nullptr);
  world_->trace.Note("%s start", address().c_str());
  process_ = std::make_unique<Process>(options_, &random_);
  const uint64_t life = ++life_;
  stalled_until_us_ = 0;
  const auto on_request = [this](RpcRequest&& request) {
    WhenAwake([this, request = std::move(request)] { AnswerPeer(request); });
  };
  const auto on_done = [this](CallDone&& done) {
    WhenAwake([this, done = std::move(done)]() mutable { OnCallDone(std::move(done)); });
  };
  world_->net.Start(
      address(), {.now = [this] { return now(); }, .on_request = on_request, .on_done = on_done});
  world_->events.After(world_->random.Below(kTurnUs), [this, life] { Tick(life); });
  world_->events.After(world_->random.Below(options_.think_us_max), [this, life] { Work(life); });
}

void SimGateway::Crash() {
  ASSERT(process_ != nullptr);
  world_->trace.Note("%s crash", address().c_str());
  world_->net.Stop(address());
  reads_.clear();
  process_.reset();
  ++life_;
}

uint64_t SimGateway::StallUs() const {
  const uint64_t now_us = world_->events.now_us();
  return stalled_until_us_ > now_us ? stalled_until_us_ - now_us : 0;
}

template <typename Task>
void SimGateway::WhenAwake(Task&& task) {
  if (StallUs() == 0) return task();
  world_->events.After(StallUs(), [this, life = life_, task = std::move(task)]() mutable {
    if (life == life_) WhenAwake(std::move(task));
  });
}

void SimGateway::Tick(uint64_t life) {
  if (life != life_) return;
  if (StallUs() > 0) return world_->events.After(StallUs(), [this, life] { Tick(life); });
  ClientOutbox out;
  process_->client.OnTick(now(), &out);
  FlushClient(&out);
  PollFeeds();
  SayHello();
  world_->events.After(kTurnUs, [this, life] { Tick(life); });
}

void SimGateway::PollFeeds() {
  std::vector<RpcCall> calls;
  process_->feeds.Poll(now(), &calls);
  for (RpcCall& call : calls) world_->net.Call(address(), std::move(call));
}

void SimGateway::SayHello() {
  if (now().mono_ms >= process_->hello_ms) {
    process_->hello_ms = now().mono_ms + 1'000;
    pb::GatewayHelloRequest message;
    message.set_address(address());
    for (size_t i = 0; i < options_.nameservers.size(); ++i) {
      RpcCall call;
      call.call_id = kHelloCalls | i;
      call.address = options_.nameservers[i];
      call.type = MessageType::kGatewayHello;
      call.timeout_ms = 900;
      call.message = message.SerializeAsString();
      world_->net.Call(address(), std::move(call));
    }
  }
  const std::shared_ptr<const CacheTier> tier = process_->tier.Changed(now().mono_ms);
  if (tier == nullptr) return;
  world_->trace.Note("%s: %zu gateways", address().c_str(), tier->addresses.size());
  for (const auto& loop : process_->loops) loop->UseTier(tier);
}

void SimGateway::OnHelloDone(size_t nameserver, const CallDone& done) {
  pb::GatewayHelloReply reply;
  if (done.err != Err::kOk || !reply.ParseFromString(done.message)) return;
  process_->tier.Note(options_.nameservers.at(nameserver), reply, now().mono_ms);
}

// --- Reads --------------------------------------------------------------------------------------

// Bursts, and pauses in which what is kept grows old.
void SimGateway::Work(uint64_t life) {
  if (life != life_ || finished_) return;
  SimRandom& random = world_->random;
  const uint64_t wait_us = std::max<uint64_t>(StallUs(), random.Below(options_.think_us_max));
  world_->events.After(wait_us, [this, life] { Work(life); });
  if (StallUs() > 0 || world_->events.now_us() < rests_until_us_) return;
  if (random.Below(300) == 0) {
    rests_until_us_ = world_->events.now_us() + random.Between(500, 6'000) * 1000;
  }
  if (model_->files() == 0 || reads_.size() >= kReadsMax) return;
  const size_t among =
      random.Chance(85) ? std::min(options_.hot_files, model_->files()) : model_->files();
  StartRead(random.Below(among), random.Below(process_->loops.size()));
}

void SimGateway::ReadBack(size_t file) {
  ASSERT(running());
  StartRead(file, file % process_->loops.size());
}

void SimGateway::StartRead(size_t file, size_t loop) {
  const FileAddress& address = model_->file(file).address;
  const Read read{.expected = model_->Expect(file), .began_us = world_->events.now_us()};
  CachedReads& reads = *process_->loops[loop];
  const CacheAnswer found = reads.Look(address, now().mono_ms);
  if (found.found == Found::kHit && !found.file.too_large) {
    ++hits_;
    const std::string head(AsText(found.file.head()));
    return model_->CheckCached(read.expected, {.head = head, .stored = found.file.stored_bytes()},
                               read.began_us, world_->healed);
  }
  if (found.found == Found::kAbsent) {
    ++hits_;
    return model_->CheckCached(read.expected, {.err = found.err}, read.began_us, world_->healed);
  }
  const uint64_t reader = next_reader_++;
  reads_.emplace(reader, read);
  ReadsOutbox out;
  reads.Begin(address, {.by_cdn = world_->random.Chance(30)}, reader, now(), &out);
  Carry(loop, &out);
}

// Another gateway takes this one for the owner.
void SimGateway::AnswerPeer(const RpcRequest& request) {
  pb::ReadRequest message;
  const bool parsed = message.ParseFromString(request.message);
  ASSERT(parsed && request.type == MessageType::kRead);
  const uint64_t reader = next_reader_++;
  reads_.emplace(reader, Read{.for_peer = true, .token = request.token});
  const size_t loop = reader % process_->loops.size();
  ReadsOutbox out;
  process_->loops[loop]->Begin(
      {message.block_id(), FileId{message.file_id()}},
      {.by_cdn = message.by_cdn(), .from_peer = true, .cached_only = message.cached_only()}, reader,
      now(), &out);
  Carry(loop, &out);
}

void SimGateway::Carry(size_t loop, ReadsOutbox* out) {
  for (ReadsOutbox::Get& get : out->gets) {
    ClientOutbox client_out;
    const uint64_t op = process_->client.Get(std::move(get.request), now(), &client_out);
    ASSERT(op != 0);
    process_->gets.emplace(op, Process::Get{.loop = loop, .fetch_id = get.fetch_id});
    FlushClient(&client_out);
  }
  for (RpcCall& call : out->peer_calls) {
    ASSERT(call.call_id < uint64_t{1} << kLoopShift);
    call.call_id |= kPeerCalls | uint64_t{loop} << kLoopShift;
    world_->net.Call(address(), std::move(call));
  }
  for (const ReadDelivery& delivery : out->deliveries) Deliver(delivery);
}

void SimGateway::Deliver(const ReadDelivery& delivery) {
  auto found = reads_.extract(delivery.to.id);
  ASSERT(!found.empty());  // each reader is answered once
  const Read& read = found.mapped();
  const FileRead& got = *delivery.read;
  if (!read.for_peer) {
    const SimModel::CachedAnswer answer{
        .err = got.err, .head = got.head, .stored = got.stored.bytes(), .doubtful = got.doubtful};
    return model_->CheckCached(read.expected, answer, read.began_us, world_->healed);
  }
  RpcReply reply = ReplyToPeer(read.token, got);
  reply.payload = Buffer::CopyOf(reply.payload.bytes());  // as sockets do: it may outlive the cache
  world_->net.Reply(address(), std::move(reply));
}

void SimGateway::FlushClient(ClientOutbox* out) {
  for (RpcCall& call : out->calls) {
    ASSERT(call.call_id < kHelloCalls);
    world_->net.Call(address(), std::move(call));
  }
  for (GetDone& done : out->gets) {
    auto found = process_->gets.extract(done.op_id);
    ASSERT(!found.empty());
    const Process::Get get = found.mapped();
    ReadsOutbox more;
    process_->loops[get.loop]->OnGot(get.fetch_id, std::move(done), now(), &more);
    Carry(get.loop, &more);
  }
}

void SimGateway::OnCallDone(CallDone&& done) {
  if (done.call_id >= kFeedCalls) {
    std::vector<FileChange> changes;
    process_->feeds.OnDone(done, now(), &changes);
    process_->cache->Apply(changes, now().mono_ms);
    return PollFeeds();
  }
  if (done.call_id >= kPeerCalls) {
    const size_t loop = (done.call_id & ~kPeerCalls) >> kLoopShift;
    done.call_id &= (uint64_t{1} << kLoopShift) - 1;
    ReadsOutbox out;
    process_->loops.at(loop)->OnPeerDone(std::move(done), now(), &out);
    return Carry(loop, &out);
  }
  if (done.call_id >= kHelloCalls) return OnHelloDone(done.call_id & ~kHelloCalls, done);
  ClientOutbox out;
  process_->client.OnCallDone(std::move(done), now(), &out);
  FlushClient(&out);
}

}  // namespace hayloft
