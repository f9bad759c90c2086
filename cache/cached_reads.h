// Reads of whole files through a gateway's cache: from memory, or by one fetch for all who wait.
//
//   Begin --kept, and its feed is trusted---------------------------------> answered at once
//     |   --kept, but its feed is silent--> "live?" --yes--> kept on, answered
//     |                                          \---gone--> dropped, 404 or 410
//     |   --not kept, ours to keep--------> a dsp ----------> kept if admitted, answered
//      \  --not kept, another's to keep---> that gateway ---> answered
//                                                \--down or slow--> a dsp, not kept
//
// Among the gateways each file has one owner, by rendezvous hashing, and only that keeps it: so
// their memory adds up. Who belongs to them may look different to two gateways for some seconds: a
// gateway that is asked as the owner answers by itself and asks no third one, so nothing goes in a
// circle; at the worst a file is read from its dsp once more.
//
// A delete reaches the cache by the feeds of the dsps (feed_table.h). When nobody can say whether a
// file that is kept still lives, it is answered all the same, as doubtful: whoever reaches no
// replica cannot know of a delete, and said so.
//
// Threads: one owner, of many that share the cache and the feeds. Who waits for a fetch of another
// thread's is named in that one's outbox. Pure. Times in ms of the monotonic clock.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "cache/cache_shell.h"
#include "cache/feed_table.h"
#include "client/client_types.h"
#include "common/core_io.h"
#include "common/metrics.h"

namespace hayloft {

using CacheAnswer = CacheShard::Answer;
using CacheWaiter = CacheShard::Waiter;
using Found = CacheShard::Found;

inline constexpr uint32_t kPeerRestMs = 1'000;  // a gateway that failed is not asked for so long
inline constexpr uint64_t kAskAgainMs = 1'000;  // nor are replicas that nobody reaches
inline constexpr size_t kInVainMax = 4'096;     // files of which that is remembered

// The gateways of a cluster, as one of them knows them.
struct CacheTier {
  std::vector<std::string> addresses;  // where gateways reach each other, "IP:PORT"
  std::vector<uint64_t> hashes;        // MemberHash of each
  size_t self = SIZE_MAX;              // of those; none: it is not among them

  // Whose a file is: an index of `addresses`; `self` too when there are no others.
  size_t OwnerOf(const FileAddress& address) const;
  bool Owns(const FileAddress& address) const { return OwnerOf(address) == self; }
};

enum class CacheAdmit : uint8_t {
  kAll,
  kUsers,     // asked for by a user, not by a CDN, which keeps it itself
  kHaystack,  // that, and in an open block (OSDI 2010, section 3.5.2); what it costs: docs/cache.md
};

struct CachedReadsOptions {
  CacheAdmit admit = CacheAdmit::kUsers;
  uint32_t loop = 0;  // which of those that share the cache this is
  uint32_t read_timeout_ms = 10'000;
  uint32_t ask_timeout_ms = 2'000;   // for "live?"
  uint32_t peer_timeout_ms = 250;    // a slower owner is done without
  Counter* peer_failures = nullptr;  // of the owner's metrics
  // What is kept with a file: the lines of an answer that sends it whole, from its needle's head;
  // empty: there is no such answer.
  std::function<std::string(const FileAddress&, const NeedleHead&)> lines{};
};

// Whose the read is.
struct ReadTerms {
  bool by_cdn = false;       // not a user's
  bool from_peer = false;    // another gateway asks, as the owner
  bool cached_only = false;  // kNotServing if it is not in memory, here or at its owner
};

enum class ReadFrom : uint8_t { kMemory, kDsp, kPeer };

// What all who waited for a file get.
struct FileRead {
  FileAddress address;
  Err err = Err::kOk;  // as of a get
  std::string head;    // of the needle
  Buffer stored;       // as it lies on the disk; of a longer file the first kCachedFileBytesMax
  bool doubtful = false;
  bool block_open = false;
  std::string dsp;  // who answered; empty: memory, or nobody
  ReadFrom from = ReadFrom::kDsp;
};
using SharedRead = std::shared_ptr<const FileRead>;
// What another gateway answers, and what its answer says: the file that was asked for, as long as
// it says, or (`err`) that it is not there. Else its error, or kCorrupt.
RpcReply ReplyToPeer(ReplyToken token, const FileRead& read);
Result<FileRead> ReadOfPeer(const FileAddress& address, CallDone&& done);

// To a reader that waited; perhaps of another thread.
struct ReadDelivery {
  CacheWaiter to;
  SharedRead read;
};

// A file that was just stored.
struct StoredNeedle {
  FileAddress address;
  std::string_view head;  // its needle's
  Bytes bytes;            // as they lie on the disk
  std::string_view dsp;   // one that has it
  bool by_cdn = false;
  uint64_t began_ms = 0;  // when its put did
};

struct ReadsOutbox {
  struct Get {
    uint64_t fetch_id = 0;
    GetRequest request;
  };
  std::vector<Get> gets;            // each comes back by OnGot
  std::vector<RpcCall> peer_calls;  // each comes back by OnPeerDone, call_id is the fetch's
  std::vector<ReadDelivery> deliveries;
};

class CachedReads {
 public:
  // Borrows both.
  CachedReads(CachedReadsOptions options, SharedCache* cache, FeedTable* feeds);
  CachedReads(const CachedReads&) = delete;  // what it has begun comes back to it
  CachedReads& operator=(const CachedReads&) = delete;

