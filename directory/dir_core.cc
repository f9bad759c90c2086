#include "directory/dir_core.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/log.h"
#include "common/mutant.h"

namespace hayloft {

namespace {
constexpr uint64_t kDeclareCall = uint64_t{1} << 61;  // no other call's number has this bit
constexpr uint32_t kDeclareTimeoutMs = 1'000;
constexpr uint64_t kDeclarePauseMs = 100;  // after a failure

ClientOptions OfDirectory(ClientOptions options) {
  options.of_directory = true;
  return options;
}
}  // namespace

DirCore::DirCore(DirOptions options, DirState state, Kv* kv, Random* random)
    : options_(std::move(options)),
      state_(std::move(state)),
      rows_(kv),
      files_(&rows_),
      purges_(options_.purge, &rows_),
      random_(random),
      dsps_(OfDirectory(options_.dsps), random) {
  ASSERT(state_.node.size() == 16);
}

// --- A follower ---

bool DirCore::Knows(const pb::HaRecord& record) const {
  pb::DirRecord parsed;
  if (!parsed.ParseFromString(record.body()) || parsed.index() != record.index()) return false;
  // A row of a kind that this version does not know would be applied and never read.
  return std::all_of(parsed.rows().begin(), parsed.rows().end(), [](const pb::DirRow& row) {
    constexpr std::string_view kKinds = "cfapknxu";
    return !row.key().empty() && kKinds.find(row.key()[0]) != kKinds.npos;
  });
}

bool DirCore::KnowsRows(const pb::SnapshotRequest& snapshot) const {
  return DirStore::CanTake(snapshot);
}

Err DirCore::Follow(const pb::HaRecord& record) {
  pb::DirRecord parsed;
  if (!parsed.ParseFromString(record.body())) return Err::kCorrupt;
  return AdvanceHead(parsed, &state_.head);
}

uint64_t DirCore::AnswerAsStandby(const RpcRequest& request, Now, RpcReply* reply) {
  if (request.type == MessageType::kDirStatus) {
    reply->err = Err::kOk;
    reply->message = Status().SerializeAsString();
  }
  return 0;
}

// Its node is its own, not that of the rows.
void DirCore::OnReloaded(DirState state) {
  ASSERT(!promoted_);
  applied_ = state.head.last_index();
  state_.head = std::move(state.head);
}

void DirCore::OnApplied(uint64_t index, Now now, ServiceOutbox* out) {
  now_ = now;
  applied_ = std::max(applied_, index);
  if (!promoted_ || failed_) return;
  rows_.Applied(index);
  Seal(BecomeReady(), out);
}

void DirCore::Promote(const Promotion& promotion, std::vector<pb::HaRecord> tail, Now now,
                      ServiceOutbox* out) {
  ASSERT(!promoted_);
  now_ = now;
  promoted_ = true;
  committed_ = state_.head.last_index();
  wait_applied_ = committed_;
  for (const pb::HaRecord& record : tail) {
    pb::DirRecord parsed;
    const bool parses = parsed.ParseFromString(record.body());
    if (!parses || AdvanceHead(parsed, &state_.head) != Err::kOk) {
      return Seal(Err::kCorrupt, out);
    }
    rows_.Lay(parsed);
  }
  if (promotion.epoch <= state_.head.epoch()) {
    Seal(Err::kCorrupt, out);
    out->exit = RowsAhead(state_.head.epoch(), promotion.epoch);
    return;
  }
  if (promotion.forced) {  // what the other node had, and this one has not, is lost
    pb::DirSettings& settings = *state_.head.mutable_settings();
    settings.set_losses(settings.losses() + 1);
    wait_until_ms_ = now.mono_ms + options_.forced_wait_ms;
  }
  BeginEpoch(promotion.epoch, out);
  Declare(out);
  Seal(BecomeReady(), out);
}

void DirCore::BeginEpoch(uint64_t epoch, ServiceOutbox* out) {
  pb::DirRecord record;
  record.set_index(state_.head.last_index() + 1);
  record.set_epoch(epoch);
  *record.mutable_settings() = state_.head.settings();
  const Err err = AdvanceHead(record, &state_.head);
  ASSERT(err == Err::kOk);  // our own record
  out->records.push_back(record.SerializeAsString());
}

void DirCore::OnEpochRaised(uint64_t epoch, ServiceOutbox* out) { BeginEpoch(epoch, out); }

void DirCore::LogNothing(ServiceOutbox* out) {
  if (failed_) return;
  pb::DirRecord record;
  record.set_index(state_.head.last_index() + 1);
  const Err err = AdvanceHead(record, &state_.head);
  ASSERT(err == Err::kOk);
  out->records.push_back(record.SerializeAsString());
}

// The rows of what was committed before are there: what is unfinished can be read from them.
Err DirCore::BecomeReady() {
  if (ready_ || !declared_ || applied_ < wait_applied_) return Err::kOk;
  if (now_.mono_ms < wait_until_ms_) return Err::kOk;
  Err err = Err::kOk;
  TRY(rows_.Scan("p", [&](std::string_view key, std::string_view value) {
    const Result<PendingName> name = ParsePendingKey(key);
    pb::DirPending row;
    if (!name.ok() || !row.ParseFromString(std::string(value)) || row.counter() == 0) {
      err = Err::kCorrupt;
      return false;
    }
    pending_[name->file] = {.content = name->content,
                            .counter = row.counter(),
                            .nonce = row.nonce(),
                            .index = state_.head.last_index()};
    return true;
  }));
  TRY(err);
  TRY(rows_.Scan("x", [&](std::string_view key, std::string_view value) {
    pb::DirDrop row;
    const bool parses = row.ParseFromString(std::string(value));
    const std::optional<ContentId> content = ContentFrom(row.content());
    if (!parses || !ParseDropKey(key).ok() || !content.has_value()) err = Err::kCorrupt;
    if (err == Err::kOk) {
      drops_[std::string(key)] = {.content = *content, .index = state_.head.last_index()};
    }
    return err == Err::kOk;
  }));
  TRY(err);
  ready_ = true;
  return Err::kOk;
}

void DirCore::Declare(ServiceOutbox* out) {
  if (declare_call_ != 0 || now_.mono_ms < declare_next_ms_) return;
  declare_next_ms_ = now_.mono_ms + kDeclareAgainMs;
  pb::DeclareDirectoryRequest message;
  message.set_shards(state_.head.settings().shards());
  RpcCall call;
  call.call_id = declare_call_ = kDeclareCall | ++last_declare_call_;
  call.address = options_.dsps.nameservers[declare_to_];
  call.type = MessageType::kDeclareDirectory;
  call.timeout_ms = kDeclareTimeoutMs;
  call.message = message.SerializeAsString();
  out->calls.push_back(std::move(call));
}

Err DirCore::OnDeclared(const CallDone& done) {
  declare_call_ = 0;
  pb::DeclareDirectoryReply reply;
  const bool sound = done.err == Err::kOk && reply.ParseFromString(done.message);
  if (!sound) {
    declare_to_ = (declare_to_ + 1) % options_.dsps.nameservers.size();
    declare_next_ms_ = now_.mono_ms + kDeclarePauseMs;
    return Err::kOk;
  }
  const uint32_t shards = state_.head.settings().shards();
  if (reply.shards() != shards) {
    LOG_ERROR("shards_contradict", "own=%u cluster=%u action=answer_nothing", shards,
              reply.shards());
    return Err::kOk;
  }
  declared_ = true;
  return BecomeReady();
}

// --- Requests ---

void DirCore::OnRequest(RpcRequest&& request, Now now, ServiceOutbox* out) {
  if (failed_) return;
  now_ = now;
  if (request.type == MessageType::kDirStatus) {
    return Answer(request, Err::kOk, Status().SerializeAsString(), out);
  }
  if (!ready_) return Answer(request, Err::kNotServing, "", out);
  if (Overloaded()) return Answer(request, Err::kBusy, "", out);
  elsewhere_ = false;
  Seal(Handle(std::move(request), out), out);
}

Err DirCore::Handle(RpcRequest&& request, ServiceOutbox* out) {
  switch (request.type) {
    case MessageType::kDirLookup:
      return OnLookup(request, out);
    case MessageType::kDirUpload:
      return OnUpload(request, out);
    case MessageType::kDirReference:
      return OnReference(request, out);
    case MessageType::kDirDelete:
      return OnChange(std::move(request), TaskKind::kDelete, out);
    case MessageType::kDirUndelete:
      return OnChange(std::move(request), TaskKind::kUndelete, out);
    case MessageType::kDirAdopt:
      return OnAdopt(std::move(request), out);
    case MessageType::kDirPin:
      return OnPin(std::move(request), out);
    case MessageType::kDirNameGet:
      return OnNameGet(request, out);
    case MessageType::kDirNamePut:
      return OnNamePut(request, out);
    case MessageType::kDirNameDelete:
      return OnNameDelete(request, out);
    case MessageType::kDirNameList:
      return OnNameList(request, out);
    default:
      Answer(request, Err::kUnsupported, "", out);
      return Err::kOk;
  }
}

bool DirCore::Overloaded() const {
  return held_.size() >= kHeldMax || rows_.overlaid() >= kOverlaidMax;
}

void DirCore::OnCallDone(CallDone&& done, Now now, ServiceOutbox* out) {
  if (failed_) return;
  now_ = now;
  if (done.call_id == declare_call_) return Seal(OnDeclared(done), out);
  if (purges_.Sent(done.call_id)) {
    out->put_off = true;  // nobody waits for it
    return Seal(purges_.OnDone(done, now, &out->web_calls), out);
  }
  const auto drop = drop_calls_.find(done.call_id);
  if (drop != drop_calls_.end()) {
    const std::string key = drop->second;
    drop_calls_.erase(drop);
    return Seal(OnDropDone(key, done.err), out);
  }
  ClientOutbox client_out;
  dsps_.OnCallDone(std::move(done), now, &client_out);
  Err err = TakeClientOutbox(&client_out, out);
  // Where one has ended another begins, so that a tick's few are no bound on how many a second.
  if (err == Err::kOk && std::exchange(replay_more_, false)) err = ReplayPending(out);
  Seal(err, out);
}

void DirCore::OnTick(Now now, ServiceOutbox* out) {
  if (failed_ || !promoted_) return;
  now_ = now;
  Declare(out);
  if (!ready_) return Seal(BecomeReady(), out);
  ClientOutbox client_out;
  dsps_.OnTick(now, &client_out);
  Err err = TakeClientOutbox(&client_out, out);
  if (err == Err::kOk) err = ReplayDrops(out);
  if (err == Err::kOk) err = ReplayPending(out);
  if (err == Err::kOk) err = SendPurges(out);
  if (err == Err::kOk) err = Sweep();
  Seal(err, out);
}

// --- Records, and what waits for them ---

// Of what was decided up to now, in this event too.
uint64_t DirCore::SafeIndex() const { return state_.head.last_index() + (rows_.changed() ? 1 : 0); }

// The end of every event: what it decided becomes one record.
void DirCore::Seal(Err err, ServiceOutbox* out) {
  if (err != Err::kOk) {
    failed_ = true;
    out->exit = "the store of the directory can't be used: " + std::string(ErrMeaning(err));
    out->exit_err = err;
    return;
  }
  if (!rows_.changed()) return;
  const pb::DirRecord record = rows_.Take(state_.head.last_index() + 1);
  const Err advanced = AdvanceHead(record, &state_.head);
  ASSERT(advanced == Err::kOk);  // our own record
  out->records.push_back(record.SerializeAsString());
}

void DirCore::Answer(const RpcRequest& request, Err err, std::string message,
                     ServiceOutbox* out) const {
  RpcReply reply;
  reply.token = request.token;
  reply.type = request.type;
  reply.err = err;
  reply.message = std::move(message);
  out->replies.push_back(std::move(reply));
}

// It is malformed, or was meant for another shard: then who sent it has the shards in another
// order.
Err DirCore::Refuse(const RpcRequest& request, ServiceOutbox* out) {
  Answer(request, elsewhere_ ? Err::kConfig : Err::kInvalid, "", out);
  if (!elsewhere_ || now_.mono_ms < told_elsewhere_ms_ + kTellElsewhereMs) return Err::kOk;
  told_elsewhere_ms_ = now_.mono_ms;
  LOG_ERROR("request_of_another_shard", "shard=%u action=compare_the_lists_of_directory_nodes",
            state_.head.settings().shard());
  return Err::kOk;
}

void DirCore::AnswerWhenSafe(const RpcRequest& request, Err err, std::string message,
                             ServiceOutbox* out) {
  if (SafeIndex() <= committed_ || IsMutant(Mutant::kDirAnswerUnsynced)) {
    return Answer(request, err, std::move(message), out);
  }
  RpcReply reply;
  reply.token = request.token;
  reply.type = request.type;
  reply.err = err;
  reply.message = std::move(message);
  held_.push_back({SafeIndex(), std::move(reply)});
  out->hurry = true;
}

void DirCore::OnCommitted(uint64_t index, Now now, ServiceOutbox* out) {
  if (failed_) return;
  now_ = now;
  committed_ = std::max(committed_, index);
  while (!held_.empty() && held_.front().index <= committed_) {
    out->replies.push_back(std::move(held_.front().reply));
    held_.pop_front();
  }
  Seal(ContinueCommitted(out), out);
}

// --- What is known of files, and time ---

bool DirCore::OwnShard(const ContentId& content) {
  const pb::DirSettings& settings = state_.head.settings();
  elsewhere_ = ShardOf(content.sha1, settings.shards()) != settings.shard();
  return !elsewhere_;
}

// Records were lost since it was made: somebody may refer to it who is not known.
bool DirCore::Pinned(const pb::DirFile& row) const {
  return row.pinned() || row.losses() < state_.head.settings().losses();
}

bool DirCore::Live(const FileRecord& record) const {
  return !record.row.dead() && !pending_.contains(record.file);
}

// Some rows each time. Forgotten are keys of users that are too old, names that were deleted long
// ago, and what has been removed or dead for the trash time: no message lives so long, so that it
// makes no difference any more whether there is a record (docs/directory.md). What is pinned is
// counted: what became so when records were lost is known of each file by its row alone.
Err DirCore::Sweep() {
  constexpr std::string_view kKinds = "knafc";
  if (Overloaded()) return Err::kOk;
  if (swept_.empty()) swept_ = kKinds.substr(0, 1);
  const char kind = swept_[0];
  std::vector<std::pair<std::string, std::string>> rows;
  TRY(rows_.ScanFrom(swept_, [&](std::string_view key, std::string_view value) {
    if (key[0] != kind) return false;
    rows.emplace_back(key, value);
    return rows.size() < kSweptPerTick;
  }));
  for (const auto& [key, value] : rows) TRY(SweepRow(key, value));
  if (rows.size() == kSweptPerTick) {
    swept_ = rows.back().first + '\0';
    return Err::kOk;
  }
  const size_t next = kKinds.find(kind) + 1;
  if (next == kKinds.size()) pinned_ = std::exchange(pinned_so_far_, 0);
  swept_ = kKinds[next % kKinds.size()];
  return Err::kOk;
}

Err DirCore::SweepRow(const std::string& key, const std::string& value) {
  if (key[0] == 'k') {
    pb::DirKey row;
    if (!row.ParseFromString(value)) return Err::kCorrupt;
    if (row.until_ms() < now_.wall_ms) rows_.Remove(key);
    return Err::kOk;
  }
  if (key[0] == 'n') {
    pb::DirName row;
    if (!row.ParseFromString(value)) return Err::kCorrupt;
    const bool deleted = row.deleted_ms() != 0;
    if (deleted && row.deleted_ms() + kTombstoneMs < now_.wall_ms) rows_.Remove(key);
    return Err::kOk;
  }
  if (key[0] == 'a') {
    pb::DirReference row;
    if (!row.ParseFromString(value)) return Err::kCorrupt;
    if (IsRemoved(row.counter())) ForgetLater(key, &row);
    return Err::kOk;
  }
  pb::DirFile row;
  if (!row.ParseFromString(value)) return Err::kCorrupt;
  if (!row.dead() && Pinned(row)) ++pinned_so_far_;
  const FileAddress file{row.block_id(), FileId{row.file_id()}};
  const bool referred = row.references() > 0 || (!row.nonce().empty() && !IsRemoved(row.counter()));
  // Of a takedown nothing but the record knows.
  if (!row.dead() || row.taken_down() || referred) return Err::kOk;
  if (pending_.contains(file) || tasks_.contains(file)) return Err::kOk;
  if (row.others()) {  // by way of this row the others are found
    TRY_ASSIGN(const ContentId content, ParseFileKey(key));
    bool any = false;
    TRY(rows_.Scan(FilesKey(content), [&](auto, auto) {
      any = true;
      return false;
    }));
    if (any) return Err::kOk;
  }
  ForgetLater(key, &row);
  return Err::kOk;
}

// The time counts from when it was first seen here: a row that is changed begins anew.
template <typename Row>
void DirCore::ForgetLater(const std::string& key, Row* row) {
  if (row->gone_ms() == 0) {
    row->set_gone_ms(std::max<uint64_t>(now_.wall_ms, 1));
    rows_.Put(key, *row);
  } else if (row->gone_ms() + kForgetMs < now_.wall_ms) {
    rows_.Remove(key);
  }
}

Err DirCore::SendPurges(ServiceOutbox* out) {
  const auto is_dying = [this](const FileAddress& file) {
    const auto found = pending_.find(file);
    return found != pending_.end() && IsRemoved(found->second.counter);
  };
  return purges_.OnTick(is_dying, now_, &out->web_calls);
}

pb::DirStatusReply DirCore::Status() const {
  const pb::DirSettings& settings = state_.head.settings();
  pb::DirStatusReply reply;
  reply.set_epoch(state_.head.epoch());
  reply.set_role(role().active() ? "active" : "standby");
  reply.set_in_sync(role().in_sync());
  reply.set_shard(settings.shard());
  reply.set_shards(settings.shards());
  reply.set_losses(settings.losses());
  reply.set_pending(pending_.size());
  reply.set_drops(drops_.size());
  reply.set_cluster_id(settings.cluster_id());
  reply.set_ready(ready_);
  return reply;
}

}  // namespace hayloft
