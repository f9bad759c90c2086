#include "client/cli/file_walk.h"

#include <utility>

#include "client/cli/pipeline.h"
#include "common/codec.h"
#include "common/io/system_clock.h"
#include "common/needle.h"

namespace hayloft {

namespace {
constexpr uint64_t kBusyPauseMs = 20;  // a dsp reads a whole block before it lists it
constexpr uint32_t kListMs = 5'000;
}  // namespace

Err FileWalk::Run(const std::function<void(const std::vector<FoundFile>&)>& visit) {
  for (uint64_t next = 1; next != 0;) {
    pb::LocateRequest request;
    request.set_list_from(next);
    const CallDone done =
        session_->AskNameserver(MessageType::kLocate, request.SerializeAsString(), timeout_ms_);
    if (done.err != Err::kOk) return done.err;
    pb::LocateReply reply;
    if (!reply.ParseFromString(done.message)) return Err::kCorrupt;
    if (!reply.complete()) return Err::kNotServing;  // it does not know yet of all that there are
    for (const pb::Location& block : reply.locations()) {
      ++counts_.blocks;
      std::vector<FileAddress> files;
      if (block.state() != pb::BLOCK_SEALED) {
        ++counts_.blocks_unsealed;
      } else if (!ListNeedles(block, &files)) {
        ++counts_.blocks_unreadable;
      } else {
        visit(Describe(files));
      }
    }
    if (reply.list_next() != 0 && reply.list_next() <= next) return Err::kCorrupt;
    next = reply.list_next();
  }
  return Err::kOk;
}

bool FileWalk::ListNeedles(const pb::Location& block, std::vector<FileAddress>* files) {
  for (const pb::Replica& replica : block.replicas()) {
    files->clear();
    if (ListFrom(replica.address(), block, files) == Err::kOk) return true;
  }
  return false;
}

Err FileWalk::ListFrom(const std::string& dsp, const pb::Location& block,
                       std::vector<FileAddress>* files) {
  const uint64_t end_ms = SystemMonotonicMs() + timeout_ms_;
  pb::NeedleListRequest request;
  request.set_block_id(block.block_id());
  request.set_opening_epoch(block.opening_epoch());
  for (bool last = false; !last;) {
    const CallDone done =
        session_->Ask(dsp, MessageType::kNeedleList, request.SerializeAsString(), kListMs);
    if (done.err == Err::kBusy && SystemMonotonicMs() < end_ms) {
      AwaitTime(session_->loop(), kBusyPauseMs);
      continue;
    }
    if (done.err != Err::kOk) return done.err;
    pb::NeedleListReply reply;
    if (!reply.ParseFromString(done.message)) return Err::kCorrupt;
    if (reply.unreadable() > 0) return Err::kIo;  // another replica may have all
    ByteReader rows(done.payload.bytes());
    while (rows.ok() && rows.size() > 0) {
      const auto row = rows.TakeStruct<NeedleDigestRow>();
      if (!rows.ok() || row.sequence < request.first_sequence()) return Err::kCorrupt;
      files->push_back({block.block_id(), FileId{row.file_id}});
      request.set_first_sequence(row.sequence + 1);
    }
    last = reply.last();
  }
  return Err::kOk;
}

std::vector<FoundFile> FileWalk::Describe(const std::vector<FileAddress>& files) {
  std::vector<FoundFile> found;
  size_t next = 0;
  Pipeline pipeline(session_->loop(), in_flight_);
  pipeline.Run([&](Pipeline::Done done) -> std::optional<uint64_t> {
    if (next == files.size()) return std::nullopt;
    const FileAddress file = files[next++];
    StatRequest request{.address = file, .timeout_ms = timeout_ms_};
    session_->client()->Stat(std::move(request), [this, &found, file, done](StatDone&& stat) {
      Add(file, stat, &found);
      done();
    });
    return 0;
  });
  return found;
}

void FileWalk::Add(const FileAddress& file, const StatDone& stat, std::vector<FoundFile>* found) {
  ++counts_.files;
  if (stat.purged || stat.err == Err::kGone) {
    ++counts_.files_purged;
    return;
  }
  const Result<NeedleHead> head =
      stat.err == Err::kOk ? ParseNeedleHead(AsBytes(stat.head)) : Result<NeedleHead>(stat.err);
  const Result<ContentId> content = head.ok() ? ContentOf(*head) : Result<ContentId>(head.err());
  if (!content.ok()) {
    ++counts_.files_unreadable;
    return;
  }
  found->push_back({file, *content, head->header.created_ms});
}

}  // namespace hayloft
