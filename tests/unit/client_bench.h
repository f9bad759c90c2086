// A ClientCore whose peers are the test, and the messages that they answer with.
#pragma once

#include <doctest/doctest.h>

#include <initializer_list>
#include <string>

#include "client/client_core.h"
#include "tests/sim/sim_random.h"

namespace hayloft {

inline constexpr uint64_t kFirstBlock = 7;

// A client whose peers are this test: it looks at each call and says what the answer is. Time
// passes only in Tick.
struct ClientBench {
  SimRandom random{42};
  ClientCore core;
  ClientOutbox outbox;
  Now now{.mono_ms = 1'000'000, .wall_ms = 0};

  explicit ClientBench(size_t nameservers = 1, uint32_t ops_max = 100)
      : ClientBench(Options(nameservers, ops_max)) {}
  explicit ClientBench(const ClientOptions& options) : core(options, &random) {}
  static ClientOptions Options(size_t nameservers, uint32_t ops_max) {
    ClientOptions options;
    for (size_t i = 0; i < nameservers; ++i) {
      options.nameservers.push_back("ns-" + std::to_string(i));
    }
    options.ops_max = ops_max;
    return options;
  }
  uint64_t Put(uint32_t timeout_ms = 10'000) {
    PutRequest request;
    request.stored = Buffer::CopyOf(AsBytes("the bytes of an image"));
    request.raw_size = static_cast<uint32_t>(request.stored.size());
    request.timeout_ms = timeout_ms;
    return core.Put(std::move(request), now, &outbox);
  }
  uint64_t Get(const FileAddress& address, const std::string& dsp = "") {
    GetRequest request;
    request.address = address;
    request.dsp = dsp;
    return core.Get(std::move(request), now, &outbox);
  }
  uint64_t SetDelete(bool undelete) {
    SetDeleteRequest request;
    request.address = {kFirstBlock, FileId::Of(0, 5)};
    request.undelete = undelete;
    return core.SetDelete(std::move(request), now, &outbox);
  }
  void Tick(uint64_t ms) {
    for (const uint64_t end = now.mono_ms + ms; now.mono_ms < end;) {
      now.mono_ms += 10;
      core.OnTick(now, &outbox);
    }
  }
  // The oldest call that is out. Fails the test if there is none, or it is another one.
  RpcCall Take(MessageType type) {
    REQUIRE_FALSE(outbox.calls.empty());
    RpcCall call = std::move(outbox.calls.front());
    outbox.calls.erase(outbox.calls.begin());
    REQUIRE(call.type == type);
    return call;
  }
  void Answer(const RpcCall& call, Err err, const std::string& message = "",
              std::string_view payload = "") {
    CallDone done;
    done.call_id = call.call_id;
    done.err = err;
    done.message = message;
    done.payload = Buffer::CopyOf(AsBytes(payload));
    core.OnCallDone(std::move(done), now, &outbox);
  }
  void Answer(const RpcCall& call, const google::protobuf::MessageLite& message) {
    Answer(call, Err::kOk, message.SerializeAsString());
  }
};

// Grants of blocks 7, 8, ...: block n on dsp n at "dsp-n".
inline pb::GrantReply Grants(std::initializer_list<uint32_t> blocks) {
  pb::GrantReply reply;
  for (const uint32_t block : blocks) {
    pb::Grant& grant = *reply.add_grants();
    grant.set_block_id(block);
    grant.set_block_epoch(1);
    pb::Replica& replica = *grant.add_replicas();
    replica.set_dsp_id(block);
    replica.set_address("dsp-" + std::to_string(block));
    replica.set_incarnation(3);
  }
  return reply;
}

inline pb::AppendReply StoredAs(uint32_t sequence) {
  pb::AppendReply reply;
  reply.set_file_id(FileId::Of(sequence, 5).value);
  reply.set_created_ms(1234);
  return reply;
}

inline pb::AppendRequest AppendOf(const RpcCall& call) {
  pb::AppendRequest request;
  CHECK(request.ParseFromString(call.message));
  return request;
}

inline pb::LocateReply LocatedAt(std::initializer_list<const char*> addresses) {
  pb::LocateReply reply;
  pb::Location& location = *reply.add_locations();
  location.set_block_id(kFirstBlock);
  location.set_state(pb::BLOCK_OPEN);
  for (const char* address : addresses) location.add_replicas()->set_address(address);
  reply.set_complete(true);
  return reply;
}

inline std::string HeadOf(const FileAddress& address, std::string_view data) {
  NeedleHeader header{};
  header.block_id = address.block_id;
  header.file_id = address.file_id.value;
  header.stored_size = static_cast<uint32_t>(data.size());
  header.raw_size = header.stored_size;
  const std::string metadata = EncodeMetadata(Metadata{.content_type = "image/png", .fields = {}});
  return EncodeNeedleHead(header, PieceCrcs(AsBytes(data)), AsBytes(metadata), {});
}

inline std::string ReadReplyOf(const FileAddress& address, std::string_view data) {
  pb::ReadReply reply;
  reply.set_head(HeadOf(address, data));
  return reply.SerializeAsString();
}

inline const FileAddress kFile{kFirstBlock, FileId::Of(0, 5)};

}  // namespace hayloft
