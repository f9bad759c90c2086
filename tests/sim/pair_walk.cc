#include "tests/sim/pair_walk.h"

#include <algorithm>
#include <cinttypes>
#include <deque>
#include <map>
#include <set>
#include <vector>

#include "common/check.h"
#include "tests/sim/pair_walk_parts.h"
#include "tests/sim/sim_random.h"

namespace hayloft {

namespace {

constexpr uint64_t kIdsReserved = 3;
constexpr uint64_t kIdJump = 1'000;
constexpr size_t kBagMax = 24;
constexpr int kDsps = 2;
constexpr uint64_t kCallMsMax = 2'000;

using pair_walk::Disk;
using pair_walk::Dsp;
using pair_walk::kCoordinatorPlace;
using pair_walk::kFirstDsp;
using pair_walk::Kind;
using pair_walk::Message;
using pair_walk::Node;
using pair_walk::Operation;

class PairWalk {
 public:
  PairWalk(uint64_t seed, SimTrace* trace) : random_(seed), trace_(trace) {
    for (int i = 0; i < 2; ++i) {
      nodes_[i].address = std::string(1, static_cast<char>('A' + i));
      FreshDisk(i);
      nodes_[i].disk.head.set_joining(i == 1);
    }
    delay_ = random_.Between(5, 200);
    lose_percent_ = random_.Below(25);
    fault_every_ = random_.Between(8, 48);
    force_allowed_ = random_.Chance(25);
    strict_ = random_.Chance(10);
    lose_coordinator_ = force_allowed_ && random_.Chance(50);
  }

  PairWalkResult Run() {
    for (int i = 0; i < 2; ++i) StartNode(i, false);
    const uint64_t steps = random_.Between(40, 400);
    for (uint64_t step = 0; step < steps && !trace_->failed(); ++step) Step();
    if (!trace_->failed()) Heal();
    PairWalkResult result;
    result.promotions = epochs_.size();
    result.committed = history_.size();
    result.versions = version_;
    return result;
  }

 private:
  void FreshDisk(int i) {
    Node& node = nodes_[i];
    node.disk = {};
    node.name = std::string(16, '\0');
    random_.Fill({reinterpret_cast<uint8_t*>(node.name.data()), node.name.size()});
    trace_->Note("%s has an empty disk, %02x", node.address.c_str(),
                 static_cast<uint8_t>(node.name[0]));
  }

  void StartNode(int i, bool force) {
    Node& node = nodes_[i];
    ASSERT(node.role == nullptr);
    ++node.life;
    node.active = false;
    node.writing.reset();
    node.calls.clear();
    node.syncs = 0;
    node.now.mono_ms = random_.Below(1'000'000) + 1'000'000;
    LogTail log(node.disk.base);
    for (const pb::HaRecord& record : node.disk.records) {
      log.Append(record, record.index() > node.disk.applied);
    }
    RoleOptions options;
    options.node = node.name;
    options.address = node.address;
    options.peer = nodes_[1 - i].address;
    options.strict = strict_;
    options.force = force;
    forced_[i] = force;
    RoleDisk disk{.head = node.disk.head, .log = std::move(log), .applied = node.disk.applied};
    trace_->Note("%s starts, log %" PRIu64 " applied %" PRIu64 "%s", node.address.c_str(),
                 disk.log.last(), disk.applied, force ? ", forced" : "");
    node.role = std::make_unique<RoleCore>(std::move(options), std::move(disk), random_.Next());
    RoleOutbox out;
    node.role->Start(node.now, &out);
    Take(i, &out);
  }

  void StopNode(int i, const char* why) {
    Node& node = nodes_[i];
    if (node.role == nullptr) return;
    trace_->Note("%s stops: %s", node.address.c_str(), why);
    // What was being written is there or is not; a batch is atomic.
    if (node.writing.has_value() && random_.Chance(50)) WriteNow(i);
    node.role.reset();
    node.writing.reset();
    ++node.life;
    node.active = false;
  }

  // --- What a core wants ---

  void Put(Message&& message) {
    if (bag_.size() >= kBagMax) Lose(random_.Below(bag_.size()));
    bag_.push_back(std::move(message));
  }

  // The caller hears of it, if he lives: a call ends once.
  void Lose(size_t at) {
    Message message = std::move(bag_[at]);
    bag_.erase(bag_.begin() + static_cast<long>(at));
    Fail(message);
  }

