#include "tests/unit/fake_directory.h"

#include <doctest/doctest.h>

namespace hayloft {

namespace {

constexpr uint64_t kTickMs = 20;

DirOptions OptionsOf(const std::string& nameserver) {
  DirOptions options;
  options.dsps.nameservers = {nameserver};
  return options;
}

}  // namespace

FakeDirectory::FakeDirectory(const std::string& cluster_key, const std::string& nameserver)
    : server_(&loop_, {.listen = "127.0.0.1:0", .cluster_key = cluster_key}),
      client_(&loop_, {.role = "directory", .cluster_key = cluster_key}),
      shard_(
          1, OptionsOf(nameserver), [this](RpcCall&& call) { client_.Call(std::move(call)); },
          [this](RpcReply&& reply) { Answer(std::move(reply)); }) {
  server_.OnRequest([this](RpcRequest&& request) { OnRequest(std::move(request)); });
  client_.OnDone([this](CallDone&& done) {
    shard_.OnCallDone(std::move(done), loop_.now());
    shard_.Commit(loop_.now());
  });
  tick_ = loop_.Every(kTickMs, [this] {
    shard_.OnTick(loop_.now());
    shard_.Commit(loop_.now());
  });
  shard_.Start(0, /*forced=*/false, loop_.now());
  shard_.Commit(loop_.now());
  std::string why;
  REQUIRE_EQ(server_.Listen(&why), Err::kOk);
  thread_ = std::thread([this] { loop_.Run(); });
}

FakeDirectory::~FakeDirectory() {
  loop_.Stop();
  thread_.join();
}

void FakeDirectory::Answer(RpcReply&& reply) {
  if (reply.type == broken) {
    broken = MessageType::kPing;
    reply = {.token = reply.token, .type = reply.type, .err = Err::kUnavailable, .message = ""};
  }
  server_.Reply(std::move(reply));
}

void FakeDirectory::OnRequest(RpcRequest&& request) {
  ++requests;
  if (request.type == MessageType::kDirLookup) ++look_up_calls;
  if (silent) return;
  if (err.load() != Err::kOk) {
    return server_.Reply({.token = request.token, .type = request.type, .err = err, .message = ""});
  }
  if (request.type == busy) {
    return server_.Reply(
        {.token = request.token, .type = request.type, .err = Err::kBusy, .message = ""});
  }
  shard_.OnRequest(std::move(request), loop_.now());
  shard_.Commit(loop_.now());
}

}  // namespace hayloft
