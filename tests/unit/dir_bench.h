// A directory shard, a gateway and their files; every message arrives at once and in order, unless
// the test says otherwise.
#pragma once

#include <doctest/doctest.h>

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "client/dedup_core.h"
#include "tests/sim/sim_files.h"
#include "tests/sim/sim_shard.h"

namespace hayloft {

// As an uploader has it. Numbers 0 and 1 are a forged pair: one SHA-1 and length, other bytes.
struct BenchImage {
  std::string bytes;
  Metadata metadata;
  ContentId content;
  explicit BenchImage(int number, std::string type = "image/png") {
    bytes = "image " + std::to_string(number);
    metadata.content_type = std::move(type);
    metadata.sha1.fill(static_cast<uint8_t>(number < 2 ? 0 : number));
    metadata.sha256 = Sha256Of(AsBytes(bytes));
    content = ContentOf(metadata, static_cast<uint32_t>(bytes.size()));
  }
};

class DirBench {
 public:
  explicit DirBench(uint64_t seed = 1, size_t shards = 1, const PurgeOptions& purge = {})
      : random(seed),
        files(random.Next()),
        shard(
            random.Next(), DirectoryOptions(shards, purge),
            [this](RpcCall&& call) { calls_.emplace_back(true, std::move(call)); },
            [this](RpcReply&& reply) { TakeReply(std::move(reply)); }),
        gateway(GatewayOptions(), &random) {
    shard.Start(0, /*forced=*/false, now);
    Settle();
  }

  SimRandom random;
  Now now{.mono_ms = 1'000'000, .wall_ms = 1'600'000'000'000};
  SimFiles files;
  SimShard shard;
  DedupCore gateway;
  bool commits = true;                    // the log syncs at once
  bool answers = true;                    // the shard answers
  MessageType lost = MessageType::kPing;  // requests of this type get no answer
  MessageType held = MessageType::kPing;  // those of this type wait for Release
  Err refusal = Err::kOk;                 // what the shard answers all requests with, but for kOk

