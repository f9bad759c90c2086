// The world of a walk: a shard, two gateways, files, and the messages between them in a bag. What
// the users of it do is dir_walk.cc's.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/dir_walk_parts.h"
#include "tests/sim/sim_files.h"
#include "tests/sim/sim_shard.h"
#include "tests/sim/sim_trace.h"

namespace hayloft::dir_walk {

inline constexpr const char* kShardNodes[] = {"shard-0", "shard-1"};  // of which one is active
inline constexpr int kShardCaller = 2;                                // 0 and 1 are gateways

class World {
 protected:
  World(uint64_t seed, SimTrace* trace)
      : random_(seed),
        trace_(trace),
        files_(random_.Next()),
        shard_(
            random_.Next(), Options(),
            [this](RpcCall&& call) { Send(kShardCaller, std::move(call)); },
            [this](RpcReply&& reply) { TakeReply(std::move(reply)); }) {
    now_ = {.mono_ms = 1'000'000, .wall_ms = 1'600'000'000'000};
    for (Gateway& gateway : gateways_) StartGateway(&gateway);
    StartShard(0, /*forced=*/false);
  }
  virtual ~World() = default;

  // What a gateway wants done and has done.
  virtual void Take(int gateway, ClientOutbox* outbox) = 0;

  static DirOptions Options() {
    DirOptions options;
    options.dsps.nameservers = {kSimFilesAddress};
    options.forced_wait_ms = 0;  // a promotion by force begins with no message under way
    options.file_timeout_ms = 2'000;
    options.purge.url = "http://192.0.2.1/{id}";
    options.purge.delay_ms = 100;
    options.purge.timeout_ms = 1'000;
    return options;
  }

  void StartGateway(Gateway* gateway) {
    ForgetCalls(static_cast<int>(gateway - gateways_));
    ClientOptions options;
    options.nameservers = {kSimFilesAddress};
    options.directory = {{kShardNodes[0], kShardNodes[1]}};
    gateway->core = std::make_unique<DedupCore>(options, &random_);
    ++gateway->life;
  }

  void StartShard(size_t kept, bool forced) {
    ++shard_life_;
    tokens_.clear();
    ForgetCalls(kShardCaller);
    active_ = random_.Below(2);
    shard_.Start(kept, forced, now_);
    trace_->Note("shard starts, kept %zu forced %d", kept, forced);
  }

  // Whoever was to be answered has ended.
  void ForgetCalls(int caller) {
    std::erase_if(outstanding_, [&](const auto& one) { return one.first.first == caller; });
  }

  uint64_t LifeOf(int caller) const {
    return caller == kShardCaller ? shard_life_ : gateways_[caller].life;
  }

  // --- The bag ---

  void Send(int from, RpcCall&& call) {
    NoteKey(call);
    outstanding_[{from, call.call_id}] = now_.mono_ms + call.timeout_ms;
    Message message;
    message.from = from;
    message.life = LifeOf(from);
    message.call = std::move(call);
    bag_.push_back(std::move(message));
  }

  // Which nonces were sent with the user's key.
  void NoteKey(const RpcCall& call) {
    if (call.type != MessageType::kDirUpload) return;
    pb::DirUploadRequest request;
    if (!request.ParseFromString(call.message)) return;
    for (const pb::DirUpload& upload : request.uploads()) {
      Nonce nonce;
      std::copy(upload.nonce().begin(), upload.nonce().end(), nonce.begin());
      if (!upload.idempotency().empty()) keyed_nonces_.insert(nonce);
    }
  }

  void Reply(const Message& to, CallDone&& done) {
    done.call_id = to.call.call_id;
    Message message;
    message.from = to.from;
    message.life = to.life;
    message.reply = true;
    message.done = std::move(done);
    bag_.push_back(std::move(message));
  }

  void TakeReply(RpcReply&& reply) {
    const auto found = tokens_.find(reply.token.request_id);
    if (found == tokens_.end()) return;
    CallDone done;
    done.err = reply.err;
    done.message = std::move(reply.message);
    const Message to = std::move(found->second);
    tokens_.erase(found);
    Reply(to, std::move(done));
  }

  static Message CopyOf(const Message& message) {
    Message copy;
    copy.from = message.from;
    copy.life = message.life;
    copy.call.call_id = message.call.call_id;
    copy.call.address = message.call.address;
    copy.call.type = message.call.type;
    copy.call.timeout_ms = message.call.timeout_ms;
    copy.call.message = message.call.message;
    copy.call.payload = message.call.payload.Share();
    return copy;
  }