  void UseTier(std::shared_ptr<const CacheTier> tier) { tier_ = std::move(tier); }

  // From memory alone; allocates nothing. kHit, kAbsent (`err`), else there is more to do.
  CacheAnswer Look(const FileAddress& address, uint64_t now_ms) {
    return cache_->Find(address, *feeds_, now_ms);
  }
  // Whether it would be kept here.
  bool Owns(const FileAddress& address) const { return tier_ == nullptr || tier_->Owns(address); }
  // After a Look that found nothing to answer with: the reader gets one delivery, in `out` or
  // later.
  void Begin(const FileAddress& address, const ReadTerms& terms, uint64_t reader, Now now,
             ReadsOutbox* out);
  void OnGot(uint64_t fetch_id, GetDone&& done, Now now, ReadsOutbox* out);
  void OnPeerDone(CallDone&& done, Now now, ReadsOutbox* out);

  // A file was stored: kept if it is ours to keep and would be admitted. False: it is not.
  bool Stored(const StoredNeedle& stored);

  size_t fetches() const { return fetches_.size(); }

 private:
  struct Fetch {
    enum class Kind : uint8_t { kAsk, kGet, kPeer };
    Kind kind = Kind::kGet;
    FileAddress address;
    ReadTerms terms;
    uint64_t reader = 0;  // whose Begin began it
    bool keep = false;    // it is ours to keep
    uint64_t began_ms = 0;
    std::string peer{};
  };
  void Ask(Fetch&& fetch, Now now, ReadsOutbox* out);
  void AskPeer(Fetch&& fetch, Now now, ReadsOutbox* out);
  void Get(Fetch&& fetch, Now now, ReadsOutbox* out);
  void Send(Fetch&& fetch, GetRequest&& request, Now now, ReadsOutbox* out);
  void OnAsked(Fetch&& fetch, GetDone&& done, Now now, ReadsOutbox* out);
  struct Kept {
    std::string_view head;
    Bytes bytes;
    std::string_view dsp;
    bool open = false;  // its block is
  };
  bool Keep(const Fetch& fetch, const Kept& what);
  void Deliver(const Fetch& fetch, FileRead&& read, ReadsOutbox* out);
  void DeliverTo(const Fetch& fetch, FileRead&& read, const std::vector<CacheWaiter>& waiters,
                 ReadsOutbox* out);
  void DeliverNothing(const Fetch& fetch, ReadsOutbox* out);
  bool Admits(const ReadTerms& terms, bool block_open) const;
  void NoteInVain(const FileAddress& address, uint64_t now_ms);

  const CachedReadsOptions options_;
  SharedCache* const cache_;
  FeedTable* const feeds_;
  std::shared_ptr<const CacheTier> tier_;  // null: alone
  std::unordered_map<uint64_t, Fetch> fetches_;
  uint64_t next_fetch_id_ = 1;
  struct Peer {
    uint64_t heard_ms = 0;        // it has answered, whatever
    uint64_t rests_until_ms = 0;  // it is not asked
  };
  std::unordered_map<std::string, Peer> peers_;  // as many as there ever were gateways
  // Files of which no replica could be asked, until when nobody asks again.
  std::map<FileAddress, uint64_t> asked_in_vain_;
};

}  // namespace hayloft
