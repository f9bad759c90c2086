// The network between simulated processes: carries calls and replies late, twice, out of order or
// never, and says so to a caller the way a real transport does.
//
//   caller's core -> Call -> [delay, loss, copy] -> OnRequest -> target's core
//   caller's core <- OnDone <- [delay, loss]  <-    Reply     <-
//
// Each call gets exactly one CallDone, if only kTimeout (nothing came) or kUnavailable (nobody
// listens, or the peer died); a reply that comes after it is dropped. Each request must be answered
// exactly once by a process that lives: checked here.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "common/core_io.h"
#include "tests/sim/sim_events.h"
#include "tests/sim/sim_random.h"
#include "tests/sim/sim_trace.h"

namespace hayloft {

class SimNet {
 public:
  // How bad the network is now; percentages of messages.
  struct Weather {
    uint64_t delay_us_min = 30;
    uint64_t delay_us_max = 300;
    uint64_t lost_percent = 0;
    uint64_t doubled_percent = 0;  // of requests
    uint64_t late_percent = 0;     // these take up to late_us_max
    uint64_t late_us_max = 4'000'000;
  };
  // A process' ends. They must outlive its Stop.
  struct Process {
    std::function<Now()> now;
    std::function<void(RpcRequest&&)> on_request;
    std::function<void(CallDone&&)> on_done;
  };

  // A call, as who sees everything knows it.
  struct Asked {
    std::string from, to;
    MessageType type = MessageType::kPing;
    uint64_t us = 0;  // when it was made
    std::string message;
  };
  struct Watch {
    std::function<void(const RpcCall&)> on_call;
    std::function<void(const Asked&, const CallDone&)> on_answer;  // before the caller hears of it
  };

  // Borrows all, which must outlive it.
  SimNet(SimEvents* events, SimRandom* random, SimTrace* trace)
      : events_(events), random_(random), trace_(trace) {}

  void SetWatch(Watch watch) { watch_ = std::move(watch); }

  // A process begins to listen at `address`, or to call from it. REQUIRES: none does.
  void Start(const std::string& address, Process process);
  // It died: its own calls end with it, whoever waits for it hears kUnavailable.
  void Stop(const std::string& address);
  bool Listens(const std::string& address) const { return processes_.contains(address); }

  void Call(const std::string& from, RpcCall&& call);
  void Reply(const std::string& from, RpcReply&& reply);

  void SetWeather(const Weather& weather) { weather_ = weather; }
  // Nothing gets from `from` to `to` any more; the other way is another cut.
  void Cut(const std::string& from, const std::string& to) { cuts_.insert({from, to}); }
  void HealCut(const std::string& from, const std::string& to) { cuts_.erase({from, to}); }
  void HealCuts() { cuts_.clear(); }
  bool IsCut(const std::string& from, const std::string& to) const {
    return cuts_.contains({from, to});
  }
  // All connections between the two break: who waits hears kUnavailable, requests on the way go.
  void BreakConnections(const std::string& a, const std::string& b);

  // Requests that reached a living process and were not answered yet.
  size_t Unanswered() const { return deliveries_.size(); }
  std::string DescribeUnanswered() const;
  size_t InFlight() const { return flights_.size(); }  // calls whose callers wait
  uint64_t calls() const { return next_flight_ - 1; }

 private:
  struct Life {
    Process process;
    uint64_t life = 0;
  };
  struct Flight {  // a call whose caller waits
    Asked asked;
    uint64_t from_life = 0;
    uint64_t to_life = 0;  // 0: nobody listened
    uint64_t call_id = 0;
  };
  struct Delivery {  // a request that a process has and must answer
    std::string to;
    uint64_t flight = 0;
    MessageType type = MessageType::kPing;
  };
  uint64_t Delay();
  bool Loses(const std::string& from, const std::string& to);
  void CheckBounds(MessageType type, size_t message_size, const Buffer& payload);
  void Send(uint64_t flight, const RpcCall& call);
  void Deliver(uint64_t flight, uint64_t deadline_us, RpcRequest&& request);
  void Finish(uint64_t flight, CallDone&& done);
  void BreakFlight(uint64_t flight);

  SimEvents* events_;
  SimRandom* random_;
  SimTrace* trace_;
  Watch watch_;
  Weather weather_;
  std::map<std::string, Life> processes_;
  uint64_t next_life_ = 1;
  std::map<uint64_t, Flight> flights_;
  uint64_t next_flight_ = 1;
  std::map<uint64_t, Delivery> deliveries_;
  uint64_t next_delivery_ = 1;
  std::set<std::pair<std::string, std::string>> cuts_;
};

}  // namespace hayloft