  void Deliver(size_t index, bool keep, bool lose) {
    Message message = std::move(bag_[index]);
    bag_.erase(bag_.begin() + static_cast<ptrdiff_t>(index));
    if (message.reply) return Done(message.from, message.life, std::move(message.done));
    // A grant or an append twice is of no interest.
    if (keep && message.call.type != MessageType::kAppend) bag_.push_back(CopyOf(message));
    if (lose) return;
    if (message.call.address == kSimFilesAddress) return AnswerAsDsp(message);
    if (message.call.address == kSimCdnAddress) return AnswerAsCdn(message);
    const bool standby = message.call.address != kShardNodes[active_];
    if (standby || !shard_.running()) {
      CallDone done;
      done.err = Err::kUnavailable;
      if (standby && shard_.running() && random_.Chance(70)) {
        done.err = Err::kNotActive;
        pb::NotActive hint;
        if (random_.Chance(50)) hint.set_hint(kShardNodes[active_]);
        done.message = hint.SerializeAsString();
      }
      return Reply(message, std::move(done));
    }
    RpcRequest request;
    request.token.request_id = ++last_token_;
    request.type = message.call.type;
    request.message = message.call.message;
    tokens_[last_token_] = std::move(message);
    shard_.OnRequest(std::move(request), now_);
  }

  // Sometimes it fails, before it does what was asked or after.
  void AnswerAsDsp(const Message& message) {
    const bool fails = random_.Chance(dsp_errors_);
    const bool before = fails && random_.Chance(50);
    CallDone done;
    files_.doubtful = random_.Chance(dsp_errors_);
    if (!before) done = files_.Answer(message.call);
    if (fails) {
      done = CallDone();
      done.err = Err::kUnavailable;
    }
    Reply(message, std::move(done));
  }

  // Fails as dsps do, but with a status.
  void AnswerAsCdn(const Message& message) {
    const bool fails = random_.Chance(cdn_errors_);
    const bool before = fails && random_.Chance(50);
    const std::string& request = message.call.message;
    const std::optional<FileAddress> file = ParseFileAddress(request.substr(7, 18));
    if (!request.starts_with("PURGE /") || !file.has_value()) {
      return trace_->Fail("a CDN was sent no purge: %s", request.c_str());
    }
    trace_->Note("the CDN is told of file %s%s", ToText(*file).c_str(), fails ? ", and fails" : "");
    if (!before) cdn_.erase(*file);
    CallDone done;
    done.message = fails ? "503" : "204";
    Reply(message, std::move(done));
  }

  // A CDN to which each file is asked for all the time: it has all that can be read.
  void FillCdn() {
    for (const auto& [address, file] : files_.files()) {
      if (file.Live()) cdn_.insert(address);
    }
  }

  void Done(int to, uint64_t life, CallDone&& done) {
    if (life != LifeOf(to) || outstanding_.erase({to, done.call_id}) == 0) return;
    if (to == kShardCaller) {
      if (shard_.running()) shard_.OnCallDone(std::move(done), now_);
      return;
    }
    ClientOutbox outbox;
    gateways_[to].core->OnCallDone(std::move(done), now_, &outbox);
    Take(to, &outbox);
  }

  void PassTime(uint64_t ms) {
    now_.mono_ms += ms;
    now_.wall_ms += ms;
    std::vector<std::pair<int, uint64_t>> over;
    for (const auto& [call, deadline_ms] : outstanding_) {
      if (deadline_ms <= now_.mono_ms) over.push_back(call);
    }
    for (const auto& [caller, call_id] : over) {
      CallDone done;
      done.call_id = call_id;
      done.err = Err::kTimeout;
      Done(caller, LifeOf(caller), std::move(done));
    }
    for (int i = 0; i < 2; ++i) {
      ClientOutbox outbox;
      gateways_[i].core->OnTick(now_, &outbox);
      Take(i, &outbox);
    }
    if (shard_.running()) shard_.OnTick(now_);
  }

  SimRandom random_;
  SimTrace* const trace_;
  Now now_;
  SimFiles files_;
  SimShard shard_;
  uint64_t shard_life_ = 0;
  size_t active_ = 0;  // node
  Gateway gateways_[2];
  std::vector<Image> images_;
  std::vector<Message> bag_;
  std::map<std::pair<int, uint64_t>, uint64_t> outstanding_;  // (caller, call) -> deadline
  std::map<uint64_t, Message> tokens_;                        // requests that the shard has
  uint64_t last_token_ = 0;
  std::set<Nonce> keyed_nonces_;  // sent with the user's key
  uint64_t dsp_errors_ = 0;       // of a hundred answers
  std::set<FileAddress> cdn_;     // what it has copies of
  uint64_t cdn_errors_ = 0;       // of a hundred answers
};

}  // namespace hayloft::dir_walk
