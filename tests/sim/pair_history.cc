#include "tests/sim/pair_history.h"

#include <algorithm>
#include <cinttypes>

#include "common/proto/hayloft.pb.h"

namespace hayloft {

namespace {

constexpr const char* kAsker = "10.0.3.2:0";
constexpr int kBlocksAsked = 20;
constexpr uint32_t kAskTimeoutMs = 2'000;

template <typename Ids>
std::string Listed(const Ids& ids) {
  std::string text;
  for (const auto id : ids) text += " " + std::to_string(id);
  return text;
}

}  // namespace

void PairHistory::Rising::Tell(uint64_t value, uint64_t us) {
  if (told_.empty() || value > told_.back().second) told_.emplace_back(us, value);
}

uint64_t PairHistory::Rising::Before(uint64_t us) const {
  const auto after = std::partition_point(told_.begin(), told_.end(),
                                          [us](const auto& one) { return one.first < us; });
  return after == told_.begin() ? 0 : std::prev(after)->second;
}

void PairHistory::Answer(const char* what, uint64_t of, Rising* object, uint64_t value,
                         const SimNet::Asked& asked) {
  const uint64_t before = object->Before(asked.us);
  if (value < before) {
    world_->trace.Fail("history: %s says that the %s%s is %" PRIu64
                       "; before it was asked, %" PRIu64 " had been told",
                       asked.to.c_str(), what, of == 0 ? "" : (" of " + std::to_string(of)).c_str(),
                       value, before);
  }
  object->Tell(value, world_->events.now_us());
}

void PairHistory::AnswerEpoch(uint64_t epoch, const SimNet::Asked& asked) {
  Answer("epoch", 0, &epoch_, epoch, asked);
}

void PairHistory::Once(const std::string& what, const std::string& value) {
  const auto [known, fresh] = once_.try_emplace(what, value);
  if (known->second == value) return;
  world_->trace.Fail("history: %s was%s, is%s", what.c_str(), known->second.c_str(), value.c_str());
}

void PairHistory::Forget() {
  forgot_us_ = world_->events.now_us();
  ids_ = {};
  blocks_.clear();
  sets_.clear();
  replicas_.clear();
  std::erase_if(once_, [](const auto& row) { return !row.first.starts_with("order"); });
}

// --- What is told to dsps ---

// What an order rests on was safe before it left, whoever gets it.
void PairHistory::OnCall(const RpcCall& call) {
  if (call.type == MessageType::kCreateBlock) return OnOrder(call);
  pb::SealBlockRequest seal;
  if (call.type != MessageType::kSealBlock || !seal.ParseFromString(call.message)) return;
  epoch_.Tell(seal.head().epoch(), world_->events.now_us());
  blocks_[seal.block_id()].Tell(pb::BLOCK_CLOSED, world_->events.now_us());
}

void PairHistory::OnOrder(const RpcCall& call) {
  pb::CreateBlockRequest order;
  const bool good = order.ParseFromString(call.message);
  ASSERT(good);
  epoch_.Tell(order.head().epoch(), world_->events.now_us());
  ordered_.push_back(order.block_id());
  ids_.Tell(order.head().block_range_end(), world_->events.now_us());
  Once("order of block " + std::to_string(order.block_id()),
       " life " + std::to_string(order.life()) + " set" + Listed(order.set_dsp_ids()));
  if (order.block_id() < order.head().block_range_end()) return;
  world_->trace.Fail("history: block %" PRIu64 " is ordered, ids are reserved to %" PRIu64,
                     order.block_id(), order.head().block_range_end());
}

// --- What is answered ---

void PairHistory::OnAnswer(const SimNet::Asked& asked, const CallDone& done) {
  if (done.err != Err::kOk || asked.us <= forgot_us_) return;
  switch (asked.type) {
    case MessageType::kRegister:
      return OnRegister(asked, done);
    case MessageType::kHeartbeat:
      return OnHeartbeat(asked, done);
    case MessageType::kGrant:
      return OnGrant(asked, done);
    case MessageType::kLocate:
      return OnLocate(asked, done);
    case MessageType::kClusterStatus:
      return OnStatus(asked, done);
    default:
      return;
  }
}

void PairHistory::OnRegister(const SimNet::Asked& asked, const CallDone& done) {
  pb::RegisterReply reply;
  const bool good = reply.ParseFromString(done.message);
  ASSERT(good);
  AnswerEpoch(reply.epoch(), asked);
  Answer("end of ids", 0, &ids_, reply.block_range_end(), asked);
}

void PairHistory::OnHeartbeat(const SimNet::Asked& asked, const CallDone& done) {
  pb::HeartbeatRequest request;
  pb::HeartbeatReply reply;
  const bool good = request.ParseFromString(asked.message) && reply.ParseFromString(done.message);
  ASSERT(good);
  AnswerEpoch(reply.epoch(), asked);
  Answer("end of ids", 0, &ids_, reply.block_range_end(), asked);
  for (const pb::BlockSet& set : reply.sets()) {
    Answer("set's version", set.block_id(), &sets_[set.block_id()], set.set_version(), asked);
    Once("set " + std::to_string(set.set_version()) + " of block " + std::to_string(set.block_id()),
         Listed(set.set_dsp_ids()));
  }
  if (reply.register_again()) return;  // it was not listened to
  for (const pb::BlockInfo& info : request.changed()) {
    if (info.state() == pb::BLOCK_OPEN && !info.dropped()) continue;
    replicas_[{info.block_id(), request.dsp_id()}].Tell(pb::BLOCK_CLOSED, world_->events.now_us());
  }
}

void PairHistory::OnGrant(const SimNet::Asked& asked, const CallDone& done) {
  pb::GrantReply reply;
  const bool good = reply.ParseFromString(done.message);
  ASSERT(good);
  for (const pb::Grant& grant : reply.grants()) {
    const uint64_t block_id = grant.block_id();
    Answer("state", block_id, &blocks_[block_id], pb::BLOCK_OPEN, asked);
    Once("epoch of open block " + std::to_string(block_id),
         Listed(std::vector{grant.block_epoch()}));
    for (const pb::Replica& replica : grant.replicas()) {
      const auto known = replicas_.find({block_id, replica.dsp_id()});
      if (known == replicas_.end()) continue;
      Answer("state at a dsp", block_id, &known->second, pb::BLOCK_OPEN, asked);
    }
  }
}

void PairHistory::OnLocate(const SimNet::Asked& asked, const CallDone& done) {
  pb::LocateReply reply;
  const bool good = reply.ParseFromString(done.message);
  ASSERT(good);
  for (const pb::Location& location : reply.locations()) {
    const auto known = blocks_.find(location.block_id());
    // A file that a dsp can't read makes a block closed that the nameserver does not have.
    const bool sure = location.state() == pb::BLOCK_OPEN || location.state() == pb::BLOCK_SEALED;
    if (known == blocks_.end() && !sure) continue;
    Answer("state", location.block_id(), &blocks_[location.block_id()], location.state(), asked);
  }
}

// Its other numbers may be ahead of what is committed.
void PairHistory::OnStatus(const SimNet::Asked& asked, const CallDone& done) {
  pb::ClusterStatusReply reply;
  const bool good = reply.ParseFromString(done.message);
  ASSERT(good);
  if (reply.role() == "active") AnswerEpoch(reply.epoch(), asked);
}

// --- Who asks ---

PairAsker::PairAsker(SimWorld* world, const PairHistory* history,
                     std::vector<std::string> nameservers)
    : world_(world),
      history_(history),
      nameservers_(std::move(nameservers)),
      random_(world->random.Next()) {
  world_->net.Start(kAsker, {.now = [this] { return SimNodeClock{}.Read(world_->events); },
                             .on_request = [](RpcRequest&&) { ASSERT(!"serves nothing"); },
                             .on_done = [](CallDone&&) {}});
  Ask();
}

void PairAsker::Ask() {
  if (world_->healed) return;
  RpcCall call;
  call.call_id = ++last_call_;
  call.address = nameservers_[random_.Below(nameservers_.size())];
  call.timeout_ms = kAskTimeoutMs;
  call.type = random_.Chance(40) ? MessageType::kClusterStatus : MessageType::kLocate;
  if (call.type == MessageType::kLocate) {
    pb::LocateRequest request;
    const std::vector<uint64_t>& ids = history_->ordered();
    for (int i = 0; i < kBlocksAsked && !ids.empty(); ++i) {
      request.add_block_ids(ids[random_.Below(ids.size())]);
    }
    call.message = request.SerializeAsString();
  }
  world_->net.Call(kAsker, std::move(call));
  world_->events.After(random_.Between(10, 400) * 1000, [this] { Ask(); });
}

}  // namespace hayloft
