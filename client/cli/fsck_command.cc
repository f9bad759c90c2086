// `hayloft fsck --directory`: are all files known to the directory? `hayloft unpin`: an
// administrator's word that all references to files are known.

#include <cinttypes>

#include "client/cli/file_ids.h"
#include "client/cli/file_walk.h"
#include "client/cli/session.h"
#include "common/io/json.h"
#include "common/io/system_clock.h"

namespace hayloft {

namespace {

constexpr uint32_t kInFlight = 64;

// Groups files by shard, into messages of at most so many.
template <typename Send>
void EachBatch(const std::vector<FoundFile>& files, uint32_t shards, size_t most, Send send) {
  std::vector<std::vector<const FoundFile*>> batches(shards);
  for (const FoundFile& file : files) {
    const uint32_t shard = ShardOf(file.content.sha1, shards);
    batches[shard].push_back(&file);
    if (batches[shard].size() == most) {
      send(shard, batches[shard]);
      batches[shard].clear();
    }
  }
  for (uint32_t shard = 0; shard < shards; ++shard) {
    if (!batches[shard].empty()) send(shard, batches[shard]);
  }
}

template <typename Message>
void FillFiles(const std::vector<const FoundFile*>& files, Message* message) {
  for (const FoundFile* file : files) {
    pb::FileName* name = message->add_files();
    name->set_block_id(file->address.block_id);
    name->set_file_id(file->address.file_id.value);
    FillContent(file->content, message->add_contents());
  }
}

// --- fsck ---

#define HAYLOFT_FSCK_OPTIONS(X)                                              \
  X(bool, directory, false, 0, 1, "which files the directory does not know") \
  X(bool, adopt, false, 0, 1, "tell it of them; else nothing is changed")    \
  X(uint32_t, min_age_s, 3'600, 0, 1'000'000'000,                            \
    "younger files are left alone: their upload may still be on its way to the directory")

struct FsckOptions {
  HAYLOFT_OPTIONS(HAYLOFT_FSCK_OPTIONS)
};

struct FsckCounts {
  uint64_t young = 0;
  uint64_t known = 0;    // had a record: live, dead or pending
  uint64_t adopted = 0;  // has one since
  uint64_t unknown = 0;  // has none
  uint64_t deleted = 0;  // has none and needs none
  uint64_t dead = 0;
  uint64_t pending = 0;
  uint64_t pinned = 0;
  uint64_t unchecked = 0;
};

void CountOne(const pb::DirFileStatus& file, FsckCounts* counts) {
  const auto err = ErrFromWire(static_cast<uint16_t>(file.err()));
  counts->pinned += file.pinned() ? 1 : 0;
  if (file.adopted()) {
    ++counts->adopted;
  } else if (file.state() != pb::DIR_FILE_NONE) {
    ++counts->known;
    counts->dead += file.state() == pb::DIR_FILE_DEAD ? 1 : 0;
    counts->pending += file.state() == pb::DIR_FILE_PENDING ? 1 : 0;
  } else if (err == Err::kGone) {
    ++counts->deleted;
  } else if (err == Err::kOk) {
    ++counts->unknown;
  } else {
    ++counts->unchecked;
  }
}

void Check(Session* session, const std::vector<FoundFile>& files, const FsckOptions& options,
           uint32_t timeout_ms, FsckCounts* counts) {
  const uint64_t min_age_ms = options.min_age_s * uint64_t{1'000};
  const uint64_t now_ms = SystemWallMs();
  std::vector<FoundFile> old;
  for (const FoundFile& file : files) {
    if (file.created_ms + min_age_ms <= now_ms) old.push_back(file);
  }
  counts->young += files.size() - old.size();
  EachBatch(old, session->shards(), kDirAdoptMax, [&](uint32_t shard, const auto& batch) {
    pb::DirAdoptRequest request;
    FillFiles(batch, &request);
    request.set_look_only(!options.adopt);
    const CallDone done =
        session->AskShard(shard, MessageType::kDirAdopt, request.SerializeAsString(), timeout_ms);
    pb::DirAdoptReply reply;
    const bool answered = done.err == Err::kOk && reply.ParseFromString(done.message) &&
                          static_cast<size_t>(reply.files_size()) == batch.size();
    if (!answered) counts->unchecked += batch.size();
    for (const pb::DirFileStatus& file : reply.files()) CountOne(file, counts);
  });
}

Json ToJson(const FileWalkCounts& walk, const FsckCounts& counts) {
  return Json()
      .Set("blocks", walk.blocks)
      .Set("blocks_unsealed", walk.blocks_unsealed)
      .Set("blocks_unreadable", walk.blocks_unreadable)
      .Set("files", walk.files)
      .Set("known", counts.known)
      .Set("unknown", counts.unknown)
      .Set("adopted", counts.adopted)
      .Set("young", counts.young)
      .Set("deleted", counts.deleted)
      .Set("purged", walk.files_purged)
      .Set("dead", counts.dead)
      .Set("pending", counts.pending)
      .Set("pinned", counts.pinned)
      .Set("unchecked", counts.unchecked + walk.files_unreadable);
}

int Fsck(const FsckOptions& options, const CommandOptions& common) {
  const std::unique_ptr<Session> session = Session::Open(common);
  if (session == nullptr) return kExitFailed;
  if (session->shards() == 0) return Complain("where is the directory? --shard, or --dir");
  FileWalk walk(session.get(), common.timeout_ms, kInFlight);
  FsckCounts counts;
  const Err err = walk.Run([&](const std::vector<FoundFile>& files) {
    Check(session.get(), files, options, common.timeout_ms, &counts);
  });
  if (err != Err::kOk) return Complain("the nameservers: " + Describe(err));
  const Json json = ToJson(walk.counts(), counts);
  if (common.json) {
    std::printf("%s\n", json.Dump().c_str());
  } else {
    for (const auto& [name, value] : json.object()) {
      std::printf("%-18s %" PRId64 "\n", name.c_str(), value.number());
    }
  }
  const bool all = counts.unchecked + walk.counts().files_unreadable == 0 &&
                   walk.counts().blocks_unreadable == 0;
  return all ? kExitFine : Complain("not everything could be checked");
}

// --- unpin ---

#define HAYLOFT_UNPIN_OPTIONS(X)                                                      \
  X(bool, all, false, 0, 1, "every pinned file of the cluster, in place of some ids") \
  X(bool, yes, false, 0, 1, "do not ask")

struct UnpinOptions {
  HAYLOFT_OPTIONS(HAYLOFT_UNPIN_OPTIONS)
};

struct UnpinCounts {
  uint64_t unpinned = 0;
  uint64_t failed = 0;
};

// False: nobody answered.
bool AskToUnpin(Session* session, uint32_t shard, const pb::DirPinRequest& request,
                uint32_t timeout_ms, UnpinCounts* counts, pb::DirPinReply* reply) {
  const CallDone done =
      session->AskShard(shard, MessageType::kDirPin, request.SerializeAsString(), timeout_ms);
  if (done.err != Err::kOk || !reply->ParseFromString(done.message)) {
    Complain("shard " + std::to_string(shard) + ": " + Describe(done.err));
    return false;
  }
  counts->unpinned += reply->changed();
  counts->failed += reply->failed();
  return true;
}

void UnpinThese(Session* session, const std::vector<FoundFile>& files, uint32_t timeout_ms,
                UnpinCounts* counts) {
  EachBatch(files, session->shards(), kDirBatchMax, [&](uint32_t shard, const auto& batch) {
    pb::DirPinRequest request;
    FillFiles(batch, &request);
    pb::DirPinReply reply;
    if (!AskToUnpin(session, shard, request, timeout_ms, counts, &reply)) {
      counts->failed += batch.size();
    }
  });
}

// Each shard goes through its own records. False: one did not answer to the end.
bool UnpinAll(Session* session, uint32_t timeout_ms, UnpinCounts* counts) {
  bool all = true;
  for (uint32_t shard = 0; shard < session->shards(); ++shard) {
    pb::DirPinRequest request;
    do {
      pb::DirPinReply reply;
      if (!AskToUnpin(session, shard, request, timeout_ms, counts, &reply)) {
        all = false;
        break;
      }
      request.set_from(reply.next());
    } while (!request.from().empty());
  }
  return all;
}

int Unpin(const std::vector<FileToken>& ids, const UnpinOptions& options,
          const CommandOptions& common) {
  const std::unique_ptr<Session> session = Session::Open(common);
  if (session == nullptr) return kExitFailed;
  if (session->shards() == 0) return Complain("where is the directory? --shard, or --dir");
  UnpinCounts counts;
  bool all = true;
  if (options.all) {
    all = UnpinAll(session.get(), common.timeout_ms, &counts);
  } else {
    FileWalk walk(session.get(), common.timeout_ms, kInFlight);
    std::vector<FileAddress> files;
    for (const FileToken& id : ids) files.push_back(id.address);
    UnpinThese(session.get(), walk.Describe(files), common.timeout_ms, &counts);
    counts.failed += walk.counts().files_unreadable + walk.counts().files_purged;
  }
  if (common.json) {
    const Json json = Json().Set("unpinned", counts.unpinned).Set("failed", counts.failed);
    std::printf("%s\n", json.Dump().c_str());
  } else {
    std::printf("%" PRIu64 " unpinned\n", counts.unpinned);
  }
  all = all && counts.failed == 0;
  return all ? kExitFine : Complain("not all could be reached");
}

}  // namespace

int RunFsck(int argc, const char* const* argv) {
  CommandOptions common;
  FsckOptions options;
  const Program program{
      .name = "hayloft fsck",
      .role = "",
      .about =
          "Compares what the dsps store with what the directory knows of it. Reads the "
          "sealed blocks whole.",
      .rows = Joined(common.Rows(), options.Rows()),
      .fault = [&]() -> std::string {
        return options.directory ? common.Fault() : "say what is to be checked: --directory";
      }};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  return Fsck(options, common);
}

int RunUnpin(int argc, const char* const* argv) {
  CommandOptions common;
  UnpinOptions options;
  std::vector<std::string> arguments;
  const Program program{
      .name = "hayloft unpin",
      .role = "",
      .about =
          "The directory lost records once, and so keeps files when the last reference that "
          "it knows goes. This says that it knows all of them.",
      .rows = Joined(common.Rows(), options.Rows()),
      .fault = [&]() -> std::string {
        return arguments.empty() == options.all ? common.Fault() : "name either ids or --all";
      },
      .arguments = &arguments,
      .arguments_help = "ID..."};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  const auto ids = CollectFiles(arguments, "", "");
  if (!ids.has_value()) return kExitUsage;
  const std::string what = options.all ? "Every pinned file" : "Each of these files";
  if (!Confirmed(what + " goes when the last reference that is known goes.", options.yes)) {
    return kExitFailed;
  }
  return Unpin(*ids, options, common);
}

}  // namespace hayloft