  uint64_t Begin(const BenchImage& image, const std::string& key = "") {
    return BeginInOneTurn({image}, key).front();
  }
  std::vector<uint64_t> BeginInOneTurn(const std::vector<BenchImage>& images,
                                       const std::string& key = "") {
    ClientOutbox out;
    std::vector<uint64_t> op_ids;
    for (const BenchImage& image : images) {
      PutRequest put;
      Metadata metadata = image.metadata;
      random.Fill(metadata.nonce);
      put.stored = Buffer::CopyOf(AsBytes(image.bytes));
      put.raw_size = static_cast<uint32_t>(image.bytes.size());
      put.metadata = EncodeMetadata(metadata);
      put.idempotency_key = key;
      op_ids.push_back(gateway.Put(std::move(put), now, &out));
    }
    Take(&out);
    return op_ids;
  }
  PutDone Upload(const BenchImage& image, const std::string& key = "") {
    return End(Begin(image, key));
  }
  // Waits for it, as long as that takes.
  PutDone End(uint64_t op_id) {
    for (int i = 0; i < 2'000 && !puts.contains(op_id); ++i) Pass(10);
    REQUIRE(puts.contains(op_id));
    return puts.at(op_id);
  }
  Err Change(const FileAddress& file, const Nonce& nonce, bool undelete) {
    SetDeleteRequest change;
    change.address = file;
    change.undelete = undelete;
    change.nonce = nonce;
    change.timeout_ms = 3'000;
    ClientOutbox out;
    const uint64_t op_id = gateway.SetDelete(std::move(change), now, &out);
    Take(&out);
    for (int i = 0; i < 500 && !changes.contains(op_id); ++i) Pass(10);
    REQUIRE(changes.contains(op_id));
    return changes.at(op_id);
  }
  Err Delete(const PutDone& done) { return Change(done.address, done.nonce, false); }
  Err Undelete(const PutDone& done) { return Change(done.address, done.nonce, true); }
  AskDone Ask(MessageType type, const google::protobuf::MessageLite& message) {
    ClientOutbox out;
    AskRequest ask;
    ask.type = type;
    ask.message = message.SerializeAsString();
    ask.timeout_ms = 8'000;  // longer than the shard waits for dsps
    const uint64_t op_id = gateway.Ask(std::move(ask), now, &out);
    Take(&out);
    for (int i = 0; i < 1'000 && !asks.contains(op_id); ++i) Pass(10);
    REQUIRE(asks.contains(op_id));
    return asks.at(op_id);
  }
  // Waits for no answer.
  void Tell(MessageType type, const google::protobuf::MessageLite& message) {
    RpcRequest request;
    request.type = type;
    request.message = message.SerializeAsString();
    shard.OnRequest(std::move(request), now);
    Settle();
  }
  size_t held_now() const { return held_.size(); }
  // Those that waited go on; from now on others do.
  void Release(MessageType hold = MessageType::kPing) {
    held = hold;
    for (auto& call : std::exchange(held_, {})) calls_.push_back(std::move(call));
    Settle();
  }
  // What was lost arrives after all; nobody waits for the answers.
  void DeliverLost() {
    lost = MessageType::kPing;
    for (auto& [of_shard, call] : std::exchange(lost_, {})) Deliver(of_shard, std::move(call));
    Settle();
  }
  template <typename Reply>
  Reply AskFor(MessageType type, const google::protobuf::MessageLite& message) {
    const AskDone done = Ask(type, message);
    Reply reply;
    REQUIRE(reply.ParseFromString(done.message));
    return reply;
  }

  void AnswerPurge(uint64_t call_id, const std::string& status) {
    CallDone done;
    done.message = status;
    Answer(true, call_id, std::move(done));
  }

  bool Live(const FileAddress& file) const {
    const SimFile* found = files.Find(file);
    return found != nullptr && found->Live();
  }
  void Crash() {
    shard.Crash();
    tokens_.clear();
    std::erase_if(calls_, [](const auto& call) { return call.first; });
  }
  // All that was in its log is still there, or only what was committed.
  void Restart(bool with_tail = false) {
    if (shard.running()) Crash();
    shard.Start(with_tail ? shard.logged() : shard.committed(), /*forced=*/false, now);
    Settle();
  }
  void Pass(uint64_t ms) {
    now.mono_ms += ms;
    now.wall_ms += ms;
    ClientOutbox out;
    gateway.OnTick(now, &out);
    Take(&out);
    while (!late_.empty() && late_.begin()->first <= now.mono_ms) {
      const uint64_t call_id = late_.begin()->second;
      late_.erase(late_.begin());
      CallDone done;
      done.err = Err::kTimeout;
      Answer(false, call_id, std::move(done));
    }
    if (shard.running()) shard.OnTick(now);
    Settle();
  }
  void Settle() {
    for (;;) {
      if (commits && shard.running()) shard.Commit(now);
      if (calls_.empty()) return;
      auto [of_shard, call] = std::move(calls_.front());
      calls_.pop_front();
      Deliver(of_shard, std::move(call));
    }
  }

  std::vector<std::string> purged;  // requests that a CDN was sent
  std::string cdn_status = "204";   // what it answers; empty: nothing
  uint64_t unanswered_purge = 0;    // the last call that it did not answer
  std::map<uint64_t, PutDone> puts;
  std::map<uint64_t, Err> changes;
  std::map<uint64_t, AskDone> asks;

 private:
  static DirOptions DirectoryOptions(size_t shards, const PurgeOptions& purge) {
    DirOptions options;
    options.purge = purge;
    options.shards.resize(shards, {"shard"});
    options.dsps.nameservers = {kSimFilesAddress};
    options.forced_wait_ms = 0;
    return options;
  }
  static ClientOptions GatewayOptions() {
    ClientOptions options;
    options.nameservers = {kSimFilesAddress};
    options.directory = {{"shard"}};
    return options;
  }
  void Take(ClientOutbox* out) {
    gateway.EndTurn(out);
    for (RpcCall& call : out->calls) calls_.emplace_back(false, std::move(call));
    for (PutDone& done : out->puts) puts[done.op_id] = std::move(done);
    for (const SetDeleteDone& done : out->set_deletes) changes[done.op_id] = done.err;
    for (AskDone& done : out->asks) asks[done.op_id] = std::move(done);
  }
  void Answer(bool to_shard, uint64_t call_id, CallDone&& done) {
    done.call_id = call_id;
    if (to_shard) {
      if (shard.running()) shard.OnCallDone(std::move(done), now);
      return;
    }
    ClientOutbox out;
    gateway.OnCallDone(std::move(done), now, &out);
    Take(&out);
  }
  void Deliver(bool of_shard, RpcCall&& call) {
    if (call.address == kSimCdnAddress) {
      purged.push_back(call.message);
      if (!cdn_status.empty())
        AnswerPurge(call.call_id, cdn_status);
      else
        unanswered_purge = call.call_id;
      return;
    }
    if (call.type == lost) {
      if (!of_shard) late_.emplace(now.mono_ms + call.timeout_ms, call.call_id);
      lost_.emplace_back(of_shard, std::move(call));
      return;
    }
    if (call.type == held) {
      held_.emplace_back(of_shard, std::move(call));
      return;
    }
    if (call.address == kSimFilesAddress) {
      return Answer(of_shard, call.call_id, files.Answer(call));
    }
    if (!shard.running() || refusal != Err::kOk) {
      CallDone done;
      done.err = shard.running() ? refusal : Err::kUnavailable;
      return Answer(of_shard, call.call_id, std::move(done));
    }
    RpcRequest request;
    request.token.request_id = ++last_token_;
    request.type = call.type;
    request.message = call.message;
    tokens_[last_token_] = call.call_id;
    shard.OnRequest(std::move(request), now);
  }
  void TakeReply(RpcReply&& reply) {
    const auto token = tokens_.find(reply.token.request_id);
    if (token == tokens_.end()) return;
    const uint64_t call_id = token->second;
    tokens_.erase(token);
    if (!answers) return;
    CallDone done;
    done.err = reply.err;
    done.message = std::move(reply.message);
    Answer(false, call_id, std::move(done));
  }

  std::deque<std::pair<bool, RpcCall>> calls_;  // of the shard; else of the gateway
  std::deque<std::pair<bool, RpcCall>> held_;
  std::map<uint64_t, uint64_t> tokens_;
  std::multimap<uint64_t, uint64_t> late_;  // when it times out -> call of the gateway
  std::vector<std::pair<bool, RpcCall>> lost_;
  uint64_t last_token_ = 0;
};

}  // namespace hayloft
