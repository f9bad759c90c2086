// A directory shard of a test, the first one of the options': a DirCore, its log and its rows,
// without the pair around it.
//
//   records --> log -- Commit --> applied to the rows
//
// Purges go out as calls to kSimCdnAddress, with the whole request as their message.
//
// A crash takes records that were not committed; a forced promotion also some that were.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "directory/dir_core.h"
#include "tests/sim/mem_kv.h"
#include "tests/sim/sim_random.h"

namespace hayloft {

inline constexpr char kSimCdnAddress[] = "cdn";

class SimShard {
 public:
  // `calls`, `replies`: where what it sends goes.
  SimShard(uint64_t seed, DirOptions options, std::function<void(RpcCall&&)> calls,
           std::function<void(RpcReply&&)> replies);

  bool running() const { return core_ != nullptr; }
  // Active again, with a higher epoch. `kept`: of the log; what is behind it is gone.
  void Start(size_t kept, bool forced, Now now);
  void Crash() { core_.reset(); }
  // Records were lost altogether: an empty store, to be filled by adoptions.
  void Rebuild(Now now);

  void OnRequest(RpcRequest&& request, Now now);
  void OnCallDone(CallDone&& done, Now now);
  void OnTick(Now now);
  // All that is in the log is safe from now on.
  void Commit(Now now);

  size_t committed() const { return committed_; }
  size_t logged() const { return log_.size(); }
  // Somebody waits for what is in the log and not safe yet.
  bool hurried() const { return hurried_; }
  uint64_t losses() const { return losses_; }
  const DirCore& core() const { return *core_; }
  MemKv& kv() const { return *kv_; }
  // What the rows are now, as decided; of one that doesn't run, as committed.
  struct View {
    bool present = false;
    pb::DirFile row{};
    std::map<Nonce, uint32_t> references{};  // counters
  };
  View Look(const ContentId& content, const FileAddress& file);
  std::optional<pb::DirName> Name(std::string_view name, bool committed);
  const std::string& exit() const { return exit_; }

 private:
  void Take(ServiceOutbox* out);
  void LayTail(DirRows* rows) const;
  void MakeStore(uint32_t losses);

  SimRandom random_;
  const DirOptions options_;
  const std::function<void(RpcCall&&)> calls_;
  const std::function<void(RpcReply&&)> replies_;
  std::unique_ptr<MemKv> kv_;
  std::unique_ptr<DirStore> store_;
  std::unique_ptr<DirCore> core_;
  std::vector<pb::HaRecord> log_;
  size_t committed_ = 0;
  bool hurried_ = false;
  uint64_t epoch_ = 0;
  uint64_t losses_ = 0;
  size_t force_index_ = 0;    // of the record that has to be safe; 0: none
  uint32_t base_losses_ = 0;  // of the store that the log began on
  std::string exit_;
};

}  // namespace hayloft