  void Fail(const Message& message) {
    if (message.kind == Kind::kRequest || message.kind == Kind::kReply) {
      const int caller = message.kind == Kind::kRequest ? message.from : message.to;
      CallDone done;
      done.call_id = message.call_id;
      done.err = random_.Chance(50) ? Err::kTimeout : Err::kUnavailable;
      EndCall(caller, message.life, std::move(done));
    } else if (message.kind == Kind::kCoordinator || message.kind == Kind::kCoordinatorDone) {
      const int caller = message.kind == Kind::kCoordinator ? message.from : message.to;
      CoordinatorDone done;
      done.err = Err::kTimeout;
      EndAsk(caller, message.life, message.ask_number, std::move(done));
    }
  }

  void EndCall(int i, uint64_t life, CallDone&& done) {
    Node& node = nodes_[i];
    if (node.role == nullptr || node.life != life) return;
    if (node.calls.erase(done.call_id) == 0) return;  // it ended before
    RoleOutbox out;
    node.role->OnCallDone(std::move(done), node.now, &out);
    Take(i, &out);
  }

  void EndAsk(int i, uint64_t life, uint64_t number, CoordinatorDone&& done) {
    Node& node = nodes_[i];
    if (node.role == nullptr || node.life != life || asks_[i] != number) return;
    asks_[i] = 0;
    RoleOutbox out;
    node.role->OnCoordinatorDone(std::move(done), node.now, &out);
    Take(i, &out);
  }

  void Take(int i, RoleOutbox* out) {
    Node& node = nodes_[i];
    const uint64_t life = node.life;
    for (RpcReply& reply : out->replies) {
      Message message{.kind = Kind::kReply, .from = i, .to = 1 - i};
      message.life = reply.token.connection;
      message.call_id = reply.token.request_id;
      message.err = reply.err;
      message.text = std::move(reply.message);
      Put(std::move(message));
    }
    for (RpcCall& call : out->calls) {
      Message message{.kind = Kind::kRequest, .from = i, .to = 1 - i, .life = life};
      message.call_id = call.call_id;
      message.type = call.type;
      message.text = std::move(call.message);
      node.calls[call.call_id] = node.now.mono_ms;
      Put(std::move(message));
    }
    if (out->coordinator.has_value()) {
      asks_[i] = ++ask_number_;
      Message message{.kind = Kind::kCoordinator, .from = i, .to = kCoordinatorPlace};
      message.life = life;
      message.ask = *out->coordinator;
      message.ask_number = ask_number_;
      message.forced = forced_[i];
      message.history = restores_;
      message.syncs = node.syncs;
      Put(std::move(message));
    }
    if (out->write.has_value()) {
      ASSERT(!node.writing.has_value());
      node.writing = std::move(out->write);
    }
    for (const pb::HaRecord& record : out->committed) OnCommitted(i, record);
    if (out->reload) node.disk.applied = node.disk.base.index();
    if (out->promoted.has_value()) OnPromoted(i, *out->promoted);
    if (node.role == nullptr || node.life != life) return;
    if (out->raised_epoch != 0) OnEpoch(i, out->raised_epoch);
    if (out->want_record) Log(i, Operation{.kind = 'n', .value = 0, .unique = ++unique_});
    if (out->read_from != 0) ReadRecords(i, out->read_from);
    if (out->snapshot_after.has_value()) ReadSnapshot(i);
    if (!out->exit.empty()) StopNode(i, out->exit.c_str());
  }

  void ReadRecords(int i, uint64_t from) {
    Node& node = nodes_[i];
    std::vector<pb::HaRecord> records;
    for (const pb::HaRecord& record : node.disk.records) {
      if (record.index() >= from && records.size() < 4) records.push_back(record);
    }
    if (!records.empty() && records.front().index() != from) records.clear();
    RoleOutbox out;
    node.role->OnRecordsRead(std::move(records), node.now, &out);
    Take(i, &out);
  }

  void ReadSnapshot(int i) {
    Node& node = nodes_[i];
    pb::SnapshotRow row;
    row.set_key("range_end");
    row.set_value(std::to_string(node.disk.range_end));
    RoleCore::SnapshotPart part;
    part.base = node.disk.applied;
    part.rows.push_back(std::move(row));
    part.last = true;
    RoleOutbox out;
    node.role->OnSnapshotRead(std::move(part), node.now, &out);
    Take(i, &out);
  }

  // --- The service ---

