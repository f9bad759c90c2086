#include "client/cli/session.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "client/cli/cluster_state.h"
#include "common/io/files.h"
#include "common/io/process.h"
#include "common/io/server_start.h"
#include "common/io/socket_address.h"
#include "common/io/system_clock.h"

namespace hayloft {

namespace {

constexpr uint64_t kCommandLineBytesMax = 1 << 20;
constexpr uint64_t kAskAgainMs = 100;

// True when the command was pointed at this very cluster, or at none.
bool Names(const std::vector<std::string>& given, const ClusterState& state) {
  const std::vector<std::string> own = SplitList(state.NameserverList());
  for (const std::string& address : given) {
    if (std::find(own.begin(), own.end(), address) == own.end()) return false;
  }
  return true;
}

// The arguments of a process, as it was started with them.
std::vector<std::string> ArgumentsOf(const std::string& pid) {
  std::vector<std::string> arguments;
  const auto text = ReadWholeFile("/proc/" + pid + "/cmdline", kCommandLineBytesMax);
  for (size_t start = 0; text.ok() && start < text->size();) {
    const size_t end = std::min(text->find('\0', start), text->size());
    arguments.push_back(text->substr(start, end - start));
    start = end + 1;
  }
  return arguments;
}

// On the nameserver's own machine the key lies where the nameserver has it from, which its command
// line says; who may not read that file gets nothing by knowing its name. Empty: not found.
std::string KeyFileOfServer(const std::string& address) {
  constexpr std::string_view kKeyOption = "--cluster-key-file=";
  const auto processes = ListFolder("/proc");
  for (const std::string& pid : processes.ok() ? *processes : std::vector<std::string>()) {
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::vector<std::string> arguments = ArgumentsOf(pid);
    if (std::find(arguments.begin(), arguments.end(), "--listen=" + address) == arguments.end()) {
      continue;
    }
    for (const std::string& argument : arguments) {
      if (argument.starts_with(kKeyOption)) return argument.substr(kKeyOption.size());
    }
  }
  return {};
}

}  // namespace

bool IsAddress(const std::string& text) { return ParseSocketAddress(text).ok(); }

std::string CommandOptions::Fault() const {
  for (const std::string& address : SplitList(cluster)) {
    if (!IsAddress(address)) return "--cluster: " + address + " is not IP:PORT";
  }
  for (const std::string& nodes : shard) {
    for (const std::string& address : SplitList(nodes)) {
      if (!IsAddress(address)) return "--shard: " + address + " is not IP:PORT";
    }
  }
  return {};
}

std::string ClusterFolder(const std::string& dir) {
  if (!dir.empty()) return AbsolutePath(dir);
  const std::string beside = OwnBinaryFolder() + "/../run";
  return AbsolutePath(!IsFolder("run") && IsFolder(beside) ? beside : "run");
}

std::unique_ptr<Session> Session::Open(const CommandOptions& options) {
  AsyncClientOptions client{.core = {}, .rpc = {.role = "command", .cluster_key = ""}};
  std::vector<std::string>& nameservers = client.core.nameservers;
  nameservers = SplitList(options.cluster);
  std::vector<std::vector<std::string>> directory = SplitLists(options.shard);
  std::string key_file = options.cluster_key_file;
  const std::string folder = ClusterFolder(options.dir);
  const Result<ClusterState> state = LoadClusterState(folder);
  if (state.ok() && Names(nameservers, *state)) {
    nameservers = SplitList(state->NameserverList());
    if (directory.empty()) directory = SplitLists(state->DirectoryLists());
    if (key_file.empty()) key_file = state->Path("secret");
  }
  if (nameservers.empty()) {
    Complain("there is no cluster in " + folder + "; name one with --cluster or --dir");
    return nullptr;
  }
  std::unique_ptr<Session> session(new Session());  // NOLINT: the constructor is private
  if (key_file.empty()) key_file = KeyFileOfServer(nameservers.front());
  std::string why;
  const Result<std::string> key = ReadClusterKey(key_file, &why);
  if (!key.ok()) return Complain(why), nullptr;
  if (!key->empty()) session->key_ = ClusterKey{.bytes = *key};
  client.rpc.cluster_key = *key;
  session->nameservers_ = nameservers;
  session->directory_ = client.core.directory = std::move(directory);
  session->secret_ = *key;
  session->client_ = std::make_unique<AsyncClient>(&session->loop_, client);
  return session;
}

std::vector<CallDone> Session::AskAll(const std::vector<std::string>& addresses, MessageType type,
                                      const std::string& message, uint32_t timeout_ms) {
  std::vector<CallDone> answers(addresses.size());
  if (answers.empty()) return answers;
  RpcClient rpc(&loop_, {.role = "command", .cluster_key = secret_});
  size_t left = addresses.size();
  rpc.OnDone([&](CallDone&& answer) {
    const uint64_t index = answer.call_id - 1;
    answers[index] = std::move(answer);
    if (--left == 0) loop_.Stop();
  });
  for (size_t i = 0; i < addresses.size(); ++i) {
    RpcCall call;
    call.call_id = i + 1;
    call.address = addresses[i];
    call.type = type;
    call.timeout_ms = timeout_ms;
    call.message = message;
    rpc.Call(std::move(call));
  }
  while (left > 0) loop_.Run();
  return answers;
}

CallDone Session::Ask(const std::string& address, MessageType type, const std::string& message,
                      uint32_t timeout_ms) {
  std::vector<CallDone> answers = AskAll({address}, type, message, timeout_ms);
  return std::move(answers.front());
}

CallDone Session::AskNameserver(MessageType type, const std::string& message, uint32_t timeout_ms) {
  CallDone last;
  last.err = Err::kUnavailable;
  for (const std::string& address : nameservers_) {
    last = Ask(address, type, message, timeout_ms);
    if (last.err != Err::kNotActive && last.err != Err::kUnavailable) break;
  }
  return last;
}

CallDone Session::AskShard(uint32_t shard, MessageType type, const std::string& message,
                           uint32_t timeout_ms) {
  const uint64_t end_ms = SystemMonotonicMs() + timeout_ms;
  CallDone last;
  for (;;) {
    for (const std::string& address : directory_[shard]) {
      last = Ask(address, type, message, timeout_ms);
      const bool elsewhere = last.err == Err::kNotActive || last.err == Err::kUnavailable ||
                             last.err == Err::kNotServing || last.err == Err::kBusy;
      if (!elsewhere || SystemMonotonicMs() >= end_ms) return last;
    }
    AwaitTime(&loop_, kAskAgainMs);
  }
}

std::vector<ShardNode> AskShardNodes(Session* session, uint32_t shard, uint32_t timeout_ms) {
  const std::vector<std::string>& addresses = session->nodes(shard);
  const std::vector<CallDone> answers = session->AskAll(
      addresses, MessageType::kDirStatus, pb::DirStatusRequest().SerializeAsString(), timeout_ms);
  std::vector<ShardNode> nodes;
  for (size_t i = 0; i < answers.size(); ++i) {
    ShardNode& node = nodes.emplace_back(ShardNode{.address = addresses[i]});
    pb::DirStatusReply status;
    if (answers[i].err == Err::kOk && status.ParseFromString(answers[i].message)) {
      node.status = std::move(status);
    }
  }
  return nodes;
}

bool Confirmed(const std::string& what, bool yes) {
  if (yes) return true;
  if (isatty(STDIN_FILENO) == 0) {
    Complain(what + " Nobody is there to be asked: say --yes");
    return false;
  }
  std::printf("%s Go on? [y/N] ", what.c_str());
  std::fflush(stdout);
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

std::string Describe(Err err) {
  return std::string(ErrName(err)) + ": " + std::string(ErrMeaning(err));
}

}  // namespace hayloft
