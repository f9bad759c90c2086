// A nameserver and a dsp that keep files in memory, in a thread of their own, behind real RPC
// servers: what a gateway needs to be tested through its sockets. It really works; the knobs make
// it fail as a cluster would.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/buffer.h"
#include "common/file_address.h"
#include "common/io/loop.h"
#include "common/io/rpc_server.h"
#include "common/needle.h"

namespace hayloft {

class FakeCluster {
 public:
  static constexpr uint64_t kBlockId = 1;

  explicit FakeCluster(const std::string& cluster_key);
  ~FakeCluster();

  const std::string& nameserver() const { return nameserver_.address(); }
  // Calls `fn` on the cluster's thread and waits for it.
  void Do(const std::function<void()>& fn);
  size_t files();
  size_t live_files();  // of those the ones that are not deleted
  // A needle as no gateway would write it. `metadata` as EncodeMetadata makes it.
  struct Needle {
    std::string stored;
    uint32_t raw_size = 0;
    Encoding encoding = Encoding::kIdentity;
    std::string metadata;
  };
  FileAddress Store(const Needle& needle);
  void Forget(const FileAddress& address);  // as if its block file were gone
  void ReleaseAppends();
  size_t reads_held();
  void ReleaseReads();
  size_t answers_held();
  void ReleaseAnswers();
  // Creation times of files stored from now on.
  void SetCreated(uint64_t created_ms) { created_ms_ = created_ms; }

  // Knobs.
  std::atomic<Err> grant_err{Err::kOk};
  std::atomic<Err> append_err{Err::kOk};
  std::atomic<Err> read_err{Err::kOk};
  std::atomic<int> reads_before_err{0};   // so many reads still succeed
  std::atomic<bool> hold_appends{false};  // keep requests without an answer
  std::atomic<bool> hold_reads{false};
  std::atomic<bool> hold_answers{false};  // the same, once the answer is made
  std::atomic<bool> doubtful{false};      // reads are answered so
  std::atomic<bool> block_open{true};
  // Reads of bytes lie, behind the first so many of them: `read_bytes_max` are sent; what is sent
  // is what the file `bytes_of` holds, which is stored as zstd.
  std::atomic<int> reads_before_lie{0};
  std::atomic<uint64_t> read_bytes_max{UINT64_MAX};
  std::atomic<uint64_t> bytes_of{0};
  std::atomic<bool> trash_time_over{false};  // an undelete comes too late
  std::atomic<bool> writable{true};
  std::atomic<uint64_t> appends{0};  // asked for
  std::atomic<uint64_t> reads{0};    // of bytes or of heads
  std::atomic<uint64_t> live_asks{0};
  std::atomic<uint64_t> feed_asks{0};
  std::atomic<bool> feed_silent{false};  // it is not answered
  // Another client deletes or undeletes; the feed tells of it.
  void Change(const FileAddress& address, bool deleted);

 private:
  struct File {
    std::string head;
    Buffer stored;
    uint32_t delete_counter = 0;
  };
  void OnNameserver(RpcRequest&& request);
  void OnDsp(RpcRequest&& request);
  RpcReply Append(const RpcRequest& request);
  FileId Keep(NeedleHeader header, Buffer stored, Bytes metadata);
  RpcReply Read(const RpcRequest& request);
  RpcReply Stat(const RpcRequest& request);
  RpcReply Feed(const RpcRequest& request);
  void Set(uint64_t file_id, File* file, uint32_t counter);
  RpcReply SetDelete(const RpcRequest& request);
  static File UnderId(const File& file, uint64_t file_id);
  File* Find(uint64_t block_id, uint64_t file_id);

  Loop loop_;
  RpcServer nameserver_;
  RpcServer dsp_;
  std::map<uint64_t, File> files_;  // by file id
  uint32_t next_sequence_ = 0;
  std::vector<uint32_t> changes_;  // sequences that the feed tells
  uint32_t directory_shards_ = 0;
  std::vector<RpcRequest> held_;  // appends
  std::vector<RpcRequest> held_reads_;
  std::vector<RpcReply> held_answers_;
  std::atomic<uint64_t> created_ms_{1'700'000'000'000};
  std::thread thread_;
};

}  // namespace hayloft