  void Log(int i, const Operation& operation) {
    Node& node = nodes_[i];
    RoleOutbox out;
    trace_->Note("%s(e%" PRIu64 ") logs #%" PRIu64 " %s", node.address.c_str(), node.role->epoch(),
                 node.role->last() + 1, operation.Text().c_str());
    node.role->Propose(node.role->last() + 1, {operation.Text()}, node.now, &out);
    Take(i, &out);
  }

  void OnPromoted(int i, const Promotion& promotion) {
    Node& node = nodes_[i];
    trace_->Note("%s is active, epoch %" PRIu64 " log %" PRIu64 "%s", node.address.c_str(),
                 promotion.epoch, node.role->last(), promotion.forced ? " forced" : "");
    node.active = true;
    node.mark = 0;
    node.jump = promotion.forced;
    node.fenced.clear();
    if (!promotion.forced) CheckNothingLost(i);
    OnEpoch(i, promotion.epoch);
  }

  void CheckNothingLost(int i) {
    const LogTail& log = nodes_[i].role->log();
    for (const auto& [index, record] : history_) {
      if (index <= log.base()) continue;
      pb::HaPoint point;
      point.set_index(index);
      point.set_epoch(record.epoch());
      point.set_node(record.node());
      if (log.Has(point)) continue;
      return trace_->Fail("lost: %s is active without #%" PRIu64, nodes_[i].address.c_str(), index);
    }
  }

  void OnEpoch(int i, uint64_t epoch) {
    Node& node = nodes_[i];
    if (!epochs_.insert({epoch, node.name}).second)
      trace_->Fail("epoch %" PRIu64 " is held twice", epoch);
    node.next_id = node.ids_end = 0;
    Log(i, Operation{.kind = 's', .value = epoch, .unique = ++unique_});
  }

  // Ids come from a range that was logged and committed before.
  void Work(int i) {
    Node& node = nodes_[i];
    if (node.jump && node.fenced.size() < kDsps) return SendFences(i);
    if (node.next_id < node.ids_end) {
      if (node.ids_index > node.role->committed()) return;
      return Log(i, Operation{.kind = 'c', .value = node.next_id++, .unique = ++unique_});
    }
    uint64_t from = node.disk.range_end;
    const LogTail& log = node.role->log();
    for (uint64_t index = node.disk.applied + 1; index <= log.last(); ++index) {
      const Operation logged = Operation::Parse(log.At(index).body());
      if (logged.kind == 'r') from = std::max(from, logged.value);
    }
    if (node.jump) from = std::max(from, node.mark) + kIdJump;
    node.next_id = from;
    node.ids_end = from + kIdsReserved;
    Log(i, Operation{.kind = 'r', .value = node.ids_end, .unique = ++unique_});
    if (node.role == nullptr || !node.active) return;
    node.ids_index = node.role->last();
    if (node.jump) node.role->ForceLogged(node.ids_index);
    node.jump = false;
  }

  void SendFences(int i) {
    for (int dsp = 0; dsp < kDsps; ++dsp) SendCommand(i, dsp, 0, 0);
  }

  void SendCommand(int i, int dsp, uint64_t index, uint64_t unique) {
    Node& node = nodes_[i];
    Message message{.kind = Kind::kCommand, .from = i, .to = kFirstDsp + dsp};
    message.life = node.life;
    message.epoch = node.role->epoch();
    message.node = node.name;
    message.index = index;
    message.unique = unique;
    message.mark = node.ids_end;
    Put(std::move(message));
  }

  void OnCommitted(int i, const pb::HaRecord& record) {
    Node& node = nodes_[i];
    const auto [known, fresh] = history_.try_emplace(record.index(), record);
    if (!fresh &&
        (known->second.epoch() != record.epoch() || known->second.node() != record.node() ||
         known->second.body() != record.body())) {
      trace_->Fail("history: #%" PRIu64 " was \"%s\", is \"%s\" of %s", record.index(),
                   known->second.body().c_str(), record.body().c_str(), node.address.c_str());
    }
    const Operation operation = Operation::Parse(record.body());
    if (fresh) {
      trace_->Note("%s commits #%" PRIu64 " %s", node.address.c_str(), record.index(),
                   record.body().c_str());
    }
    if (operation.kind == 'c') {
      const auto [used, first] = ids_.try_emplace(operation.value, operation.unique);
      if (!first && used->second != operation.unique) {
        trace_->Fail("id %" PRIu64 " is used twice", operation.value);
      }
    }
    if (operation.kind == 'r') {
      node.disk.range_end = std::max(node.disk.range_end, operation.value);
    }
    node.disk.applied = record.index();
    if (node.active)
      SendCommand(i, static_cast<int>(random_.Below(kDsps)), record.index(), operation.unique);
  }

