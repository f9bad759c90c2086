// Before a dsp serves a block with several replicas: it must know all deletes that others have
// acknowledged without it.
//
//   start or doubt --a heartbeat is answered, sets are told--> merging --delete state--> serving
//
// It takes the delete state of the block from a replica that serves it, or from all that aren't
// down, by maximum, synced; whoever gives it counts this dsp as up from then on, so that the next
// delete waits for it. Until a start's first answered heartbeat it gives nothing of such blocks;
// from then on, and while it doubts, its bytes, marked as doubtful: clients use them when no other
// replica answers. Its "not found" and "gone" are believed only when it serves.
// A disk that takes no writes cannot keep what it learns: it never serves such a block again.
#include <algorithm>

#include "common/check.h"
#include "common/file_change.h"
#include "common/log.h"
#include "common/mutant.h"
#include "dataserver/dsp/dsp_core.h"

namespace hayloft {

namespace {

constexpr size_t kMergeBlocksMax = 1'000;  // in one request
constexpr size_t kMergeRowsMax = 32'000;   // in one answer
constexpr uint32_t kMergeTimeoutMs = 2'000;
constexpr uint64_t kMergeRetryMs = 200;
constexpr uint64_t kMergedAgainMs = 1'000;  // after the log could not be written

struct DeleteStateRow {
  le32 block;  // index into the request's block_ids
  le32 sequence;
  le32 counter;
  le64 changed_ms;
};
static_assert(sizeof(DeleteStateRow) == 20 && alignof(DeleteStateRow) == 1);

size_t MemberAt(const Block& block, uint32_t dsp_id) {
  const auto at = std::find(block.set_dsp_ids.begin(), block.set_dsp_ids.end(), dsp_id);
  return static_cast<size_t>(at - block.set_dsp_ids.begin());
}

}  // namespace

// --- What may be said of a block ----------------------------------------------------------------

bool DspCore::Serves(const Block& block) const {
  if (block.outside) return false;
  if (!block.shared()) return true;  // nobody else can know more of it
  if (IsMutant(Mutant::kServeBeforeMerging)) return true;
  return Writable() && !in_doubt_ && block.merged_in == doubts_;
}

std::string DspCore::DescribeServing(const Block& block) const {
  if (block.outside) return "outside of set";
  if (in_doubt_) return "in doubt";
  if (!sets_known_) return "sets not told";
  const auto merging = unmerged_.find(block.id);
  if (merging == unmerged_.end()) return Serves(block) ? "serving" : "not merged";
  std::string waits = "merging, untold by";
  for (size_t i = 0; i < block.set_dsp_ids.size(); ++i) {
    const uint32_t dsp_id = block.set_dsp_ids[i];
    const bool told = ((merging->second.told >> i) & 1u) != 0;
    if (dsp_id != superblock_.dsp_id && !told) waits += ' ' + std::to_string(dsp_id);
  }
  return waits;
}

bool DspCore::Gives(const Block& block) const {
  return !block.outside && (!block.shared() || block.merged_in != 0 || sets_known_);
}

// Who must have a delete of this block: the members that count as up here. False when somebody's
// state or place is not known.
bool DspCore::FillUp(const Block& block,
                     google::protobuf::RepeatedPtrField<pb::Replica>* up) const {
  bool known = true;
  for (const uint32_t dsp_id : block.set_dsp_ids) {
    const PeerView::Peer* peer = peers_.Find(dsp_id);
    const bool self = dsp_id == superblock_.dsp_id;
    const bool counts = self || (peer != nullptr && peers_.StateOf(*peer) == pb::PEER_UP);
    known = known && (self || (peer != nullptr && (!counts || !peer->address.empty())));
    if (!counts || (!self && peer->address.empty())) continue;
    pb::Replica& replica = *up->Add();
    replica.set_dsp_id(dsp_id);
    replica.set_address(self ? options_.address : peer->address);
  }
  return known;
}

// --- Doubt --------------------------------------------------------------------------------------

void DspCore::NoteTime(Now now) {
  now_mono_ms_ = now.mono_ms;
  if (in_doubt_ || !peers_.Doubtful(now.mono_ms) || IsMutant(Mutant::kNeverInDoubt)) return;
  PROBE("dsp_in_doubt");
  LOG_WARN("dsp_in_doubt", "unanswered_ms=%llu action=merge_before_serving",
           static_cast<unsigned long long>(kDoubtMs));
  in_doubt_ = true;
  ++doubts_;
  unmerged_.clear();
  merges_.clear();
  merged_blocks_.clear();
}

void DspCore::OnCountedHeartbeat(const pb::HeartbeatReply& message, uint64_t sent_ms,
                                 bool reported) {
  peers_.OnHeartbeatDone(message, sent_ms);
  for (const pb::BlockSet& set : message.sets()) AdoptSet(set);
  // After each doubt the sets must be told anew: it may have left one meanwhile. An answer that
  // took long ends no doubt.
  if (!reported || message.more_sets()) return;
  sets_known_ = true;
  if (!in_doubt_ || peers_.Doubtful(now_mono_ms_)) return;
  in_doubt_ = false;
  // Deletes were acknowledged without this dsp, maybe, that it hears of only by merging. Who trusts
  // the feed must not wait for that: each entry of a cache is asked about anew, and of a block that
  // is not merged yet nothing is said here that a cache would keep.
  if (!IsMutant(Mutant::kFeedForgetDoubt)) feed_.Break();
  BeginMerges();
}

// The nameserver's set of a block is a later one than that on the disk.
void DspCore::AdoptSet(const pb::BlockSet& set) {
  Block* block = FindBlock(set.block_id());
  if (block == nullptr) return;
  Changed(*block);  // so that the nameserver hears which version is here
  if (set.set_version() <= block->set_version) return;
  if (set.set_dsp_ids_size() < 1 || set.set_dsp_ids_size() > static_cast<int>(kReplicasMax)) return;
  const bool served = Serves(*block);
  block->set_version = set.set_version();
  block->set_dsp_ids = {set.set_dsp_ids().begin(), set.set_dsp_ids().end()};
  block->outside = MemberAt(*block, superblock_.dsp_id) == block->set_dsp_ids.size();
  if (block->outside) {
    PROBE("dsp_outside_a_set");
    LOG_WARN("block_outside", "block=%llu set_version=%u action=serve_nothing_of_it",
             static_cast<unsigned long long>(block->id), block->set_version);
    block->merged_in = 0;  // should it become a member again
  }
  // Deletes of it need not come here any more.
  if (served && !Serves(*block)) feed_.Add(block->id, kWholeBlock);
  unmerged_.erase(block->id);
  std::erase(merged_blocks_, block->id);  // what the former set told is no reason to serve it
  std::erase(committing_merged_, block->id);
  if (!in_doubt_ && sets_known_) BeginMerge(*block);  // else all begin later
}

// Its first append comes: it is in the set that is granted, and nothing of it was ever deleted. Who
// was late at the creation, and left out of the set, never gets here.
void DspCore::ServeFromNow(Block* block) {
  if (in_doubt_ || block->next_sequence > 0 || block->merged_in == doubts_) return;
  block->merged_in = doubts_;
  unmerged_.erase(block->id);
}

// --- Merging: who asks --------------------------------------------------------------------------

void DspCore::BeginMerges() {
  unmerged_.clear();
  merges_.clear();
  merged_blocks_.clear();
  merged_changes_.clear();
  for (const auto& [id, block] : blocks_) BeginMerge(block);
  if (!unmerged_.empty()) LOG_INFO("merge_begins", "blocks=%zu", unmerged_.size());
}

void DspCore::BeginMerge(const Block& block) {
  if (!Writable() || !block.shared() || block.outside || block.merged_in == doubts_) return;
  unmerged_[block.id] = {};
  for (const uint32_t dsp_id : block.set_dsp_ids) {
    if (dsp_id != superblock_.dsp_id) merges_[dsp_id].queue.push_back(block.id);
  }
}

void DspCore::ContinueMerges(Now now, DspOutbox* out) {
  if (unmerged_.empty() || in_doubt_) return;
  for (auto& [dsp_id, merge] : merges_) AskForDeletes(dsp_id, &merge, now, out);
  if (peers_.version() == merged_view_) return;
  merged_view_ = peers_.version();  // somebody may be down now
  std::vector<uint64_t> block_ids;
  for (const auto& [block_id, merging] : unmerged_) block_ids.push_back(block_id);
  for (const uint64_t block_id : block_ids) JudgeMerge(block_id);
  if (!delete_job_) StartDeleteCommit(now, out);
}

void DspCore::AskForDeletes(uint32_t dsp_id, Merge* merge, Now now, DspOutbox* out) {
  const PeerView::Peer* peer = peers_.Find(dsp_id);
  if (merge->call != 0 || now.mono_ms < merge->retry_ms) return;
  if (peer == nullptr || peer->address.empty()) return;
  while (merge->next_block == 0 && merge->next_sequence == 0 && !merge->queue.empty() &&
         merge->asked.size() < kMergeBlocksMax) {
    if (unmerged_.contains(merge->queue.front())) merge->asked.push_back(merge->queue.front());
    merge->queue.pop_front();
  }
  if (merge->asked.empty()) return;
  pb::DeleteStateRequest message;
  message.set_asked_dsp_id(dsp_id);
  message.mutable_asker()->set_dsp_id(superblock_.dsp_id);
  message.mutable_asker()->set_address(options_.address);
  for (const uint64_t block_id : merge->asked) message.add_block_ids(block_id);
  message.set_first_block(merge->next_block);
  message.set_first_sequence(merge->next_sequence);
  merge->call = CallPeer({.kind = PeerCall::Kind::kMerge, .dsp_id = dsp_id},
                         {peer->address, MessageType::kDeleteState, kMergeTimeoutMs},
                         message.SerializeAsString(), out);
}

void DspCore::OnMergeAnswer(const PeerCall& call, const CallDone& done, Now now, DspOutbox* out) {
  const auto found = merges_.find(call.dsp_id);
  if (found == merges_.end() || found->second.call != done.call_id) return;  // of an earlier doubt
  Merge& merge = found->second;
  merge.call = 0;
  pb::DeleteStateReply reply;
  const bool fine = done.err == Err::kOk && reply.ParseFromString(done.message) &&
                    TakeDeletes(merge, reply, done.payload.bytes());
  if (!fine) {  // from the start
    merge.queue.insert(merge.queue.begin(), merge.asked.begin(), merge.asked.end());
    merge.asked.clear();
    merge.next_block = merge.next_sequence = 0;
    merge.retry_ms = now.mono_ms + kMergeRetryMs;
    return;
  }
  for (int i = 0; i < reply.sources_size(); ++i) {
    const uint64_t block_id = merge.asked[merge.next_block + static_cast<uint32_t>(i)];
    TakeSource(call.dsp_id, block_id, reply.sources(i), &merge);
    if (reply.sources(i) == pb::SOURCE_NONE) merge.retry_ms = now.mono_ms + kMergeRetryMs;
  }
  merge.next_block = reply.next_block();
  merge.next_sequence = reply.next_sequence();
  if (merge.next_block == merge.asked.size()) {
    merge.asked.clear();
    merge.next_block = merge.next_sequence = 0;
  }
  if (!delete_job_) StartDeleteCommit(now, out);
  ContinueMerges(now, out);
}

// What of an answer is news. False: it makes no sense, and nothing was taken.
bool DspCore::TakeDeletes(const Merge& merge, const pb::DeleteStateReply& reply, Bytes payload) {
  const size_t asked = merge.asked.size();
  const auto complete = static_cast<uint32_t>(reply.sources_size());
  if (complete > asked - merge.next_block) return false;
  if (reply.next_block() != merge.next_block + complete) return false;
  const bool on = complete > 0 || reply.next_sequence() > merge.next_sequence;
  if (!on || (reply.next_block() == asked && reply.next_sequence() != 0)) return false;
  std::vector<DeleteChange> news;
  ByteReader reader(payload);
  while (reader.size() > 0) {
    const auto row = reader.TakeStruct<DeleteStateRow>();
    if (!reader.ok() || row.block >= asked || row.sequence >= kNeedlesPerBlockMax) return false;
    const DeleteChange change{
        .block_id = merge.asked[row.block],
        .entry = {.sequence = row.sequence, .counter = row.counter, .changed_ms = row.changed_ms}};
    const uint32_t have = deletes_.Find(change.block_id, change.entry.sequence).counter;
    if (have < change.entry.counter) news.push_back(change);
    if (IsMutant(Mutant::kMergeByMinimum)) news.clear();
  }
  merged_changes_.insert(merged_changes_.end(), news.begin(), news.end());
  return true;
}

void DspCore::TakeSource(uint32_t dsp_id, uint64_t block_id, pb::DeleteSource source,
                         Merge* merge) {
  const auto from = unmerged_.find(block_id);
  if (from == unmerged_.end()) return;  // merged meanwhile
  const Block& block = blocks_.at(block_id);
  const size_t member = MemberAt(block, dsp_id);
  if (member == block.set_dsp_ids.size()) return;  // no member any more
  Merging& merging = from->second;
  merging.served |= source == pb::SOURCE_SERVING;
  const auto bit = static_cast<uint8_t>(1u << member);
  merging.answered = static_cast<uint8_t>(merging.answered | bit);
  if (source != pb::SOURCE_OWN && source != pb::SOURCE_SERVING) {
    merge->queue.push_back(block_id);  // asked again: it may have merged by then
  } else {
    merging.told = static_cast<uint8_t>(merging.told | bit);
  }
  JudgeMerge(block_id);
}

// Once all that there is to know has come and is synced, the block is served. It has come from one
// that serves; or from all that aren't down; or, where a log was damaged, from every member: two of
// them had each delete that was acknowledged.
void DspCore::JudgeMerge(uint64_t block_id) {
  const Merging& merging = unmerged_.at(block_id);
  const Block& block = blocks_.at(block_id);
  bool all_told = true;
  bool all_answered = true;
  for (size_t i = 0; i < block.set_dsp_ids.size(); ++i) {
    const PeerView::Peer* peer = peers_.Find(block.set_dsp_ids[i]);
    const bool down = peer != nullptr && peers_.StateOf(*peer) == pb::PEER_DOWN;
    if (block.set_dsp_ids[i] == superblock_.dsp_id) continue;
    all_told = all_told && (down || ((merging.told >> i) & 1u) != 0);
    all_answered = all_answered && ((merging.answered >> i) & 1u) != 0;
  }
  if (!merging.served && !all_told && !all_answered) return;
  if (merging.served) PROBE("merged_from_one_that_serves");
  if (!merging.served && all_told) PROBE("merged_from_all_that_are_not_down");
  unmerged_.erase(block_id);
  merged_blocks_.push_back(block_id);
}

// The deletes that a commit of the log took from others are synced, or could not be.
void DspCore::OnMergesSynced(Err err) {
  const std::vector<uint64_t> block_ids = std::exchange(committing_merged_, {});
  if (committing_doubt_ != doubts_) return;  // they are asked for once more
  for (const uint64_t block_id : block_ids) {
    Block* block = FindBlock(block_id);
    if (err == Err::kOk && !block->outside) block->merged_in = doubts_;
  }
  if (err == Err::kOk || in_doubt_) return;
  BeginMerges();
  for (auto& [dsp_id, merge] : merges_) merge.retry_ms = now_mono_ms_ + kMergedAgainMs;
}

// --- Merging: who is asked ----------------------------------------------------------------------

void DspCore::OnDeleteState(const RpcRequest& request, Now now, DspOutbox* out) {
  pb::DeleteStateRequest message;
  const auto refuse = [&](Err err) { Reply(request.token, request.type, err, out); };
  if (!message.ParseFromString(request.message) || message.asker().dsp_id() == 0) {
    return refuse(Err::kInvalid);
  }
  // The address may have been another's.
  if (message.asked_dsp_id() != superblock_.dsp_id) return refuse(Err::kNotServing);
  const auto asked = static_cast<uint32_t>(message.block_ids_size());
  if (asked > kMergeBlocksMax || message.first_block() > asked) return refuse(Err::kInvalid);
  peers_.CountAsUp(message.asker(), now.mono_ms);
  pb::DeleteStateReply reply;
  std::string rows;
  uint32_t at = message.first_block();
  uint32_t sequence = message.first_sequence();
  size_t left = kMergeRowsMax;
  for (; at < asked; ++at, sequence = 0) {
    const uint64_t block_id = message.block_ids(static_cast<int>(at));
    const DeleteRange range{.block_id = block_id, .index = at, .first_sequence = sequence};
    if (!AppendRows(range, &left, &sequence, &rows)) break;
    reply.add_sources(SourceOf(block_id));
  }
  reply.set_next_block(at);
  reply.set_next_sequence(at < asked ? sequence : 0);
  Reply(request.token, request.type, Err::kOk, out);
  out->replies.back().message = reply.SerializeAsString();
  out->replies.back().payload = Buffer::CopyOf(AsBytes(rows));
}

// False when there was no room for all; *next is then the sequence to go on with.
bool DspCore::AppendRows(const DeleteRange& range, size_t* left, uint32_t* next,
                         std::string* rows) const {
  const auto found = deletes_.blocks().find(range.block_id);
  if (found == deletes_.blocks().end()) return true;
  for (const DeleteEntry& entry : found->second) {
    if (entry.sequence < range.first_sequence) continue;
    if (*left == 0) {
      *next = entry.sequence;
      return false;
    }
    --*left;
    rows->append(AsText(StructBytes(DeleteStateRow{.block = range.index,
                                                   .sequence = entry.sequence,
                                                   .counter = entry.counter,
                                                   .changed_ms = entry.changed_ms})));
  }
  return true;
}

pb::DeleteSource DspCore::SourceOf(uint64_t block_id) const {
  const auto found = blocks_.find(block_id);
  if (found == blocks_.end()) {
    return delete_log_.damaged_records() == 0 ? pb::SOURCE_OWN : pb::SOURCE_NONE;
  }
  const Block& block = found->second;
  if (Serves(block) && block.shared()) return pb::SOURCE_SERVING;
  // What a damaged log lost may be what the asker lacks.
  const bool damaged = delete_log_.damaged_records() > 0 && block.merged_in == 0;
  return damaged ? pb::SOURCE_NONE : pb::SOURCE_OWN;
}

// --- The feed of deletes ------------------------------------------------------------------------

// While it says no, it has applied each delete of a block that it serves before that was
// acknowledged to anybody: all who acknowledge one count it as up, and wait for it. While in doubt
// it is not waited for, except where no other dsp has a replica. On a disk that takes no writes it
// refuses deletes, and its incarnation may be that of the process before.
bool DspCore::FeedDoubtful() const {
  if (!Writable()) return true;
  if (IsMutant(Mutant::kFeedNeverDoubtful)) return false;
  return in_doubt_ && std::any_of(blocks_.begin(), blocks_.end(),
                                  [](const auto& entry) { return entry.second.shared(); });
}

void DspCore::OnDeleteFeed(const RpcRequest& request, DspOutbox* out) {
  pb::DeleteFeedRequest message;
  if (!message.ParseFromString(request.message)) {
    return Reply(request.token, request.type, Err::kInvalid, out);
  }
  pb::DeleteFeedReply reply;
  reply.set_incarnation(superblock_.incarnation);
  reply.set_dsp_id(superblock_.dsp_id);
  reply.set_doubtful(FeedDoubtful());
  if (message.incarnation() == superblock_.incarnation) {
    feed_.Fill(message.position(), &reply);
  } else {
    feed_.FillGap(&reply);
  }
  ++stats_.feed_requests;
  stats_.feed_gaps += reply.gap() ? 1 : 0;
  Reply(request.token, request.type, Err::kOk, out);
  out->replies.back().message = reply.SerializeAsString();
}

}  // namespace hayloft
