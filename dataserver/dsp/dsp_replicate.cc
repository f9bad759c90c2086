// Appends to several replicas: a commit is the same pages at the same offset on each.
//
//   primary:    write, sync here  ||  kReplicaAppend to every secondary  -->  all answered: publish
//   secondary:  at its own end, heads hold  -->  write, sync, answer; anything else closes the
//   block
//
// One commit a block at a time. A secondary never fills, cuts or overwrites; so whoever is behind
// or ahead is found at the next commit, and the block closes. There is no lease and no clock in who
// may append: all replicas must answer, so a single closed one stops acknowledgements. See
// docs/replication.md.
#include <algorithm>

#include "common/check.h"
#include "common/log.h"
#include "common/mutant.h"
#include "common/needle.h"
#include "dataserver/dsp/dsp_core.h"

namespace hayloft {

namespace {

bool SameSecondaries(const pb::AppendRequest& message, const std::vector<Secondary>& have) {
  if (static_cast<size_t>(message.replicas_size()) != have.size() + 1) return false;
  for (size_t i = 0; i < have.size(); ++i) {
    const pb::Replica& replica = message.replicas(static_cast<int>(i) + 1);
    const bool same =
        replica.dsp_id() == have[i].dsp_id && replica.incarnation() == have[i].incarnation;
    if (!same) return false;
  }
  return true;
}

Buffer Gather(const std::vector<Buffer>& parts, size_t size) {
  Buffer whole(size);
  size_t filled = 0;
  for (const Buffer& part : parts) {
    if (part.empty()) continue;
    std::memcpy(whole.mutable_bytes().data() + filled, part.data(), part.size());
    filled += part.size();
  }
  ASSERT(filled == size);
  return whole;
}

}  // namespace

// The replicas of a block's first append are the block's for good: all of them members of the set
// that it was created with, each in the incarnation that it had then. (Members that failed at the
// creation are in that set, but in no grant.)
Err DspCore::CheckReplicas(const pb::AppendRequest& message, Block* block) {
  const int count = message.replicas_size();
  if (count < 1 || count > static_cast<int>(kReplicasMax)) return Err::kInvalid;
  const pb::Replica& primary = message.replicas(0);
  const bool former = primary.incarnation() != superblock_.incarnation;
  if (former && !IsMutant(Mutant::kIgnoreIncarnation)) return Err::kStaleEpoch;
  if (block->replication) {
    return SameSecondaries(message, block->replication->secondaries) ? Err::kOk : Err::kStaleEpoch;
  }
  if (count == 1) return Err::kOk;
  if (primary.dsp_id() != superblock_.dsp_id) return Err::kNotServing;
  if (block->next_sequence > 0 || !block->waiting.empty()) return Err::kStaleEpoch;
  const std::vector<uint32_t>& set = block->set_dsp_ids;
  auto replication = std::make_unique<Replication>();
  for (int i = 1; i < count; ++i) {
    const pb::Replica& replica = message.replicas(i);
    const bool member = std::find(set.begin(), set.end(), replica.dsp_id()) != set.end();
    if (!member || replica.dsp_id() == superblock_.dsp_id) return Err::kInvalid;
    for (const Secondary& other : replication->secondaries) {
      if (other.dsp_id == replica.dsp_id()) return Err::kInvalid;
    }
    replication->secondaries.push_back({.dsp_id = replica.dsp_id(),
                                        .address = replica.address(),
                                        .incarnation = replica.incarnation()});
  }
  block->replication = std::move(replication);
  ServeFromNow(block);
  return Err::kOk;
}

// Sends the commit that begins at the block's end, and returns what is to be written here. It is
// copied into one buffer that all of these share: its parts belong to many uploads, and each
// connection would have to keep them apart.
std::vector<Buffer> DspCore::SendCommit(Block* block, std::vector<Buffer> parts, DspOutbox* out) {
  std::vector<Buffer> pages;
  pages.push_back(Gather(parts, block->commit_end - block->end));
  const uint32_t crc = Crc32c(pages[0].bytes());
  pb::ReplicaAppendRequest message;
  message.set_block_id(block->id);
  message.set_opening_epoch(block->opening_epoch);
  message.set_block_epoch(block->block_epoch);
  message.set_offset(block->end);
  message.set_first_sequence(block->committing.front().file_id.sequence());
  for (const CommittingAppend& append : block->committing) {
    message.add_needle_offsets(static_cast<uint32_t>(append.offset - block->end));
  }
  Replication& replication = *block->replication;
  ++replication.commit;
  replication.awaited = static_cast<uint32_t>(replication.secondaries.size());
  replication.synced = replication.doubted = false;
  for (const Secondary& secondary : replication.secondaries) {
    message.set_incarnation(secondary.incarnation);
    (void)CallPeer({.kind = PeerCall::Kind::kCommit,
                    .block_id = block->id,
                    .commit = replication.commit,
                    .dsp_id = secondary.dsp_id},
                   {secondary.address, MessageType::kReplicaAppend, options_.replica_timeout_ms},
                   message.SerializeAsString(), out);  // its answer names what it was for
    RpcCall& call = out->calls.back();
    call.payload = pages[0].Share();
    call.payload_crc = crc;
    call.payload_crc_known = true;
  }
  return pages;
}

void DspCore::OnReplicaAnswer(const PeerCall& call, Err err, Now now, DspOutbox* out) {
  Block* block = FindBlock(call.block_id);
  ASSERT(block != nullptr);
  Replication& replication = *block->replication;
  if (replication.commit != call.commit || block->committing.empty()) return;  // it was given up
  ASSERT(replication.awaited > 0);
  --replication.awaited;
  if (err == Err::kOk) return EndCommit(block, now, out);
  ++stats_.secondaries_failed;
  LOG_WARN("secondary_failed", "block=%llu dsp=%u err=%s action=close_block",
           static_cast<unsigned long long>(block->id), call.dsp_id, ErrName(err).data());
  // The uploads go elsewhere now. What the commit wrote stays here as files that nobody knows.
  if (block->late_dsp_id == 0) block->late_dsp_id = call.dsp_id;
  AnswerCommit(block, Err::kClosed, out);
  replication.doubted = true;
  BeginClose(block, block->block_epoch + 1, out);
  EndCommit(block, now, out);
}

void DspCore::OnReplicaAppend(RpcRequest&& request, Now now, DspOutbox* out) {
  pb::ReplicaAppendRequest message;
  const auto refuse = [&](Err err) {
    ++stats_.replica_commits_refused;
    Reply(request.token, request.type, err, out);
  };
  if (!message.ParseFromString(request.message)) return refuse(Err::kInvalid);
  if (!Writable()) return refuse(Err::kReadOnly);
  Block* block = FindBlock(message.block_id());
  if (block == nullptr || block->opening_epoch != message.opening_epoch()) {
    return refuse(Err::kNotServing);
  }
  // What was sent to an earlier start of this disk, or under an epoch that is over, says nothing of
  // the block as it is now.
  const bool other = message.incarnation() != superblock_.incarnation;
  if (other && !IsMutant(Mutant::kIgnoreIncarnation)) return refuse(Err::kStaleEpoch);
  const bool closed = block->state != pb::BLOCK_OPEN || block->closing;
  if (closed && !(IsMutant(Mutant::kStaleReplicaAppend) && block->open_index)) {
    return refuse(Err::kClosed);
  }
  const bool stale = message.block_epoch() != block->block_epoch;
  if (stale && !IsMutant(Mutant::kStaleReplicaAppend)) return refuse(Err::kStaleEpoch);
  const bool late = request.deadline_ms != 0 && request.deadline_ms <= now.mono_ms;
  Result<std::vector<CommittingAppend>> commit =
      late ? Err::kTimeout : TakeCommit(message, request.payload.bytes(), *block);
  if (!commit.ok()) {
    LOG_WARN("replica_append_refused", "block=%llu offset=%llu end=%llu err=%s action=close_block",
             static_cast<unsigned long long>(block->id),
             static_cast<unsigned long long>(message.offset()),
             static_cast<unsigned long long>(block->end), ErrName(commit.err()).data());
    BeginClose(block, block->block_epoch + 1, out);
    FinishCloseIfIdle(block, out);
    return refuse(Err::kClosed);
  }
  ServeFromNow(block);
  block->committing = *std::move(commit);
  block->next_sequence += static_cast<uint32_t>(block->committing.size());
  block->commit_end = block->end + request.payload.size();
  block->primary_waits = request.token;
  std::vector<IoStep> steps(2);
  steps[0] = {.op = IoStep::Op::kWrite, .file = block->file, .offset = block->end};
  steps[0].owned.push_back(std::move(request.payload));
  steps[1] = {.op = IoStep::Op::kSync, .file = block->file};
  ++stats_.replica_commits;
  last_commit_ms_ = now.mono_ms;
  (void)Issue({.kind = PendingJob::Kind::kCommit, .block_id = block->id}, IoLane::kCommit,
              std::move(steps), out);  // found again by its kind and block
  if (IsMutant(Mutant::kAnswerBeforeSync)) {
    Reply(*std::exchange(block->primary_waits, {}), MessageType::kReplicaAppend, Err::kOk, out);
  }
}

// The needles of a commit, if it is the next one here: at this replica's end, with its next
// sequences, and every head as it must be at that place of this life of the block.
Result<std::vector<CommittingAppend>> DspCore::TakeCommit(const pb::ReplicaAppendRequest& message,
                                                          Bytes pages, const Block& block) const {
  const bool busy = !block.committing.empty() || !block.waiting.empty();
  if (busy || block.replication) return Err::kBusy;  // somebody else appends here, or a repeat
  if (message.offset() != block.end) return Err::kInvalid;
  if (message.first_sequence() != block.next_sequence) return Err::kInvalid;
  const auto needles = static_cast<uint32_t>(message.needle_offsets_size());
  if (needles < 1 || needles > kCommitNeedlesMax) return Err::kInvalid;
  if (pages.empty() || pages.size() % kPageBytes != 0) return Err::kInvalid;
  if (block.next_sequence + needles > kNeedlesPerBlockMax) return Err::kTooLarge;
  const uint64_t footer_bytes = FooterBytesMax(block.next_sequence + needles);
  if (block.end + pages.size() + footer_bytes > superblock_.block_bytes) return Err::kTooLarge;
  std::vector<CommittingAppend> commit;
  uint64_t free_from = 0;  // behind the needle before
  for (const uint64_t at : message.needle_offsets()) {
    if (at < free_from || at % kNeedleAlign != 0 || at >= pages.size()) return Err::kInvalid;
    const NeedlePlace place{.life = block.life, .offset = block.end + at};
    TRY_ASSIGN(const NeedleHead head, CheckNeedleHead(pages.subspan(at), block.id, place));
    free_from = at + head.data_offset + head.header.stored_size;
    if (free_from > pages.size()) return Err::kInvalid;
    if (head.file_id().sequence() != block.next_sequence + commit.size()) return Err::kInvalid;
    commit.push_back({.token = {},
                      .file_id = head.file_id(),
                      .offset = place.offset,
                      .created_ms = head.header.created_ms});
  }
  return commit;
}

}  // namespace hayloft