  // --- The disk ---

  void WriteNow(int i) {
    Node& node = nodes_[i];
    RoleWrite& write = *node.writing;
    Disk& disk = node.disk;
    if (write.wipe) {
      disk.records.clear();
      disk.range_end = 1;
    }
    if (write.head.has_value()) {
      disk.head = *write.head;
      if (write.wipe) disk.base = write.head->base();
      if (write.wipe) disk.applied = disk.base.index();
    }
    while (write.cut_from != 0 && !disk.records.empty() &&
           disk.records.back().index() >= write.cut_from) {
      disk.records.pop_back();
    }
    for (const pb::HaRecord& record : write.records) disk.records.push_back(record);
    for (const pb::SnapshotRow& row : write.rows) {
      disk.range_end = std::max<uint64_t>(disk.range_end, std::stoull(row.value()));
    }
    node.writing.reset();
  }

  void FinishWrite(int i) {
    Node& node = nodes_[i];
    if (node.role == nullptr || !node.writing.has_value()) return;
    WriteNow(i);
    ++node.syncs;
    // Old records go, as long as one is left.
    while (random_.Chance(10) && node.disk.records.size() > 1 &&
           node.disk.records.front().index() <= node.disk.applied) {
      const pb::HaRecord& first = node.disk.records.front();
      node.disk.base.set_index(first.index());
      node.disk.base.set_epoch(first.epoch());
      node.disk.base.set_node(first.node());
      node.disk.records.pop_front();
    }
    RoleOutbox out;
    node.role->OnWritten(node.now, &out);
    Take(i, &out);
  }

  // --- The coordinator and the dsps ---

  void Coordinate(const Message& message) {
    if (message.history != restores_) return Fail(message);  // its connection is gone
    CoordinatorDone done;
    const CoordinatorCall& ask = message.ask;
    if (ask.kind == CoordinatorCall::Kind::kRead) {
      done.view = {.identity = record_exists_ ? identity_ : "",
                   .record = record_,
                   .version = record_exists_ ? version_ : 0,
                   .held = lease_};
    } else if (ask.kind == CoordinatorCall::Kind::kRelease) {
      lease_ = false;
    } else {
      const bool same = ask.version == (record_exists_ ? version_ : 0);
      const bool free = !lease_ || lease_holder_ == ask.record.holder();
      // An operator's force waits until the other one has ended, whatever became of the lease.
      const bool other_ended = nodes_[1 - message.from].role == nullptr ||
                               nodes_[1 - message.from].role->role() == RoleCore::Role::kFollower;
      done.err = same && free && (!message.forced || other_ended) ? Err::kOk : Err::kExists;
      if (done.err == Err::kOk) {
        if (message.forced && ask.record.forced_epoch() == ask.record.epoch()) {
          Rewrite(message.from);
        }
        const bool claimed = ask.record.epoch() > record_.epoch();
        record_ = ask.record;
        record_exists_ = true;
        if (ask.renews) RenewLease(message, claimed);
        done.version = ++version_;
        if (random_.Chance(20)) {
          backup_ = record_;
          backup_version_ = version_;
        }
        trace_->Note("record %" PRIu64 ": epoch %" PRIu64
                     " holder %02x set of %d position %" PRIu64,
                     version_, record_.epoch(), static_cast<uint8_t>(record_.holder()[0]),
                     record_.in_sync_size(), record_.log_position());
      }
    }
    if (random_.Chance(lose_percent_) && !healed_) return Fail(message);
    Message answer{.kind = Kind::kCoordinatorDone, .from = kCoordinatorPlace, .to = message.from};
    answer.life = message.life;
    answer.ask_number = message.ask_number;
    answer.answer = std::move(done);
    Put(std::move(answer));
  }

  // Rule 5; a claim is none.
  void RenewLease(const Message& message, bool claimed) {
    Node& node = nodes_[message.from];
    lease_ = true;
    lease_holder_ = message.ask.record.holder();
    if (message.life != node.life) return;
    if (!claimed && message.syncs == node.renewed_syncs) {
      trace_->Fail("lease: %s renews it twice for one sync of its log", node.address.c_str());
    }
    node.renewed_syncs = message.syncs;
  }

