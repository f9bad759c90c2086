// Three dsps with one block open on all of them, whose calls to each other the test carries.
#pragma once

#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/dsp_harness.h"

namespace hayloft {

constexpr uint64_t kBlock = 5;
constexpr uint64_t kLife = 0x1122334455667788;

inline std::string Photo(size_t size, uint64_t seed) {
  std::string data(size, '\0');
  SimRandom(seed).Fill({reinterpret_cast<uint8_t*>(data.data()), size});
  return data;
}

// Dsps 1, 2 and 3 with the block open on all; 1 is its primary. Calls wait until the test moves
// them.
class Trio {
 public:
  Trio() {
    for (uint64_t number = 1; number <= 3; ++number) {
      dsps_.push_back(std::make_unique<DspHarness>(number));
      dsp(number).nameservers = {kNameserver};
      REQUIRE(dsp(number).Start() == Err::kOk);
      Heartbeat(number);
      REQUIRE(dsp(number).Create(kBlock, {1, 2, 3}, kLife) == Err::kOk);
    }
  }
  // What the nameserver says of it to the others, from their next heartbeats on.
  void Tell(uint32_t number, pb::PeerState state) {
    states_[number - 1] = state;
    ++peers_version_;
  }
  // A second passes; what it calls the nameserver for is answered, other calls wait.
  void Heartbeat(uint64_t number) {
    dsp(number).now.mono_ms += 1'000;
    dsp(number).Tick();
    told_ = false;
    for (bool busy = true; busy;) {
      busy = false;
      for (RpcCall& call : dsp(number).TakeCalls()) {
        if (call.address != kNameserver) {
          kept_.push_back({.from = number, .call = std::move(call)});
          continue;
        }
        busy = true;
        dsp(number).AnswerCall(call.call_id, Err::kOk, Answer(number, call));
        dsp(number).Tick();
      }
    }
  }
  // A new process, which has merged with the others if it can.
  void Restart(uint64_t number, CrashMode mode = CrashMode::kClean) {
    dsp(number).Crash(mode);
    REQUIRE(dsp(number).Start() == Err::kOk);
    Heartbeat(number);
    Pump();
  }
  // As clients ask it. kInternal: no reply that makes sense.
  Result<pb::StatReply> Stat(uint64_t number, const FileAddress& address) {
    pb::StatRequest message;
    message.set_block_id(address.block_id);
    message.set_file_id(address.file_id.value);
    const RpcReply& reply =
        dsp(number).Reply(dsp(number).Send(MessageType::kStat, message.SerializeAsString()));
    if (reply.err != Err::kOk) return reply.err;
    pb::StatReply stat;
    if (!stat.ParseFromString(reply.message)) return Err::kInternal;
    return stat;
  }
  DspHarness& dsp(uint64_t number) { return *dsps_[number - 1]; }
  const Block& block(uint64_t number) { return dsp(number).core().blocks().at(kBlock); }

  std::vector<pb::Replica> Grant() {
    std::vector<pb::Replica> replicas(3);
    for (uint32_t number = 1; number <= 3; ++number) {
      replicas[number - 1].set_dsp_id(number);
      replicas[number - 1].set_address(std::to_string(number));
      replicas[number - 1].set_incarnation(dsp(number).core().superblock().incarnation);
    }
    return replicas;
  }
  uint64_t SendAppend(const std::string& data) { return dsp(1).SendAppend(kBlock, data, Grant()); }
  // Hands the primary's calls to their secondaries, and remembers whose answer each is.
  void Deliver(uint64_t only = 0) {
    for (RpcCall& call : dsp(1).TakeCalls()) {
      const uint64_t to = std::stoull(call.address);
      if (only != 0 && to != only) {
        held_.push_back(std::move(call));
        continue;
      }
      const uint64_t request = dsp(to).Send(call.type, call.message, call.payload.Share());
      asked_.push_back({.to = to, .request = request, .call_id = call.call_id});
    }
  }
  // Runs the secondaries' jobs and carries their answers back.
  void Answer() {
    for (const Asked& asked : std::exchange(asked_, {})) {
      const RpcReply& reply = dsp(asked.to).Reply(asked.request);
      dsp(1).AnswerCall(asked.call_id, reply.err, reply.message);
    }
  }
  void TimeOutHeld() {
    for (const RpcCall& call : std::exchange(held_, {})) {
      dsp(1).AnswerCall(call.call_id, Err::kTimeout);
    }
  }
  std::vector<RpcCall>& held() { return held_; }

