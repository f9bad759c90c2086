#include "tests/sim/sim_shard.h"

#include <algorithm>

#include "common/check.h"

namespace hayloft {

namespace {
constexpr char kNode[] = "0123456789abcdef";  // 16 bytes
}

SimShard::SimShard(uint64_t seed, DirOptions options, std::function<void(RpcCall&&)> calls,
                   std::function<void(RpcReply&&)> replies)
    : random_(seed),
      options_(std::move(options)),
      calls_(std::move(calls)),
      replies_(std::move(replies)) {
  MakeStore(0);
}

void SimShard::MakeStore(uint32_t losses) {
  kv_ = std::make_unique<MemKv>(random_.Next());
  store_ = std::make_unique<DirStore>(kv_.get());
  pb::DirSettings settings;
  settings.set_shards(static_cast<uint32_t>(std::max<size_t>(options_.shards.size(), 1)));
  settings.set_losses(losses);
  const Err err = store_->Init(kNode, settings);
  ASSERT(err == Err::kOk);
}

void SimShard::Start(size_t kept, bool forced, Now now) {
  ASSERT(kept <= log_.size());
  log_.resize(kept);
  // The coordinator's record says so until what a forced start logs is safe.
  forced |= force_index_ != 0;
  if (forced) ++losses_;
  if (forced) force_index_ = kept + 1;
  // The rows of a node that followed: all that was committed, or less, by a log that goes on.
  const size_t applied = kept < committed_ ? kept : committed_;
  MakeStore(base_losses_);
  if (applied > 0) {
    const Err err = store_->Apply({log_.data(), applied}, /*sync=*/true);
    ASSERT(err == Err::kOk);
  }
  committed_ = applied;
  Result<DirState> state = store_->Load();
  ASSERT(state.ok());
  core_ = std::make_unique<DirCore>(options_, std::move(*state), kv_.get(), &random_);
  ServiceOutbox out;
  core_->OnApplied(applied, now, &out);
  const std::vector<pb::HaRecord> tail(log_.begin() + static_cast<ptrdiff_t>(applied), log_.end());
  core_->Promote({.epoch = ++epoch_, .forced = forced}, tail, now, &out);
  Take(&out);
}

void SimShard::Rebuild(Now now) {
  log_.clear();
  committed_ = 0;
  force_index_ = 0;
  ++losses_;
  base_losses_ = 1;
  MakeStore(base_losses_);
  Result<DirState> state = store_->Load();
  ASSERT(state.ok());
  core_ = std::make_unique<DirCore>(options_, std::move(*state), kv_.get(), &random_);
  ServiceOutbox out;
  core_->Promote({.epoch = ++epoch_, .forced = false}, {}, now, &out);
  Take(&out);
}

void SimShard::OnRequest(RpcRequest&& request, Now now) {
  ServiceOutbox out;
  core_->OnRequest(std::move(request), now, &out);
  Take(&out);
}

void SimShard::OnCallDone(CallDone&& done, Now now) {
  ServiceOutbox out;
  core_->OnCallDone(std::move(done), now, &out);
  Take(&out);
}

void SimShard::OnTick(Now now) {
  ServiceOutbox out;
  core_->OnTick(now, &out);
  Take(&out);
}

void SimShard::Commit(Now now) {
  if (committed_ == log_.size()) return;
  const std::span<const pb::HaRecord> records(log_.data() + committed_, log_.size() - committed_);
  const Err err = store_->Apply(records, /*sync=*/false);
  ASSERT(err == Err::kOk);
  committed_ = log_.size();
  hurried_ = false;
  if (committed_ >= force_index_) force_index_ = 0;
  ServiceOutbox out;
  core_->OnCommitted(committed_, now, &out);
  Take(&out);
  ServiceOutbox after;
  core_->OnApplied(committed_, now, &after);
  Take(&after);
}

void SimShard::Take(ServiceOutbox* out) {
  if (!out->exit.empty()) exit_ = out->exit;
  hurried_ |= out->hurry || (!out->records.empty() && !out->put_off);
  for (std::string& body : out->records) {
    pb::HaRecord record;
    record.set_index(log_.size() + 1);
    record.set_body(std::move(body));
    log_.push_back(std::move(record));
  }
  for (RpcCall& call : out->calls) calls_(std::move(call));
  for (WebCall& web : out->web_calls) {
    RpcCall call;
    call.call_id = web.call_id;
    call.address = kSimCdnAddress;
    call.timeout_ms = web.timeout_ms;
    call.message = std::move(web.request);
    calls_(std::move(call));
  }
  for (RpcReply& reply : out->replies) replies_(std::move(reply));
}

void SimShard::LayTail(DirRows* rows) const {
  for (size_t i = committed_; running() && i < log_.size(); ++i) {
    pb::DirRecord record;
    const bool parses = record.ParseFromString(log_[i].body());
    ASSERT(parses);
    rows->Lay(record);
  }
}

SimShard::View SimShard::Look(const ContentId& content, const FileAddress& file) {
  DirRows rows(kv_.get());
  LayTail(&rows);
  const auto found = DirFiles(&rows).Find(content, file);
  ASSERT(found.ok());
  View view;
  view.present = found->has_value();
  if (view.present) view.row = (*found)->row;
  const auto take = [&](std::string_view nonce, uint32_t counter) {
    Nonce key;
    std::copy(nonce.begin(), nonce.end(), key.begin());
    view.references[key] = counter;
  };
  if (!view.row.nonce().empty()) take(view.row.nonce(), view.row.counter());
  std::string prefix = ReferenceKey(content, Nonce{});
  prefix.resize(prefix.size() - sizeof(Nonce));
  const Err err = rows.Scan(prefix, [&](std::string_view key, std::string_view value) {
    pb::DirReference row;
    const bool parses = row.ParseFromString(std::string(value));
    ASSERT(parses);
    const bool here = row.block_id() == file.block_id && row.file_id() == file.file_id.value;
    if (here) take(key.substr(prefix.size()), row.counter());
    return true;
  });
  ASSERT(err == Err::kOk);
  return view;
}

std::optional<pb::DirName> SimShard::Name(std::string_view name, bool committed) {
  DirRows rows(kv_.get());
  if (!committed) LayTail(&rows);
  auto row = rows.Get<pb::DirName>(NameKey(name));
  ASSERT(row.ok());
  return *row;
}

}  // namespace hayloft