  // What a forced node has is the history now; the rest is what the operator accepted to lose.
  void Rewrite(int i) {
    const Disk& disk = nodes_[i].disk;
    uint64_t kept = disk.base.index();
    for (const pb::HaRecord& record : disk.records) {
      const auto known = history_.find(record.index());
      if (known != history_.end() && known->second.epoch() == record.epoch() &&
          known->second.node() == record.node()) {
        kept = record.index();
      } else {
        break;
      }
    }
    history_.erase(history_.upper_bound(kept), history_.end());
    trace_->Note("forced: history is kept to #%" PRIu64, kept);
  }

  void Command(const Message& message) {
    Dsp& dsp = dsps_[message.to - kFirstDsp];
    const bool refused =
        message.epoch < dsp.epoch || (message.epoch == dsp.epoch && message.node != dsp.node);
    if (!refused) {
      dsp.epoch = message.epoch;
      dsp.node = message.node;
      dsp.mark = std::max(dsp.mark, message.mark);
      const auto known = history_.find(message.index);
      const bool right = message.index == 0 || known == history_.end() ||
                         Operation::Parse(known->second.body()).unique == message.unique;
      if (!right) {
        trace_->Fail("obey: a dsp obeys #%" PRIu64 " of epoch %" PRIu64
                     ", which is not in the history",
                     message.index, message.epoch);
      }
    }
    Message answer{.kind = Kind::kCommandDone, .from = message.to, .to = message.from};
    answer.life = message.life;
    answer.epoch = dsp.epoch;
    answer.node = dsp.node;
    answer.mark = dsp.mark;
    Put(std::move(answer));
  }

  void CommandDone(const Message& message) {
    Node& node = nodes_[message.to];
    if (node.role == nullptr || node.life != message.life) return;
    node.mark = std::max(node.mark, message.mark);
    const bool obeyed = message.epoch == node.role->epoch() && message.node == node.name;
    if (obeyed) node.fenced.insert(message.from - kFirstDsp);
    node.role->OnHeardEpoch(message.epoch);
    if (obeyed || !node.active || message.epoch < node.role->epoch()) return;
    RoleOutbox out;
    node.role->RaiseEpoch(message.epoch, node.now, &out);
    Take(message.to, &out);
  }

  // --- Steps ---

  void Deliver(Message&& message) {
    switch (message.kind) {
      case Kind::kRequest: {
        Node& node = nodes_[message.to];
        if (node.role == nullptr) return Fail(message);
        RpcRequest request;
        trace_->Note("%s gets message %x", node.address.c_str(),
                     static_cast<unsigned>(message.type));
        request.token = {.connection = message.life, .request_id = message.call_id};
        request.type = message.type;
        request.message = message.text;
        RoleOutbox out;
        node.role->OnRequest(std::move(request), node.now, &out);
        return Take(message.to, &out);
      }
      case Kind::kReply: {
        trace_->Note("%s is answered %s", nodes_[message.to].address.c_str(),
                     std::string(ErrName(message.err)).c_str());
        CallDone done;
        done.call_id = message.call_id;
        done.err = message.err;
        done.message = message.text;
        return EndCall(message.to, message.life, std::move(done));
      }
      case Kind::kCoordinator:
        return Coordinate(message);
      case Kind::kCoordinatorDone:
        return EndAsk(message.to, message.life, message.ask_number, std::move(message.answer));
      case Kind::kCommand:
        return Command(message);
      case Kind::kCommandDone:
        return CommandDone(message);
    }
  }

  void DeliverAny() {
    if (bag_.empty()) return;
    const size_t at = random_.Chance(60) ? 0 : random_.Below(bag_.size());
    if (cut_[bag_[at].from][bag_[at].to]) {
      if (random_.Chance(12)) Lose(at);
      return;
    }
    if (random_.Chance(lose_percent_)) {
      // It timed out, and arrives later all the same.
      if (random_.Chance(50)) return Fail(Message(bag_[at]));
      return Lose(at);
    }
    Message message = std::move(bag_[at]);
    bag_.erase(bag_.begin() + static_cast<long>(at));
    Deliver(std::move(message));
  }

  void Pass(uint64_t ms) {
    for (Node& node : nodes_) {
      node.now.mono_ms += ms;
    }
  }

