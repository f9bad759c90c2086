// Names: each has a reference to a file, taken before the name is written. What a name let go of is
// removed from this shard, wherever its file's shard is, until that is done.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/mutant.h"
#include "directory/dir_core.h"
#include "directory/dir_messages.h"

namespace hayloft {

namespace {
constexpr uint32_t kDropTimeoutMs = 6'000;         // another shard asks the dsps meanwhile
constexpr uint64_t kDropCall = uint64_t{1} << 62;  // no call of the client's has this bit
constexpr size_t kDropsAtOnceMax = 64;
}  // namespace

bool DirCore::OwnName(std::string_view name) {
  const pb::DirSettings& settings = state_.head.settings();
  if (name.empty() || name.size() > kNameBytesMax) return false;
  elsewhere_ = ShardOfName(name, settings.shards()) != settings.shard();
  return !elsewhere_;
}

Err DirCore::OnNameGet(const RpcRequest& request, ServiceOutbox* out) {
  pb::DirNameGetRequest message;
  if (!message.ParseFromString(request.message) || !OwnName(message.name()))
    return Refuse(request, out);
  TRY_ASSIGN(const std::optional<pb::DirName> row, rows_.Get<pb::DirName>(NameKey(message.name())));
  pb::DirNameGetReply reply;
  Err err = Err::kNotFound;
  if (row.has_value()) reply.set_version(row->version());
  if (row.has_value() && row->deleted_ms() == 0) {
    err = Err::kOk;
    *reply.mutable_file() = row->file();
    *reply.mutable_content() = row->content();
    reply.set_token_nonce(row->token_nonce());
  }
  // What a crash could take back is nobody's to see.
  if (rows_.IndexOf(NameKey(message.name())) <= committed_) {
    Answer(request, err, reply.SerializeAsString(), out);
  } else {
    AnswerWhenSafe(request, err, reply.SerializeAsString(), out);
  }
  return Err::kOk;
}

Err DirCore::OnNamePut(const RpcRequest& request, ServiceOutbox* out) {
  pb::DirNamePutRequest message;
  const bool valid =
      message.ParseFromString(request.message) && OwnName(message.name()) &&
      FileFrom(message.file()).has_value() && ContentFrom(message.content()).has_value() &&
      NonceFrom(message.nonce()).has_value() && NonceFrom(message.token_nonce()).has_value();
  if (!valid) return Refuse(request, out);
  TRY_ASSIGN(const std::optional<pb::DirName> before,
             rows_.Get<pb::DirName>(NameKey(message.name())));
  const bool there = before.has_value() && before->deleted_ms() == 0;
  pb::DirNamePutReply reply;
  if (there && before->nonce() == message.nonce()) {  // sent again, or late
    reply.set_version(before->version());
    reply.set_token_nonce(before->token_nonce());
    AnswerWhenSafe(request, Err::kOk, reply.SerializeAsString(), out);
    return Err::kOk;
  }
  const uint64_t version = before.has_value() ? before->version() : 0;
  if (version != message.version() && !IsMutant(Mutant::kDirNameAnyVersion)) {
    AnswerWhenSafe(request, Err::kExists, "", out);
    return Err::kOk;
  }
  if (there && drops_.size() >= kPendingMax) {
    Answer(request, Err::kBusy, "", out);
    return Err::kOk;
  }
  pb::DirName row;
  *row.mutable_file() = message.file();
  *row.mutable_content() = message.content();
  row.set_nonce(message.nonce());
  row.set_version(random_->Next64() | 1);
  row.set_token_nonce(there ? before->token_nonce() : message.token_nonce());
  rows_.Put(NameKey(message.name()), row);
  if (there) EnterDrop(*before);
  reply.set_version(row.version());
  reply.set_token_nonce(row.token_nonce());
  AnswerWhenSafe(request, Err::kOk, reply.SerializeAsString(), out);
  return Err::kOk;
}

Err DirCore::OnNameDelete(const RpcRequest& request, ServiceOutbox* out) {
  pb::DirNameDeleteRequest message;
  if (!message.ParseFromString(request.message) || !OwnName(message.name()))
    return Refuse(request, out);
  TRY_ASSIGN(const std::optional<pb::DirName> before,
             rows_.Get<pb::DirName>(NameKey(message.name())));
  Err err = Err::kOk;
  if (!before.has_value() || before->deleted_ms() != 0) {
    err = Err::kNotFound;
  } else if (before->version() != message.version()) {
    err = Err::kExists;
  } else if (drops_.size() >= kPendingMax) {
    err = Err::kBusy;
  } else {
    pb::DirName row;
    row.set_version(random_->Next64() | 1);  // so that a late write of it is refused
    row.set_deleted_ms(std::max<uint64_t>(now_.wall_ms, 1));
    rows_.Put(NameKey(message.name()), row);
    EnterDrop(*before);
  }
  AnswerWhenSafe(request, err, "", out);
  return Err::kOk;
}

Err DirCore::OnNameList(const RpcRequest& request, ServiceOutbox* out) {
  pb::DirNameListRequest message;
  const bool valid = message.ParseFromString(request.message) && message.limit() >= 1 &&
                     message.limit() <= kDirNamesMax && message.prefix().size() <= kNameBytesMax &&
                     message.after().size() <= kNameBytesMax;
  if (!valid) return Refuse(request, out);
  const std::string prefix = NameKey(message.prefix());
  std::string first = prefix;
  if (!message.after().empty()) first = std::max(prefix, NameKey(message.after()) + '\0');
  pb::DirNameListReply reply;
  Err err = Err::kOk;
  size_t looked_at = 0;
  TRY(rows_.ScanFrom(first, [&](std::string_view key, std::string_view value) {
    if (!key.starts_with(prefix)) return false;
    if (reply.names_size() == static_cast<int>(message.limit()) ||
        ++looked_at > kNamesLookedAtMax) {
      reply.set_more(true);
      return false;
    }
    pb::DirName row;
    if (!row.ParseFromString(std::string(value))) err = Err::kCorrupt;
    reply.set_last(std::string(key.substr(1)));
    if (err != Err::kOk || row.deleted_ms() != 0) return err == Err::kOk;
    pb::DirNamed* named = reply.add_names();
    named->set_name(std::string(key.substr(1)));
    *named->mutable_file() = row.file();
    return true;
  }));
  TRY(err);
  AnswerWhenSafe(request, Err::kOk, reply.SerializeAsString(), out);
  return Err::kOk;
}

// --- References that names let go of ---

void DirCore::EnterDrop(const pb::DirName& old) {
  const std::optional<FileAddress> file = FileFrom(old.file());
  const std::optional<Nonce> nonce = NonceFrom(old.nonce());
  const std::optional<ContentId> content = ContentFrom(old.content());
  ASSERT(file.has_value() && nonce.has_value() && content.has_value());  // checked when written
  if (IsMutant(Mutant::kDirForgetDrop)) return;
  std::string key = DropKey(*file, *nonce);
  pb::DirDrop row;
  *row.mutable_content() = old.content();
  rows_.Put(key, row);
  drops_[std::move(key)] = {.content = *content, .index = SafeIndex()};
}

Err DirCore::ReplayDrops(ServiceOutbox* out) {
  std::vector<std::string> due;
  auto at = drops_.lower_bound(drop_from_);
  for (size_t i = 0; i < std::min(drops_.size(), kLookedAtPerTick); ++i, ++at) {
    if (at == drops_.end()) at = drops_.begin();
    if (due.size() >= kDropsAtOnceMax) break;
    const Drop& drop = at->second;
    if (drop.busy || drop.index > committed_ || drop.next_ms > now_.mono_ms) continue;
    due.push_back(at->first);
  }
  drop_from_ = at == drops_.end() ? std::string() : at->first;
  for (const std::string& key : due) {
    Drop& drop = drops_.at(key);
    drop.busy = true;
    TRY_ASSIGN(const DropName name, ParseDropKey(key));
    const uint32_t shard = ShardOf(drop.content.sha1, state_.head.settings().shards());
    if (shard == state_.head.settings().shard()) {
      Task task;
      task.kind = TaskKind::kDelete;
      task.content = drop.content;
      task.nonce = name.nonce;
      task.counter = 1;
      task.drop = key;
      TRY(Begin(name.file, std::move(task), out));
      continue;
    }
    if (shard >= options_.shards.size() || options_.shards[shard].empty()) {
      TRY(OnDropDone(key, Err::kUnavailable));
      continue;
    }
    const std::vector<std::string>& nodes = options_.shards[shard];
    pb::DirDeleteRequest message;
    FillContent(drop.content, message.mutable_content());
    FillFile(name.file, message.mutable_file());
    message.set_nonce(std::string(AsText(name.nonce)));
    message.set_counter(1);
    RpcCall call;
    call.call_id = kDropCall | ++last_drop_call_;
    call.address = nodes[drop.asked % nodes.size()];
    call.type = MessageType::kDirDelete;
    call.timeout_ms = kDropTimeoutMs;
    call.message = message.SerializeAsString();
    drop_calls_[call.call_id] = key;
    out->calls.push_back(std::move(call));
  }
  return Err::kOk;
}

Err DirCore::OnDropDone(const std::string& key, Err err) {
  const auto found = drops_.find(key);
  ASSERT(found != drops_.end());
  Drop& drop = found->second;
  if (err == Err::kOk || err == Err::kNotFound || err == Err::kGone) {
    rows_.Remove(key);
    drops_.erase(found);
    return Err::kOk;
  }
  drop.busy = false;
  ++drop.asked;
  drop.pause_ms = std::clamp(2 * drop.pause_ms, kReplayFirstMs, kReplayMostMs);
  drop.next_ms = now_.mono_ms + drop.pause_ms;
  return Err::kOk;
}

}  // namespace hayloft
