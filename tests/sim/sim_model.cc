#include "tests/sim/sim_model.h"

#include <algorithm>
#include <cinttypes>

#include "common/codec.h"
#include "tests/sim/old_needles.h"

namespace hayloft {

namespace {

// An image made to be taken for needles, should a scan ever trust what it finds: after a torn write
// its bytes may lie where a header was.
void HideNeedles(SimRandom* random, MutableBytes bytes) {
  size_t at = 0;
  while (true) {
    const uint64_t block_id = random->Between(1, 20);
    const uint32_t sequence = static_cast<uint32_t>(random->Below(60));
    const std::string needle =
        OldNeedle(block_id, sequence, random->Below(30'000) * kNeedleAlign, random);
    at += random->Below(kNeedleAlign);
    if (at + needle.size() > bytes.size()) return;
    std::memcpy(&bytes[at], needle.data(), needle.size());
    at += needle.size();
  }
}

}  // namespace

// Mostly small, sometimes of several pieces, now and then compressed or malicious.
SimFile SimModel::MakeFile(SimRandom* random) {
  SimFile file;
  const uint64_t kind = random->Below(100);
  const uint64_t size = kind < 70   ? random->Between(1, 3000)
                        : kind < 95 ? random->Between(3000, 20'000)
                                    : random->Between(60'000, 140'000);
  Buffer raw(size);
  if (kind % 10 == 3) {  // text of few letters: zstd pays
    for (uint8_t& byte : raw.mutable_bytes()) byte = static_cast<uint8_t>('a' + random->Below(3));
  } else {
    random->Fill(raw.mutable_bytes());
    if (kind % 10 == 5) HideNeedles(random, raw.mutable_bytes());
  }
  const Buffer compressed = kind % 10 == 3 ? CompressIfWorthIt(raw.bytes()) : Buffer();
  file.raw_size = static_cast<uint32_t>(size);
  file.encoding = compressed.empty() ? Encoding::kIdentity : Encoding::kZstd;
  file.stored = AsText(compressed.empty() ? raw.bytes() : compressed.bytes());
  Metadata metadata;
  metadata.content_type = "image/png";
  random->Fill(metadata.nonce);
  file.metadata = EncodeMetadata(metadata);
  return file;
}

void SimModel::Acknowledged(SimFile file, const PutDone& done) {
  ASSERT(done.err == Err::kOk);
  file.address = done.address;
  file.dsp = done.dsp;
  const bool fresh =
      sequences_.insert({done.address.block_id, done.address.file_id.sequence()}).second;
  if (!fresh) {
    trace_->Fail("block %" PRIx64 " gave sequence %u out twice", done.address.block_id,
                 done.address.file_id.sequence());
  }
  files_.push_back(std::make_unique<SimFile>(std::move(file)));
}

SimModel::SetDelete SimModel::SetDeleteStarted(size_t index, bool undelete) {
  SimFile& file = *files_[index];
  ++file.doubts;
  ++file.disturbed;
  return {index, undelete, file.doubts == 1, file.disturbed};
}

void SimModel::SetDeleteEnded(const SetDelete& operation, const SetDeleteDone& done,
                              uint64_t now_us) {
  SimFile& file = *files_[operation.index];
  const char* what = operation.undelete ? "undelete" : "delete";
  if (done.err == Err::kNotFound && !clocks_jump_) {
    trace_->Fail("%s of %s, which was acknowledged, answers not_found", what,
                 ToText(file.address).c_str());
  }
  ASSERT(file.doubts > 0);
  if (done.err != Err::kOk) {  // it may still happen: the doubt stays
    file.unanswered.push_back(file.counter_acked + file.doubts);
    return;
  }
  --file.doubts;
  file.settled_us = now_us;
  file.counter_acked = std::max(file.counter_acked, done.counter);
  file.doubts -= static_cast<uint32_t>(std::erase_if(
      file.unanswered, [&file](uint32_t most) { return most <= file.counter_acked; }));
  // With company, another operation may have gone on from where this one ended.
  const bool alone = operation.alone && operation.disturbed == file.disturbed;
  if (alone && (done.counter % 2 == 1) == operation.undelete) {
    trace_->Fail("%s of %s ends with counter %u", what, ToText(file.address).c_str(), done.counter);
  }
}

SimModel::Expected SimModel::Expect(size_t index) const {
  const SimFile& file = *files_[index];
  return {
      index,          file.disturbed, file.counter_acked, file.surely_live(), file.surely_deleted(),
      file.settled_us};
}

SimModel::Expected SimModel::ExpectDeletedToo(size_t index) const {
  return {index, files_[index]->disturbed, files_[index]->counter_acked, !clocks_jump_, false, 0};
}

// False when there is nothing more to compare.
bool SimModel::CheckState(const Expected& expected, const Answer& answer) {
  const auto& [what, err, doubtful, healed] = answer;
  const SimFile& file = *files_[expected.index];
  const std::string id = ToText(file.address);
  const bool calm = expected.disturbed == file.disturbed;  // no delete or undelete came between
  const bool forgotten = clocks_jump_ && !(calm && expected.surely_live);
  if (err == Err::kNotFound && !forgotten) {
    trace_->Fail("%s of %s, which was acknowledged by %s, answers not_found", what, id.c_str(),
                 file.dsp.c_str());
  }
  // When only replicas answered that may not know of a delete yet, a deleted file is still there.
  if (healed && err == Err::kOk && doubtful) {
    trace_->Fail("%s of %s is answered in doubt, with nothing broken", what, id.c_str());
  }
  if (err == Err::kOk && calm && expected.surely_deleted && !doubtful) {
    trace_->Fail("%s of %s succeeds, though its delete was acknowledged", what, id.c_str());
  }
  if (err == Err::kGone && calm && expected.surely_live) {
    trace_->Fail("%s of %s answers gone, though it is live", what, id.c_str());
  }
  if (healed && err != Err::kOk && err != Err::kGone && err != Err::kNotFound) {
    trace_->Fail("%s of %s answers %s with nothing broken", what, id.c_str(), ErrName(err).data());
  }
  return err == Err::kOk;
}

void SimModel::CheckGet(const Expected& expected, const GetRequest& request, const GetDone& done,
                        bool healed) {
  const SimFile& file = *files_[expected.index];
  const Answer answer{.what = "get", .err = done.err, .doubtful = done.doubtful, .healed = healed};
  if (!CheckState(expected, answer)) return;
  if (!done.doubtful) CheckCounter(expected, done.delete_counter);
  CheckHead(file, done.head);
  if (!request.head_only) CheckBytes(file, request, done);
  ++reads_verified_;
}

void SimModel::CheckCached(const Expected& expected, const CachedAnswer& answer, uint64_t began_us,
                           bool healed) {
  // Two clocks of whole milliseconds lie between a feed's word and its use.
  constexpr uint64_t kEffectUs = 1'002'000;
  Expected known = expected;
  if (began_us < expected.settled_us + kEffectUs) {
    known.surely_live = known.surely_live && expected.counter_acked == 0;
    known.surely_deleted = false;
  }
  if (known.surely_deleted) PROBE("sim_gateway_read_of_a_deleted_file");
  if (answer.doubtful) PROBE("sim_gateway_read_in_doubt");
  const bool fine = CheckState(known, {.what = "a gateway's read",
                                       .err = answer.err,
                                       .doubtful = answer.doubtful,
                                       .healed = healed});
  if (!fine) return;
  const SimFile& file = *files_[expected.index];
  CheckHead(file, answer.head);
  if (AsText(answer.stored) != file.stored) {
    trace_->Fail("a gateway has %zu bytes of %s that are not its own", answer.stored.size(),
                 ToText(file.address).c_str());
  }
  ++reads_verified_;
}

void SimModel::CheckHead(const SimFile& file, std::string_view head) {
  const Result<NeedleHead> parsed = ParseNeedleHead(AsBytes(head));
  if (!parsed.ok()) {
    return trace_->Fail("the head of %s does not parse", ToText(file.address).c_str());
  }
  const bool same = parsed->file_id() == file.address.file_id &&
                    parsed->header.block_id == file.address.block_id &&
                    parsed->header.stored_size == file.stored.size() &&
                    parsed->header.raw_size == file.raw_size &&
                    parsed->header.encoding == static_cast<uint8_t>(file.encoding) &&
                    AsText(parsed->metadata) == file.metadata;
  if (!same) trace_->Fail("the head of %s is of another file", ToText(file.address).c_str());
}

void SimModel::CheckBytes(const SimFile& file, const GetRequest& request, const GetDone& done) {
  uint64_t begin = 0;
  uint64_t end = file.stored.size();
  if (file.encoding == Encoding::kIdentity) {
    if (request.suffix > 0) {
      begin = end - std::min(end, request.suffix);
    } else {
      begin = request.offset;
      if (request.length > 0) end = std::min(end, request.offset + request.length);
    }
  }
  ASSERT(begin <= end);
  const std::string_view wanted = std::string_view(file.stored).substr(begin, end - begin);
  if (done.offset != begin || AsText(done.payload.bytes()) != wanted) {
    trace_->Fail("bytes [%" PRIu64 ", %" PRIu64 ") of %s are wrong or not those", begin, end,
                 ToText(file.address).c_str());
  }
}

void SimModel::CheckStat(const Expected& expected, const StatDone& done, bool healed) {
  const SimFile& file = *files_[expected.index];
  if (done.err != Err::kOk) {
    (void)CheckState(expected, {.what = "stat", .err = done.err, .healed = healed});
    return;
  }
  CheckHead(file, done.head);
  if (!done.doubtful) CheckCounter(expected, done.delete_counter);
}

// Counters only rise: not below what was acknowledged when the question was asked, not above what
// was ever asked for.
void SimModel::CheckCounter(const Expected& expected, uint32_t counter) {
  const SimFile& file = *files_[expected.index];
  if (counter >= expected.counter_acked && counter <= file.counter_acked + file.doubts) return;
  trace_->Fail("%s has delete counter %u; acknowledged before %u, now %u, in doubt %u",
               ToText(file.address).c_str(), counter, expected.counter_acked, file.counter_acked,
               file.doubts);
}

}  // namespace hayloft