  void Tick(int i) {
    Node& node = nodes_[i];
    const uint64_t life = node.life;
    if (!node.calls.empty() && node.now.mono_ms - node.calls.begin()->second > kCallMsMax) {
      CallDone done;
      done.call_id = node.calls.begin()->first;
      done.err = Err::kTimeout;
      EndCall(i, life, std::move(done));
    }
    if (node.role == nullptr || node.life != life) return;
    RoleOutbox out;
    node.role->OnTick(node.now, &out);
    Take(i, &out);
  }

  void Step() {
    if (random_.Below(fault_every_) == 0) return Fault();
    Pass(random_.Below(delay_));
    const int i = static_cast<int>(random_.Below(2));
    Node& node = nodes_[i];
    switch (random_.Below(8)) {
      case 0:
        if (node.role == nullptr) return StartNode(i, false);
        return Tick(i);
      case 1:
        return Tick(i);
      case 2:
      case 3:
        return FinishWrite(i);
      case 4:
        if (node.role != nullptr && node.active) Work(i);
        return;
      default:
        return DeliverAny();
    }
  }

  void Fault() {
    const int i = static_cast<int>(random_.Below(2));
    switch (random_.Below(11)) {
      case 0:
        return StopNode(i, "crash");
      case 1:
      case 2:
        lease_ = false;  // by the coordinator's own clock
        return;
      case 3: {
        const int a = static_cast<int>(random_.Below(5));
        const int b = static_cast<int>(random_.Below(5));
        cut_[a][b] = true;
        if (random_.Chance(50)) cut_[b][a] = true;
        return;
      }
      case 4:
        for (auto& row : cut_) std::fill(std::begin(row), std::end(row), false);
        return;
      case 5:  // a pause of one, or a long time
        if (random_.Chance(50)) return Pass(random_.Below(4'000));
        nodes_[i].now.mono_ms += random_.Below(10'000);
        return;
      case 6:
        if (!random_.Chance(15)) return;
        StopNode(i, "its disk is replaced");
        FreshDisk(i);
        nodes_[i].disk.head.set_joining(true);
        return;
      case 7: {
        Node& node = nodes_[i];
        if (node.role == nullptr || !node.active) return;
        RoleOutbox out;
        (void)node.role->HandOver(node.now, &out);
        return Take(i, &out);
      }
      case 8:
        if (lose_coordinator_ && random_.Chance(20)) LoseRecord();
        return;
      case 9:
        if (!force_allowed_ || lease_ || forces_ == 2 || !random_.Chance(30)) return;
        if (nodes_[1 - i].active || forced_[1 - i] || nodes_[i].disk.records.empty()) return;
        ++forces_;
        StopNode(i, "to be forced");
        return StartNode(i, true);
      case 10:
        return RestoreDisk(i);
      default:
        return;
    }
  }

  // Lost, or from a backup; that one need not have another identity, if both nodes can tell it by
  // its version.
  void LoseRecord() {
    const auto knows_later = [&](const Node& node) {
      const pb::HaHead& head = node.disk.head;
      return head.identity() == identity_ && head.record_version() > backup_version_;
    };
    const bool noticed = knows_later(nodes_[0]) && knows_later(nodes_[1]);
    const bool goes_back = backup_version_ != 0 && noticed && random_.Chance(50);
    const bool lost = !goes_back && random_.Chance(50);
    trace_->Note("the coordinator's record is %s, version %" PRIu64, lost ? "lost" : "restored",
                 backup_version_);
    lease_ = false;
    if (goes_back) {
      version_ = backup_version_;
      ++restores_;
    } else {
      identity_ += "x";
      ++version_;
    }
    if (lost) {
      record_ = {};
      record_exists_ = false;
    } else if (backup_version_ != 0) {
      record_ = backup_;
      record_exists_ = true;
    }
  }

  // Somebody puts an old copy of the disk back, from before what the record says that it has.
  void RestoreDisk(int i) {
    Node& node = nodes_[i];
    Disk& disk = node.disk;
    const uint64_t position = record_.log_position();
    if (disk_back_ || disk.records.empty() || position <= disk.records.front().index()) return;
    if (disk.records.back().index() < position || !random_.Chance(20)) return;
    disk_back_ = true;
    StopNode(i, "an old copy of its disk is put back");
    std::erase_if(bag_,
                  [&](const Message& message) { return message.from == i || message.to == i; });
    nodes_[1 - i].calls.clear();
    if (disk.records.empty()) return;  // what was being written took them away
    while (disk.records.back().index() >= position || random_.Chance(30)) {
      if (disk.records.size() == 1) break;
      disk.records.pop_back();
    }
    disk.applied = std::min(disk.applied, disk.records.back().index());
  }

  // Nothing is lost, late or held any more, nobody crashes.
  void Heal() {
    trace_->Note("healed");
    healed_ = true;
    for (auto& row : cut_) std::fill(std::begin(row), std::end(row), false);
    lose_percent_ = 0;
    const auto in_sync = [&](const Node& node) {
      return std::find(record_.in_sync().begin(), record_.in_sync().end(), node.name) !=
             record_.in_sync().end();
    };
    const auto fit = [&](const Node& node) {
      const pb::HaHead& head = node.role == nullptr ? node.disk.head : node.role->head();
      const bool older =
          record_.epoch() < head.promised_epoch() || version_ < head.record_version();
      const bool known = head.identity().empty() || (head.identity() == identity_ && !older);
      return record_exists_ && in_sync(node) && known && !node.disk.head.installing();
    };
    if (disk_back_ || (!fit(nodes_[0]) && !fit(nodes_[1]))) return;
    for (int round = 0; round < 6'000 && !trace_->failed(); ++round) {
      Pass(10);
      for (int i = 0; i < 2; ++i) {
        if (nodes_[i].role == nullptr) StartNode(i, false);
        FinishWrite(i);
        Tick(i);
        const Node& node = nodes_[i];
        if (node.role != nullptr && node.active && round % 50 == 0) Work(i);
      }
      while (!bag_.empty() && !trace_->failed()) {
        Message message = std::move(bag_.front());
        bag_.erase(bag_.begin());
        Deliver(std::move(message));
        for (int i = 0; i < 2; ++i) {
          if (random_.Chance(50)) FinishWrite(i);
        }
      }
      lease_ = lease_ && (nodes_[0].active || nodes_[1].active);
      for (int i = 0; i < 2; ++i) {
        const Node& node = nodes_[i];
        if (node.role != nullptr && node.active && record_.in_sync_size() == 2 &&
            record_.epoch() == node.role->epoch() && node.role->committed() == node.role->last() &&
            round > 100) {
          return;
        }
      }
    }
    if (!fit(nodes_[0]) && !fit(nodes_[1])) return;  // who could was lost for good
    trace_->Fail("stuck: %s (%s), %s (%s)", Describe(0).c_str(), Why(0).c_str(),
                 Describe(1).c_str(), Why(1).c_str());
  }

  std::string Describe(int i) const {
    const Node& node = nodes_[i];
    if (node.role == nullptr) return node.address + " is down";
    return node.address + (node.active ? " is active, " : " follows, ") + "log " +
           std::to_string(node.role->last()) + " committed " +
           std::to_string(node.role->committed());
  }
  std::string Why(int i) const {
    return nodes_[i].role == nullptr ? "" : std::string(nodes_[i].role->why_waiting());
  }

  SimRandom random_;
  SimTrace* trace_;
  Node nodes_[2];
  Dsp dsps_[kDsps];
  std::deque<Message> bag_;
  bool cut_[5][5] = {};
  bool forced_[2] = {};
  uint64_t asks_[2] = {};
  uint64_t ask_number_ = 0;
  // The coordinator.
  bool record_exists_ = false;
  pb::LeaseRecord record_;
  uint64_t version_ = 0;
  std::string identity_ = "i";
  bool lease_ = false;
  std::string lease_holder_;
  pb::LeaseRecord backup_;
  uint64_t backup_version_ = 0;
  uint64_t restores_ = 0;
  // What is true.
  std::map<uint64_t, pb::HaRecord> history_;
  std::map<uint64_t, uint64_t> ids_;
  std::set<std::pair<uint64_t, std::string>> epochs_;
  uint64_t unique_ = 0;
  bool healed_ = false;
  bool disk_back_ = false;
  uint64_t forces_ = 0;
  // The character of this walk.
  uint64_t delay_ = 0;
  uint64_t lose_percent_ = 0;
  uint64_t fault_every_ = 0;
  bool force_allowed_ = false;
  bool strict_ = false;
  bool lose_coordinator_ = false;
};

}  // namespace

PairWalkResult WalkPair(uint64_t seed, SimTrace* trace) { return PairWalk(seed, trace).Run(); }

}  // namespace hayloft
