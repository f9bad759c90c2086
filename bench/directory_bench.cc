// A node of a directory shard on a real disk, all of it on one processor: decisions, log, rows, and
// LevelDB's own thread. 10,000,000 entries, put in in random order, which is more than LevelDB
// keeps in memory. Sockets are left out (rpc_bench). Entries are contents or references; times are
// wall time. Of references also the processor time that one takes, which others on the machine
// change less: deciding_us of the thread that decides, cpu_us of all, LevelDB's merging included.
#include <benchmark/benchmark.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/check.h"
#include "common/ha/ha_store.h"
#include "common/log.h"
#include "directory/dir_messages.h"
#include "directory/dir_shell.h"
#include "tests/sim/sim_random.h"
#include "tests/unit/temp_folder.h"

namespace hayloft {
namespace {

constexpr uint64_t kEntries = 10'000'000;
constexpr uint64_t kSmokeEntries = 20'000;
uint64_t entries = kEntries;  // NOLINT: set once, by main

void Must(Err err) { ASSERT(err == Err::kOk); }

// The i-th content and its file: found again from its number, so that none is kept.
ContentId ContentOfNumber(uint64_t number) {
  SimRandom random(number + 1);
  ContentId content;
  random.Fill(content.sha1);
  random.Fill(content.digest);
  return content;
}

FileAddress FileOfNumber(uint64_t number) {
  return {number / 3'500 + 1'000'000, FileId{SimRandom(number + 1).Next64()}};
}

// A lone node; what its shell's threads do is done at once.
class Node {
 public:
  Node() : random_(1) {
    SetLogSink([](LogLevel, std::string_view) {}, LogLevel::kError);
    Result<std::unique_ptr<LevelDbKv>> kv =
        LevelDbKv::Open(folder_ / "leveldb", DirLevelDbOptions(DirConfig().cache_bytes));
    Must(kv.err());
    kv_ = std::move(*kv);
    pb::DirSettings settings;
    settings.set_cluster_id(std::string(16, 'c'));
    settings.set_shards(1);
    store_ = std::make_unique<DirStore>(kv_.get());
    Must(store_->Init(std::string(16, 'n'), settings));
    Fill();
    Begin();
    Settle();
  }

  uint64_t Epoch() const { return core_->state().head.epoch(); }
  uint64_t DiskBytes() const {
    uint64_t bytes = 0;
    for (const auto& file : std::filesystem::directory_iterator(folder_ / "leveldb")) {
      if (file.path().extension() == ".ldb") bytes += file.file_size();
    }
    return bytes;
  }

  // One message. Its answer, and those of others that waited, are counted. No time goes by: its
  // lease would end.
  void Ask(MessageType type, const google::protobuf::MessageLite& message) {
    RpcRequest request;
    request.type = type;
    request.message = message.SerializeAsString();
    HaOutbox out;
    server_->OnRequest(std::move(request), now_, &out);
    Take(&out);
  }
  // One synced batch of what was decided, until nothing waits.
  void Commit() {
    while (write_.has_value()) {
      const RoleWrite write = *std::exchange(write_, std::nullopt);
      Must(log_->Write(write));
      HaOutbox out;
      server_->OnWritten(now_, &out);
      Take(&out);
    }
  }
  uint64_t answered() const { return answered_; }
  const std::string& last_answer() const { return last_answer_; }

 private:
  void Fill() {
    std::vector<Kv::Change> changes;
    for (uint64_t number = 0; number < entries; ++number) {
      const FileAddress file = FileOfNumber(number);
      pb::DirFile row;
      row.set_block_id(file.block_id);
      row.set_file_id(file.file_id.value);
      Nonce nonce;
      random_.Fill(nonce);
      row.set_nonce(nonce.data(), nonce.size());
      changes.push_back(
          {.key = ContentKey(ContentOfNumber(number)), .value = row.SerializeAsString()});
      if (changes.size() < 1'000 && number + 1 < entries) continue;
      Must(kv_->Write(changes, /*sync=*/false));
      changes.clear();
    }
  }

  void Begin() {
    Result<DirState> state = store_->Load();
    Must(state.err());
    log_ = std::make_unique<HaStore>(kv_.get());
    Result<RoleDisk> disk = log_->Load(store_->applied());
    Must(disk.err());
    RoleOptions role{.node = disk->head.node(), .address = "127.0.0.1:1", .peer = {}};
    DirOptions options;
    options.dsps.nameservers = {"127.0.0.1:1"};  // this bench: nothing is deleted here
    core_ = std::make_unique<DirCore>(std::move(options), std::move(*state), kv_.get(), &random_);
    server_ = std::make_unique<HaServer>(core_.get(), std::move(role), std::move(*disk), 1);
    HaOutbox out;
    server_->OnApplied(store_->applied(), now_, &out);
    server_->Start(now_, &out);
    Take(&out);
    while (!core_->ready()) {
      Commit();
      now_.mono_ms += 50;
      HaOutbox tick;
      server_->OnTick(now_, &tick);
      Take(&tick);
    }
  }

  // What was put in is being sorted yet, at the cost of whoever is measured first. Reads keep
  // LevelDB at it: of two tables that one had to look into, the upper one is merged down soon.
  void Settle() {
    constexpr int kQuietRounds = 4;
    SimRandom random(3);
    for (int quiet = 0; quiet < kQuietRounds; ++quiet) {
      for (int i = 0; i < 10'000; ++i) {
        pb::DirLookupRequest message;
        FillContent(ContentOfNumber(random.Below(entries)), message.add_contents());
        Ask(MessageType::kDirLookup, message);
      }
      const std::clock_t before = std::clock();
      std::this_thread::sleep_for(std::chrono::milliseconds(250));
      if (std::clock() - before > CLOCKS_PER_SEC / 100) quiet = 0;
    }
  }

  void Take(HaOutbox* out) {
    ASSERT(out->exit.empty());
    for (RpcReply& reply : out->replies) {
      Must(reply.err);
      last_answer_ = std::move(reply.message);
    }
    answered_ += out->replies.size();
    for (const RpcCall& call : out->calls) Declared(call);
    if (out->write.has_value()) write_ = std::move(out->write);
    if (!out->apply.empty()) {
      Must(store_->Apply(out->apply, /*sync=*/false));
      Must(log_->Truncate(store_->applied()));
      HaOutbox next;
      server_->OnApplied(out->apply.back().index(), now_, &next);
      Take(&next);
    }
    if (out->coordinator.has_value()) Coordinate(*out->coordinator);
  }

  void Declared(const RpcCall& call) {
    ASSERT(call.type == MessageType::kDeclareDirectory);
    pb::DeclareDirectoryReply reply;
    reply.set_shards(1);
    CallDone done;
    done.call_id = call.call_id;
    done.message = reply.SerializeAsString();
    HaOutbox out;
    server_->OnCallDone(std::move(done), now_, &out);
    Take(&out);
  }

  void Coordinate(const CoordinatorCall& call) {
    CoordinatorDone done;
    if (call.kind == CoordinatorCall::Kind::kCommit) {
      record_ = call.record;
      done.version = ++version_;
    }
    done.view = {.identity = "i", .record = record_, .version = version_, .held = version_ > 0};
    HaOutbox out;
    server_->OnCoordinatorDone(std::move(done), now_, &out);
    Take(&out);
  }

  TempFolder folder_;
  SimRandom random_;
  Now now_{.mono_ms = 1'000, .wall_ms = 1'000};
  std::unique_ptr<LevelDbKv> kv_;
  std::unique_ptr<DirStore> store_;
  std::unique_ptr<HaStore> log_;
  std::unique_ptr<DirCore> core_;
  std::unique_ptr<HaServer> server_;
  std::optional<RoleWrite> write_;
  pb::LeaseRecord record_;
  uint64_t version_ = 0;
  uint64_t answered_ = 0;
  std::string last_answer_;
};

Node& TheNode() {
  static Node node;
  return node;
}

void Report(benchmark::State& state, uint64_t each) {
  const auto done = static_cast<double>(state.iterations()) * static_cast<double>(each);
  state.counters["per_s"] = benchmark::Counter(done, benchmark::Counter::kIsRate);
}

double CpuUs(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

constexpr uint64_t kAsked = 64'000;  // many more than the core keeps of what it read

// One message of so many contents. Args: contents in a message; of ten, how many are there.
void BM_LookUp(benchmark::State& state) {
  Node& node = TheNode();
  SimRandom random(7);
  const auto batch = static_cast<uint64_t>(state.range(0));
  const auto found_of_ten = static_cast<uint64_t>(state.range(1));
  std::vector<pb::DirLookupRequest> messages(kAsked / batch);
  std::vector<uint64_t> wanted(messages.size());
  for (size_t i = 0; i < messages.size(); ++i) {
    for (uint64_t k = 0; k < batch; ++k) {
      const bool is_there = random.Below(10) < found_of_ten;
      const uint64_t number = random.Below(entries) + (is_there ? 0 : entries);
      FillContent(ContentOfNumber(number), messages[i].add_contents());
      wanted[i] += is_there ? 1 : 0;
    }
  }
  size_t next = 0;
  for (auto _ : state) {
    node.Ask(MessageType::kDirLookup, messages[next++ % messages.size()]);
  }
  pb::DirLookupReply reply;
  ASSERT(reply.ParseFromString(node.last_answer()));
  const auto found = std::count_if(reply.files().begin(), reply.files().end(),
                                   [](const pb::FileName& file) { return file.block_id() != 0; });
  ASSERT(static_cast<uint64_t>(found) == wanted[(next - 1) % messages.size()]);
  Report(state, batch);
  state.counters["bytes_an_entry"] =
      static_cast<double>(node.DiskBytes()) / static_cast<double>(entries);
}
BENCHMARK(BM_LookUp)->Args({64, 10})->Args({64, 5})->Args({64, 0})->Args({1, 5})->UseRealTime();

// References to files that are there, synced. Args: of a message; messages that one sync answers.
void BM_AddReference(benchmark::State& state) {
  Node& node = TheNode();
  SimRandom random(static_cast<uint64_t>(state.range(0) * 1'000 + state.range(1)));
  const auto batch = static_cast<uint64_t>(state.range(0));
  const auto together = static_cast<uint64_t>(state.range(1));
  uint64_t asked = 0;
  const uint64_t before = node.answered();
  std::vector<pb::DirUploadRequest> messages(together);
  double deciding_us = 0;
  double making_us = 0;  // of this thread, for the messages
  const double begun_us = CpuUs(CLOCK_PROCESS_CPUTIME_ID);
  for (auto _ : state) {
    state.PauseTiming();
    making_us -= CpuUs(CLOCK_THREAD_CPUTIME_ID);
    for (pb::DirUploadRequest& message : messages) {
      message.Clear();
      for (uint64_t k = 0; k < batch; ++k) {
        const uint64_t number = random.Below(entries);
        pb::DirUpload* upload = message.add_uploads();
        FillContent(ContentOfNumber(number), upload->mutable_content());
        FillFile(FileOfNumber(number), upload->mutable_file());
        Nonce nonce;
        random.Fill(nonce);
        upload->set_nonce(nonce.data(), nonce.size());
        upload->set_epoch(node.Epoch());
      }
    }
    const double resumed_us = CpuUs(CLOCK_THREAD_CPUTIME_ID);
    making_us += resumed_us;
    state.ResumeTiming();
    for (const pb::DirUploadRequest& message : messages) {
      node.Ask(MessageType::kDirUpload, message);
    }
    asked += together;
    node.Commit();
    deciding_us += CpuUs(CLOCK_THREAD_CPUTIME_ID) - resumed_us;
  }
  const double references = static_cast<double>(asked * batch);
  state.counters["deciding_us"] = deciding_us / references;
  state.counters["cpu_us"] = (CpuUs(CLOCK_PROCESS_CPUTIME_ID) - begun_us - making_us) / references;
  ASSERT(node.answered() - before == asked);
  Report(state, batch * together);
}
BENCHMARK(BM_AddReference)->Args({64, 1})->Args({64, 64})->Args({256, 16})->UseRealTime();

}  // namespace
}  // namespace hayloft

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--benchmark_min_time=0") {
      hayloft::entries = hayloft::kSmokeEntries;
    }
  }
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  if (sched_setaffinity(0, sizeof(one), &one) != 0) std::perror("sched_setaffinity");
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
