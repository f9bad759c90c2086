// `hayloft failover` and `hayloft force-promote`: an operator's word on which nameserver is active,
// or which node of a directory shard.

#include <algorithm>
#include <cinttypes>
#include <optional>

#include "client/cli/session.h"
#include "common/io/json.h"
#include "common/io/system_clock.h"

namespace hayloft {

namespace {

constexpr uint64_t kTakeOverMs = 10'000;
constexpr uint64_t kPollMs = 100;
constexpr uint32_t kStatusMs = 500;

// The active node of a pair that has the latest epoch; empty: none answers.
struct ActiveOne {
  std::string address;
  uint64_t epoch = 0;
};

// A pair: a shard of the directory, or the nameservers.
using Pair = std::optional<uint32_t>;

ActiveOne FindActiveOfShard(Session* session, uint32_t shard) {
  ActiveOne active;
  for (const ShardNode& node : AskShardNodes(session, shard, kStatusMs)) {
    if (!node.status.has_value() || node.status->role() != "active") continue;
    if (node.status->epoch() > active.epoch) active = {node.address, node.status->epoch()};
  }
  return active;
}

ActiveOne FindActive(Session* session, Pair pair) {
  if (pair.has_value()) return FindActiveOfShard(session, *pair);
  const StatusDone status = Await<StatusDone>(
      session->loop(), [&](auto done) { session->client()->Status(kStatusMs, done); });
  ActiveOne active;
  for (const NameserverStatus& one : status.nameservers) {
    if (one.err != Err::kOk || one.status.role() != "active") continue;
    if (one.status.epoch() > active.epoch) active = {one.address, one.status.epoch()};
  }
  return active;
}

// Whose pair's this address is: a nameserver's, unless it stands in the list of a shard.
Pair PairOf(const Session& session, const std::string& address) {
  for (uint32_t shard = 0; shard < session.shards(); ++shard) {
    const std::vector<std::string>& nodes = session.nodes(shard);
    if (std::find(nodes.begin(), nodes.end(), address) != nodes.end()) return shard;
  }
  return std::nullopt;
}

int AwaitActive(Session* session, Pair pair, uint64_t above_epoch, const CommandOptions& common) {
  const uint64_t end_ms = SystemMonotonicMs() + kTakeOverMs;
  for (;;) {
    const ActiveOne active = FindActive(session, pair);
    if (active.epoch > above_epoch) {
      if (common.json) {
        const Json json = Json().Set("active", active.address).Set("epoch", active.epoch);
        std::printf("%s\n", json.Dump().c_str());
      } else {
        std::printf("%s is active, epoch %" PRIu64 "\n", active.address.c_str(), active.epoch);
      }
      return kExitFine;
    }
    if (SystemMonotonicMs() >= end_ms) return Complain("none of the two became active in 10 s");
    AwaitTime(session->loop(), kPollMs);
  }
}

int Failover(const std::string& address, const CommandOptions& common) {
  const std::unique_ptr<Session> session = Session::Open(common);
  if (session == nullptr) return kExitFailed;
  const Pair pair = PairOf(*session, address);
  const ActiveOne before = FindActive(session.get(), pair);
  if (before.epoch == 0) return Complain("neither is active: there is nothing to hand over");
  const CallDone done = session->Ask(before.address, MessageType::kFailover,
                                     pb::FailoverRequest().SerializeAsString(), common.timeout_ms);
  if (done.err == Err::kUnavailable) {
    return Complain("no standby is in sync: nothing was changed; see `hayloft status`");
  }
  if (done.err != Err::kOk) return Complain(Describe(done.err));
  return AwaitActive(session.get(), pair, before.epoch, common);
}

#define HAYLOFT_FORCE_OPTIONS(X)                                                                   \
  X(bool, accept_loss, false, 0, 1, "what only others know is lost; without it you are told what") \
  X(bool, yes, false, 0, 1, "do not ask")

struct ForceOptions {
  HAYLOFT_OPTIONS(HAYLOFT_FORCE_OPTIONS)
};

void SayWhatMayBeLost(const std::string& address, bool directory,
                      const pb::ForcePromoteReply& reply) {
  std::printf("%s is not active: %s\n", address.c_str(),
              reply.why_waiting().empty() ? "it is about to be" : reply.why_waiting().c_str());
  if (reply.in_set()) {
    std::printf("It has all that was acknowledged: nothing is lost.\n");
  } else if (reply.record_known() && reply.record_position() > reply.log_index()) {
    std::printf("It has operations up to %" PRIu64 ", others had at least %" PRIu64
                ": at least %" PRIu64 " operations are lost.\n",
                reply.log_index(), reply.record_position(),
                reply.record_position() - reply.log_index());
  } else {
    std::printf("It has operations up to %" PRIu64
                "; what was acknowledged after it left the in-sync set is lost.\n",
                reply.log_index());
  }
  std::printf(
      "No image is lost by that: %s. The other one must be stopped, and must not be started "
      "with its old folder.\n",
      directory ? "what dsps hold is adopted by `hayloft fsck --directory --adopt`, and kept "
                  "until `hayloft unpin`"
                : "what dsps hold is reported and adopted");
}

int ForcePromote(const std::string& address, const ForceOptions& options,
                 const CommandOptions& common) {
  const std::unique_ptr<Session> session = Session::Open(common);
  if (session == nullptr) return kExitFailed;
  const Pair pair = PairOf(*session, address);
  const ActiveOne before = FindActive(session.get(), pair);
  if (before.epoch != 0) return Complain(before.address + " is active: nothing was done");
  pb::ForcePromoteRequest request;
  CallDone done = session->Ask(address, MessageType::kForcePromote, request.SerializeAsString(),
                               common.timeout_ms);
  pb::ForcePromoteReply reply;
  if (done.err != Err::kOk) return Complain(address + ": " + Describe(done.err));
  if (!reply.ParseFromString(done.message)) return Complain(Describe(Err::kCorrupt));
  SayWhatMayBeLost(address, pair.has_value(), reply);
  if (!options.accept_loss) return Complain("nothing was done: --accept-loss");
  if (!Confirmed(address + " becomes active.", options.yes)) return kExitFailed;
  request.set_accept_loss(true);
  done = session->Ask(address, MessageType::kForcePromote, request.SerializeAsString(),
                      common.timeout_ms);
  if (done.err != Err::kOk) return Complain(address + ": " + Describe(done.err));
  return AwaitActive(session.get(), pair, 0, common);
}

}  // namespace

int RunFailover(int argc, const char* const* argv) {
  CommandOptions common;
  std::vector<std::string> arguments;
  const Program program{.name = "hayloft failover",
                        .role = "",
                        .about =
                            "The standby takes over, in order: nothing is lost, and the other one "
                            "follows. For maintenance. Of the nameservers, or of the shard of the "
                            "directory that has this node.",
                        .rows = common.Rows(),
                        .fault = [&]() -> std::string {
                          return arguments.size() > 1 ? "name one node at the most"
                                                      : common.Fault();
                        },
                        .arguments = &arguments,
                        .arguments_help = "[IP:PORT]"};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  return Failover(arguments.empty() ? "" : arguments[0], common);
}

int RunForcePromote(int argc, const char* const* argv) {
  CommandOptions common;
  ForceOptions options;
  std::vector<std::string> arguments;
  const Program program{
      .name = "hayloft force-promote",
      .role = "",
      .about =
          "Makes a nameserver or a node of the directory active that waits, because it may lack "
          "what others knew, or the coordinator's record is lost. For when those others are lost "
          "for good.",
      .rows = Joined(common.Rows(), options.Rows()),
      .fault = [&]() -> std::string {
        return arguments.size() != 1 ? "name one node, by its address" : common.Fault();
      },
      .arguments = &arguments,
      .arguments_help = "IP:PORT"};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  return ForcePromote(arguments[0], options, common);
}

}  // namespace hayloft
