// What a command needs to talk to a cluster: a loop, a client, and the cluster's key if it is at
// hand.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/async_client.h"
#include "client/cli/await.h"
#include "client/cli/command.h"
#include "common/delete_token.h"
#include "common/io/loop.h"

namespace hayloft {

class Session {
 public:
  // Null, with a complaint on stderr, when neither --cluster nor --dir names a cluster.
  static std::unique_ptr<Session> Open(const CommandOptions& options);

  Loop* loop() { return &loop_; }
  AsyncClient* client() { return client_.get(); }
  // One request to each of these at once; the answers in their order.
  std::vector<CallDone> AskAll(const std::vector<std::string>& addresses, MessageType type,
                               const std::string& message, uint32_t timeout_ms);
  // One request to this process, or to the active nameserver.
  CallDone Ask(const std::string& address, MessageType type, const std::string& message,
               uint32_t timeout_ms);
  CallDone AskNameserver(MessageType type, const std::string& message, uint32_t timeout_ms);
  // One to the active node of this shard of the directory; sent again while none answers, so it
  // must be one that may come twice. REQUIRES: shard < shards().
  CallDone AskShard(uint32_t shard, MessageType type, const std::string& message,
                    uint32_t timeout_ms);
  const std::vector<std::string>& nodes(uint32_t shard) const { return directory_[shard]; }
  uint32_t shards() const { return static_cast<uint32_t>(directory_.size()); }  // 0: not known
  // Null: the key is not at hand; then delete tokens can be neither made nor checked.
  const ClusterKey* key() const { return key_.has_value() ? &*key_ : nullptr; }

 private:
  Session() = default;

  Loop loop_;
  std::optional<ClusterKey> key_;
  std::vector<std::string> nameservers_;
  std::vector<std::vector<std::string>> directory_;  // the nodes of each shard
  std::string secret_;                               // for connections of its own
  std::unique_ptr<AsyncClient> client_;              // after the loop: it must be gone before it
};

// A node of a shard of the directory.
struct ShardNode {
  std::string address;
  std::optional<pb::DirStatusReply> status{};  // none: it did not answer
};
std::vector<ShardNode> AskShardNodes(Session* session, uint32_t shard, uint32_t timeout_ms);

// The folder of the cluster that commands mean: --dir, else run/ here, else run/ beside bin/.
std::string ClusterFolder(const std::string& dir);

// A deleted file's counter is odd.
inline bool IsDeleted(uint32_t counter) { return counter % 2 == 1; }

// Whether a person agrees to what this sentence says. Nobody is asked who is not there: a script
// has to say --yes.
bool Confirmed(const std::string& what, bool yes);

// For people: "not_found: no such file, ..."
std::string Describe(Err err);

}  // namespace hayloft
