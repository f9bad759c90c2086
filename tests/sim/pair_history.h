// What a simulated pair of nameservers told anybody, held against the one nameserver that both
// have to look like.
//
// Linearizable (Herlihy and Wing 1990): all operations can be put into an order in which each lies
// between its request and its answer, and every answer is right. The whole is if each object is by
// itself. The objects:
//   epoch      of who answers                                          register, heartbeat, status
//   ids        the end of the range that was reserved                  register, heartbeat
//   block      unknown < open < closed < sealed                        grant, locate, seal
//   set        of a block: its version                                 heartbeat
//   replica    not doubted < closed, as its dsp said and was answered  heartbeat, grant
// Each only rises, and for such an object no order has to be searched for. Let it rise to a value
// just behind the request of the last answer below it. That is right unless an answer of the value
// or above had ended before that request was made. So a history is wrong if, and only if, some
// answer is below one that ended before it was asked for: two answers show it.
//
// Beside that: a block id is ordered with one life and set, out of a range that was reserved; a
// block is open under one epoch of its own; a version of a set has one list of members.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/core_io.h"
#include "tests/sim/sim_net.h"
#include "tests/sim/sim_world.h"

namespace hayloft {

class PairHistory {
 public:
  explicit PairHistory(SimWorld* world) : world_(world) {}

  void OnCall(const RpcCall& call);
  void OnAnswer(const SimNet::Asked& asked, const CallDone& done);
  // The only nameserver lost its store: what it knew of blocks begins anew, epochs and ids don't.
  void Forget();
  const std::vector<uint64_t>& ordered() const { return ordered_; }  // block ids, some twice

 private:
  class Rising {
   public:
    void Tell(uint64_t value, uint64_t us);
    uint64_t Before(uint64_t us) const;  // the highest that was told before

   private:
    std::vector<std::pair<uint64_t, uint64_t>> told_;  // when, what; both rise
  };

  void OnOrder(const RpcCall& call);
  void OnRegister(const SimNet::Asked& asked, const CallDone& done);
  void OnHeartbeat(const SimNet::Asked& asked, const CallDone& done);
  void OnGrant(const SimNet::Asked& asked, const CallDone& done);
  void OnLocate(const SimNet::Asked& asked, const CallDone& done);
  void OnStatus(const SimNet::Asked& asked, const CallDone& done);
  void Answer(const char* what, uint64_t of, Rising* object, uint64_t value,
              const SimNet::Asked& asked);
  void AnswerEpoch(uint64_t epoch, const SimNet::Asked& asked);
  // Whatever is said of this for the first time is so for ever.
  void Once(const std::string& what, const std::string& value);

  SimWorld* world_;
  uint64_t forgot_us_ = 0;
  Rising epoch_;
  Rising ids_;
  std::map<uint64_t, Rising> blocks_;
  std::map<uint64_t, Rising> sets_;                           // by block
  std::map<std::pair<uint64_t, uint32_t>, Rising> replicas_;  // by block and dsp
  std::map<std::string, std::string> once_;
  std::vector<uint64_t> ordered_;
};

// Asks both nameservers all the time, from a place that nothing is cut off from: also a former
// active one, of which the cluster hears no more.
class PairAsker {
 public:
  // Borrows both, which must outlive it.
  PairAsker(SimWorld* world, const PairHistory* history, std::vector<std::string> nameservers);

 private:
  void Ask();

  SimWorld* world_;
  const PairHistory* history_;
  const std::vector<std::string> nameservers_;
  SimRandom random_;
  uint64_t last_call_ = 0;
};

}  // namespace hayloft
