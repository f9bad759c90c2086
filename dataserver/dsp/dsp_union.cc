// The union of a closed block's replicas: after it each holds every needle that any had intact.
//
//   own scan --> lists of the others --> union --+-- all of it here: footer behind the data
//                                                '-- else a new life: needles copied and fetched
//                                                    beside the old file, footer, sync, rename
//
// Each replica does this on its own. Needles are immutable and named once, so the union of what is
// intact does not depend on who asks whom when: lists only grow, by needles of the union itself.
// Reads go on from the old file until the new one has its name. One thing at a time is under way
// for a block: a call or a job. Whatever fails ends the attempt; the nameserver asks again.
#include <algorithm>
#include <map>

#include "common/check.h"
#include "common/log.h"
#include "common/mutant.h"
#include "common/needle.h"
#include "dataserver/dsp/dsp_core.h"

namespace hayloft {

namespace {

constexpr uint32_t kListTimeoutMs = 5'000;
constexpr uint32_t kFetchTimeoutMs = 10'000;
constexpr uint64_t kListRowsMax = (1 << 20) / sizeof(NeedleDigestRow);
constexpr uint64_t kScanKeptMs = 10'000;
constexpr uint64_t kMoveBytesMax = 8 << 20;  // in one job

bool SameNeedle(const ScannedNeedle& a, const ScannedNeedle& b) {
  return a.file_id == b.file_id && a.stored_size == b.stored_size && a.pieces_crc == b.pieces_crc;
}

}  // namespace

// --- for others ---------------------------------------------------------------------------------

void DspCore::OnNeedleList(const RpcRequest& request, DspOutbox* out) {
  pb::NeedleListRequest message;
  const auto refuse = [&](Err err) { Reply(request.token, request.type, err, out); };
  if (!message.ParseFromString(request.message)) return refuse(Err::kInvalid);
  Block* block = FindBlock(message.block_id());
  if (block == nullptr || block->opening_epoch != message.opening_epoch()) {
    return refuse(Err::kNotServing);
  }
  if (block->state == pb::BLOCK_OPEN) return refuse(Err::kInvalid);  // it may still grow
  if (!block->scan) {
    if (!block->sealing && !std::exchange(block->list_scanning, true)) {
      IssueScan(PendingJob::Kind::kListScan, *block, out);
    }
    return refuse(Err::kBusy);
  }
  block->scan_used_ms = now_mono_ms_;
  const std::vector<ScannedNeedle>& intact = block->scan->intact;
  auto row = std::lower_bound(intact.begin(), intact.end(), message.first_sequence(),
                              [](const ScannedNeedle& needle, uint32_t sequence) {
                                return needle.file_id.sequence() < sequence;
                              });
  std::string rows;
  for (uint64_t i = 0; i < kListRowsMax && row != intact.end(); ++i, ++row) {
    rows.append(AsText(StructBytes(NeedleDigestRow{.sequence = row->file_id.sequence(),
                                                   .file_id = row->file_id.value,
                                                   .stored_size = row->stored_size,
                                                   .pieces_crc = row->pieces_crc})));
  }
  pb::NeedleListReply reply;
  reply.set_needles(block->needles());
  reply.set_last(row == intact.end());
  reply.set_unreadable(block->scan->unreadable);
  const bool look_again = block->scan->unreadable > 0;  // the pages may be fine by then
  Reply(request.token, request.type, Err::kOk, out);
  out->replies.back().message = reply.SerializeAsString();
  out->replies.back().payload = Buffer::CopyOf(AsBytes(rows));
  if (look_again && !block->sealing) DropScan(block);
}

void DspCore::OnListScanned(Block* block, JobDone&& done, DspOutbox*) {
  block->list_scanning = false;
  if (done.err != Err::kOk) return;  // whoever asks again begins it again
  block->scan = std::move(done.scan);
  block->scan_used_ms = now_mono_ms_;
  scanned_blocks_.insert(block->id);
}

void DspCore::DropScan(Block* block) {
  block->scan.reset();
  scanned_blocks_.erase(block->id);
}

void DspCore::DropScans() {
  std::erase_if(scanned_blocks_, [this](uint64_t block_id) {
    Block* block = FindBlock(block_id);
    ASSERT(block != nullptr);
    if (block->sealing || now_mono_ms_ < block->scan_used_ms + kScanKeptMs) return false;
    block->scan.reset();
    return true;
  });
}

// --- lists and union ----------------------------------------------------------------------------

// Asks the first of the others whose list is not complete.
void DspCore::AskForList(Block* block, DspOutbox* out) {
  Union& merging = *block->merging;
  pb::NeedleListRequest message;
  message.set_block_id(block->id);
  message.set_opening_epoch(block->opening_epoch);
  if (merging.list_complete) merging.lists.emplace_back();
  if (merging.lists.size() > merging.others.size()) return FormUnion(block, out);
  const std::vector<ScannedNeedle>& list = merging.lists.back();
  message.set_first_sequence(list.empty() ? 0 : list.back().file_id.sequence() + 1);
  const std::string& address = merging.others[merging.lists.size() - 1].address();
  (void)CallPeer({.kind = PeerCall::Kind::kUnion, .block_id = block->id},
                 {address, MessageType::kNeedleList, kListTimeoutMs}, message.SerializeAsString(),
                 out);  // one at a time is under way for a block
}

void DspCore::OnList(Block* block, CallDone&& done, DspOutbox* out) {
  Union& merging = *block->merging;
  pb::NeedleListReply reply;
  if (done.err != Err::kOk) return AbandonUnion(block, done.err, out);
  if (!reply.ParseFromString(done.message)) return AbandonUnion(block, Err::kCorrupt, out);
  // What is absent there may be there all the same.
  if (reply.unreadable() > 0) return AbandonUnion(block, Err::kIo, out);
  std::vector<ScannedNeedle>& list = merging.lists.back();
  ByteReader reader(done.payload.bytes());
  while (reader.size() > 0) {
    const auto row = reader.TakeStruct<NeedleDigestRow>();
    const FileId file_id{row.file_id};
    const bool ascends = list.empty() || file_id.sequence() > list.back().file_id.sequence();
    const bool fits = row.stored_size > 0 && row.stored_size <= kFileBytesMax &&
                      file_id.sequence() == row.sequence && row.sequence < kNeedlesPerBlockMax;
    if (!reader.ok() || !ascends || !fits) return AbandonUnion(block, Err::kCorrupt, out);
    list.push_back(
        {.file_id = file_id, .stored_size = row.stored_size, .pieces_crc = row.pieces_crc});
  }
  if (!reply.last() && done.payload.empty()) return AbandonUnion(block, Err::kCorrupt, out);
  merging.needles = std::max(merging.needles, std::min(reply.needles(), kNeedlesPerBlockMax));
  merging.list_complete = reply.last();
  AskForList(block, out);
}

void DspCore::FormUnion(Block* block, DspOutbox* out) {
  Union& merging = *block->merging;
  merging.needles = std::max(merging.needles, block->needles());
  std::map<uint32_t, Union::Row> rows;
  for (const ScannedNeedle& needle : block->scan->intact) {
    rows[needle.file_id.sequence()] = {.needle = needle, .other = -1};
  }
  uint32_t missing = 0;
  std::map<uint32_t, size_t> replicas;  // that have it
  for (const auto& [sequence, row] : rows) ++replicas[sequence];
  for (size_t i = 0; i < merging.others.size(); ++i) {
    for (const ScannedNeedle& needle : merging.lists[i]) {
      const auto [row, fresh] = rows.try_emplace(
          needle.file_id.sequence(), Union::Row{.needle = needle, .other = static_cast<int>(i)});
      missing += fresh ? 1 : 0;
      ++replicas[needle.file_id.sequence()];
      // Neither is touched: each keeps its own.
      if (!fresh && !SameNeedle(row->second.needle, needle)) ++merging.divergent;
    }
  }
  if (IsMutant(Mutant::kSealShortest)) {
    const size_t all = merging.others.size() + 1;
    std::erase_if(rows, [&](const auto& row) { return replicas[row.first] < all; });
    missing = 0;
    std::erase_if(block->scan->intact, [&](const ScannedNeedle& needle) {
      return !rows.contains(needle.file_id.sequence());
    });
  }
  if (merging.divergent > 0) {
    LOG_ERROR("block_divergent", "block=%llu needles=%u action=keep_own",
              static_cast<unsigned long long>(block->id), merging.divergent);
  }
  const bool sealed = block->state == pb::BLOCK_SEALED;
  const auto found = static_cast<uint32_t>(rows.size());
  const uint32_t lost = merging.needles - std::min(merging.needles, found);
  if (sealed && missing == 0 && lost == block->lost && block->without_all == merging.without_all &&
      merging.needles == block->needles()) {
    return EndUnion(block, out);  // its footer says all this already
  }
  if (missing == 0 && !sealed) return WriteFooter(block, merging.needles, out);
  LOG_INFO("block_united", "block=%llu own=%zu missing=%u action=write_new_life",
           static_cast<unsigned long long>(block->id), block->scan->intact.size(), missing);
  for (const auto& [sequence, row] : rows) merging.rows.push_back(row);
  BeginLife(block, out);
}

// A repeated seal that changed nothing.
void DspCore::EndUnion(Block* block, DspOutbox* out) {
  block->sealing = false;
  block->divergent = block->merging->divergent;
  block->merging.reset();
  Changed(*block);
  for (const ReplyToken& token : std::exchange(block->seal_waiters, {})) {
    ReplyInfo(token, MessageType::kSealBlock, *block, out);
  }
}

void DspCore::AbandonUnion(Block* block, Err err, DspOutbox* out) {
  const Union& merging = *block->merging;
  LOG_WARN("union_put_off", "block=%llu err=%s", static_cast<unsigned long long>(block->id),
           ErrName(err).data());
  if (merging.file.valid()) out->closes.push_back(merging.file);
  if (!merging.temporary.empty()) Discard(merging.temporary, out);
  RefuseSeal(block, err, out);
}

// --- a new life ---------------------------------------------------------------------------------

void DspCore::BeginLife(Block* block, DspOutbox* out) {
  Union& merging = *block->merging;
  merging.life = random_->Next64();
  merging.temporary = BlockFileName(block->id) + std::string(kTemporarySuffix);
  std::vector<IoStep> steps(3);
  steps[0] = {.op = IoStep::Op::kCreate, .name = merging.temporary};
  steps[1] = {.op = IoStep::Op::kAllocate, .size = superblock_.block_bytes};
  steps[2] = {.op = IoStep::Op::kWrite};
  steps[2].owned.push_back(
      Buffer::CopyOf(AsBytes(EncodeBlockHeader(HeaderOf(*block, merging.life)))));
  (void)Issue({.kind = PendingJob::Kind::kLifeStep, .block_id = block->id}, IoLane::kBackground,
              std::move(steps), out);  // found again by its kind and block
}

void DspCore::OnLifeStep(Block* block, const JobDone& done, DspOutbox* out) {
  Union& merging = *block->merging;
  if (done.err != Err::kOk) {
    DropScan(block);  // a needle that it found may have gone bad since: the next try looks again
    return AbandonUnion(block, done.err, out);
  }
  if (!merging.file.valid()) merging.file = done.file;
  WriteNextRows(block, out);
}

// The next needles of the union: a stretch of this replica's own, or one to be fetched.
void DspCore::WriteNextRows(Block* block, DspOutbox* out) {
  Union& merging = *block->merging;
  if (merging.next_row == merging.rows.size()) return EndLife(block, out);
  if (merging.rows[merging.next_row].other >= 0) {
    const Union::Row& row = merging.rows[merging.next_row];
    pb::ReadRequest message;
    message.set_block_id(block->id);
    message.set_file_id(row.needle.file_id.value);
    message.set_include_deleted(true);
    const std::string& address = merging.others[static_cast<size_t>(row.other)].address();
    (void)CallPeer({.kind = PeerCall::Kind::kUnion, .block_id = block->id},
                   {address, MessageType::kRead, kFetchTimeoutMs}, message.SerializeAsString(),
                   out);  // one at a time is under way for a block
    return;
  }
  std::vector<IoStep> steps(1);
  steps[0] = {.op = IoStep::Op::kMove, .file = merging.file};
  steps[0].life = merging.life;
  steps[0].from = {.file = block->file, .block_id = block->id, .life = block->life};
  const uint64_t begin = merging.end;
  while (merging.next_row < merging.rows.size() && merging.end - begin < kMoveBytesMax) {
    const Union::Row& row = merging.rows[merging.next_row];
    if (row.other >= 0) break;
    steps[0].moves.push_back(
        {.from = row.needle.offset, .to = merging.end, .bytes = row.needle.needle_bytes});
    merging.written.intact.push_back(row.needle);
    merging.written.intact.back().offset = merging.end;
    merging.end += row.needle.needle_bytes;
    ++merging.next_row;
  }
  (void)Issue({.kind = PendingJob::Kind::kLifeStep, .block_id = block->id}, IoLane::kBackground,
              std::move(steps), out);  // found again by its kind and block
}

// The row's needle from the next member that listed it. False: there is none.
bool DspCore::AskAnother(Union* merging) {
  Union::Row& row = merging->rows[merging->next_row];
  for (size_t i = static_cast<size_t>(row.other) + 1; i < merging->lists.size(); ++i) {
    for (const ScannedNeedle& needle : merging->lists[i]) {
      if (!SameNeedle(needle, row.needle)) continue;
      row.other = static_cast<int>(i);
      return true;
    }
  }
  return false;
}

void DspCore::OnFetched(Block* block, CallDone&& done, DspOutbox* out) {
  Union& merging = *block->merging;
  const ScannedNeedle& wanted = merging.rows[merging.next_row].needle;
  pb::ReadReply reply;
  const bool parsed = done.err == Err::kOk && reply.ParseFromString(done.message);
  const Result<NeedleHead> head = ParseNeedleHead(AsBytes(reply.head()));
  const bool right =
      parsed && head.ok() && head->header.block_id == block->id &&
      head->file_id() == wanted.file_id && head->header.stored_size == wanted.stored_size &&
      Crc32c(head->piece_crcs) == wanted.pieces_crc && done.payload.size() == wanted.stored_size &&
      CheckPieces(*head, 0, done.payload.bytes()) == Err::kOk;
  if (!right) {  // gone bad since it was listed: another may have it
    if (AskAnother(&merging)) return WriteNextRows(block, out);
    return AbandonUnion(block, done.err == Err::kOk ? Err::kCorrupt : done.err, out);
  }
  const NeedlePlace place{.life = merging.life, .offset = merging.end};
  std::vector<IoStep> steps(1);
  steps[0] = {.op = IoStep::Op::kWrite, .file = merging.file, .offset = merging.end};
  steps[0].owned.push_back(Buffer::CopyOf(AsBytes(MoveNeedleHead(*head, place))));
  steps[0].owned.push_back(std::move(done.payload));
  merging.written.intact.push_back(wanted);
  merging.written.intact.back().offset = merging.end;
  merging.written.intact.back().needle_bytes = head->needle_bytes;
  merging.end += head->needle_bytes;  // the file's zeros stand between
  ++merging.next_row;
  (void)Issue({.kind = PendingJob::Kind::kLifeStep, .block_id = block->id}, IoLane::kBackground,
              std::move(steps), out);  // found again by its kind and block
}

void DspCore::EndLife(Block* block, DspOutbox* out) {
  Union& merging = *block->merging;
  merging.written.end = merging.end;
  Footer footer = FooterOf(*block, merging.written, merging.needles);
  footer.life = merging.life;
  SealJob seal = FooterJob(*block, std::move(footer), merging.file, PageCeil(merging.end));
  seal.job.kind = PendingJob::Kind::kLifeEnd;
  seal.steps.push_back(
      {.op = IoStep::Op::kRename, .name = merging.temporary, .target = BlockFileName(block->id)});
  seal.steps.push_back({.op = IoStep::Op::kSyncDir});
  seal.steps.push_back(std::move(seal.remember));
  (void)Issue(std::move(seal.job), IoLane::kBackground, std::move(seal.steps), out);  // by its kind
}

// The new file has the name. Reads that are under way finish on the old one.
void DspCore::OnLifeEnd(PendingJob&& job, Err err, DspOutbox* out) {
  Block* block = FindBlock(job.block_id);
  Union& merging = *block->merging;
  if (err != Err::kOk) return AbandonUnion(block, err, out);
  if (block->file.valid()) {
    if (block->reads > 0) {
      block->old_files.push_back(block->file);
    } else {
      out->closes.push_back(block->file);
    }
  }
  block->file = merging.file;
  block->life = merging.life;
  DropScan(block);  // its offsets are the old file's
  OnSealWritten(std::move(job), Err::kOk, out);
}

}  // namespace hayloft