  // Carries what one of them has called its peers for, and their answers; its own jobs wait.
  void CarryCalls(uint64_t number) {
    for (Kept& kept : std::exchange(kept_, {})) {
      REQUIRE(kept.from == number);
      DspHarness& peer = dsp(std::stoull(kept.call.address));
      const RpcReply& reply =
          peer.Reply(peer.Send(kept.call.type, kept.call.message, kept.call.payload.Share()));
      dsp(number).AnswerCall(kept.call.call_id, reply.err, reply.message, reply.payload.Share());
    }
  }
  // Carries all calls and runs all jobs until nothing is left to do.
  void Pump() {
    struct Call {
      uint64_t from = 0;
      uint64_t call_id = 0;
      uint64_t to = 0;
      uint64_t request = 0;
    };
    std::vector<Call> out;
    for (bool busy = true; busy;) {
      busy = false;
      for (uint64_t number = 1; number <= 3; ++number) {
        busy |= dsp(number).jobs() > 0;
        dsp(number).RunJobs();
        for (RpcCall& call : dsp(number).TakeCalls()) {
          if (call.address == kNameserver) continue;  // its answer is lost
          kept_.push_back({.from = number, .call = std::move(call)});
        }
      }
      for (Kept& kept : std::exchange(kept_, {})) {
        const uint64_t to = std::stoull(kept.call.address);
        busy = true;
        if (cut.contains(to) || cut.contains(kept.from)) {
          dsp(kept.from).AnswerCall(kept.call.call_id, Err::kUnavailable);
          continue;
        }
        const uint64_t request =
            dsp(to).Send(kept.call.type, kept.call.message, kept.call.payload.Share());
        out.push_back(
            {.from = kept.from, .call_id = kept.call.call_id, .to = to, .request = request});
      }
      for (const Call& call : std::exchange(out, {})) {
        busy = true;
        const RpcReply* reply = dsp(call.to).FindReply(call.request);
        if (reply == nullptr) {
          out.push_back(call);
        } else {
          dsp(call.from).AnswerCall(call.call_id, reply->err, reply->message,
                                    reply->payload.Share());
        }
      }
    }
  }
  void CloseAll() {
    for (uint64_t number = 1; number <= 3; ++number) {
      REQUIRE(dsp(number).Close(kBlock) == Err::kOk);
    }
  }
  // Orders one of them to seal. The answer, once nothing is left to do.
  Err Seal(uint64_t number, const std::set<uint64_t>& members = {1, 2, 3}, bool again = false) {
    pb::SealBlockRequest message;
    *message.mutable_head() = dsp(number).Head();
    message.set_block_id(kBlock);
    message.set_opening_epoch(block(number).opening_epoch);
    for (const pb::Replica& replica : Grant()) {
      if (members.contains(replica.dsp_id())) *message.add_replicas() = replica;
    }
    message.set_without_all(members.size() < 3);
    message.set_again(again);
    const uint64_t request = dsp(number).Send(MessageType::kSealBlock, message.SerializeAsString());
    Pump();
    const RpcReply* reply = dsp(number).FindReply(request);
    REQUIRE(reply != nullptr);
    return reply->err;
  }
  // As a nameserver does: again and again, until all have sealed.
  void SealAll(bool again = false) {
    size_t sealed = 0;
    for (int round = 0; round < 4 && sealed < 3; ++round) {
      sealed = 0;
      for (uint64_t number = 1; number <= 3; ++number) {
        sealed += Seal(number, {1, 2, 3}, again) == Err::kOk ? 1 : 0;
      }
    }
    REQUIRE(sealed == 3);
  }
  void CheckEqual() {
    for (uint64_t number = 2; number <= 3; ++number) {
      CHECK(block(number).needles() == block(1).needles());
      CHECK(block(number).lost == block(1).lost);
      CHECK(block(number).digest == block(1).digest);
    }
  }
  Result<FileAddress> Append(const std::string& data) {
    const uint64_t request = SendAppend(data);
    Deliver();
    Answer();
    const RpcReply& reply = dsp(1).Reply(request);
    if (reply.err != Err::kOk) return reply.err;
    return DspHarness::AddressOf(kBlock, reply);
  }

  std::set<uint64_t> cut;    // those whom no peer reaches
  bool without_3 = false;    // the nameserver's set of the block is {1, 2}
  uint32_t set_version = 0;  // not 0: told with that version
  bool more_sets = false;

 private:
  static constexpr const char* kNameserver = "nameserver";
  struct Kept {
    uint64_t from = 0;
    RpcCall call;
  };
  std::string Answer(uint64_t number, const RpcCall& call) {
    if (call.type == MessageType::kRegister) {
      pb::RegisterReply reply;
      reply.set_dsp_id(static_cast<uint32_t>(number));
      reply.set_epoch(dsp(number).epoch);
      reply.set_node(std::string(16, 'n'));
      return reply.SerializeAsString();
    }
    if (call.type == MessageType::kBlockReport) return "";
    REQUIRE(call.type == MessageType::kHeartbeat);
    pb::HeartbeatReply reply;
    reply.set_epoch(dsp(number).epoch);
    reply.set_node(std::string(16, 'n'));
    reply.set_peers_version(peers_version_);
    for (uint32_t other = 1; other <= 3; ++other) {
      if (other == number) continue;
      pb::Peer& peer = *reply.add_peers();
      peer.set_dsp_id(other);
      peer.set_address(std::to_string(other));
      peer.set_state(states_[other - 1]);
    }
    pb::HeartbeatRequest request;
    REQUIRE(request.ParseFromString(call.message));
    reply.set_more_sets(more_sets);
    for (const pb::BlockInfo& info : request.changed()) told_ |= info.set_version() > 1;
    if ((without_3 || set_version > 0) && !told_) {
      pb::BlockSet& set = *reply.add_sets();
      set.set_block_id(kBlock);
      set.set_set_version(set_version > 0 ? set_version : 2);
      for (const uint32_t member : {1, 2, 3}) {
        if (member != 3 || !without_3) set.add_set_dsp_ids(member);
      }
    }
    return reply.SerializeAsString();
  }

  uint64_t peers_version_ = 1;
  bool told_ = false;  // of the set, by the dsp that heard of it last
  std::array<pb::PeerState, 3> states_{};
  std::vector<Kept> kept_;
  struct Asked {
    uint64_t to = 0;
    uint64_t request = 0;
    uint64_t call_id = 0;
  };
  std::vector<std::unique_ptr<DspHarness>> dsps_;
  std::vector<Asked> asked_;
  std::vector<RpcCall> held_;
};

}  // namespace hayloft
