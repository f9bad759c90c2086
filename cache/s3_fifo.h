// Which entry of a full cache goes next: S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are
// all you need for cache eviction", SOSP 2023).
//
// LRU keeps what was asked for last, and most of what is asked for once is never asked for again:
// a crawler that reads everything washes the hot images out, and each hit moves an entry in a list
// that all readers share. Here a newcomer waits in a small queue, a tenth of the bytes, and reaches
// the main queue only if it is asked for twice more while it waits there, or again soon after it
// had to leave. A hit increments two bits and moves nothing.
//
//   newcomer --> small (10 % of bytes) --hit twice--> main (90 %) --no hit since--> out
//                  |                                   ^    ^----hit: again, one less---'
//                  '--> out, remembered in the ghost --'  (if it comes again)
//
// Where this differs from the paper's Algorithm 1, because sizes differ and the owner says when
// memory suffices: each call evicts one entry (the paper goes on until the small queue has given
// one, although the main queue gave one already), and an empty queue passes the turn to the other.
//
// The ghost remembers as many victims of the small queue as the longer queue holds entries (that is
// the main one, once it is full), and at most `ghost_entries`: a table of fingerprints of 4 bytes
// and times, counted in victims, as the paper proposes, in buckets of one cache line. A full bucket
// forgets its oldest; a fingerprint that two entries share (1 of 2^32 a slot compared) sends a
// newcomer to the main queue early. Neither can make an answer wrong.
//
// Intrusive: owns no node. No allocation after construction. Pure; for one thread at a time.
#pragma once

#include <cstdint>
#include <vector>

namespace hayloft {

// Part of the cache's entry. `hash` and `charge_bytes` are the owner's, constant while it is in a
// queue; the rest is S3Fifo's.
struct S3Node {
  S3Node* newer = nullptr;
  S3Node* older = nullptr;
  uint64_t hash = 0;          // of the key; two keys of one hash are one to the ghost
  uint32_t charge_bytes = 0;  // what its eviction gives back
  uint8_t frequency = 0;      // hits since it came, or was last spared; at most kFrequencyMax
  bool in_main = false;
};

class S3Fifo {
 public:
  static constexpr uint8_t kFrequencyMax = 3;  // two bits
  static constexpr uint8_t kPromoteFrequency = 2;

  // `bytes_max`: of all charges when the cache is full; the small queue's share is a tenth of it.
  S3Fifo(uint64_t bytes_max, uint64_t ghost_entries);
  S3Fifo(const S3Fifo&) = delete;  // two queues through the same nodes
  S3Fifo& operator=(const S3Fifo&) = delete;

  // What the ghost of so many entries occupies, in bytes: 10.7 each.
  static uint64_t GhostBytes(uint64_t ghost_entries);

  // A newcomer, at the head of the queue that it has earned. Evicts nothing. REQUIRES: in no queue.
  void Add(S3Node* node);
  // A hit.
  static void Touch(S3Node* node) {
    if (node->frequency < kFrequencyMax) ++node->frequency;
  }
  // Takes it out without a trace: it was deleted, or is replaced. REQUIRES: in a queue of this.
  void Remove(S3Node* node);
  // Takes out the next victim; null: there is none. Amortized O(1): each look at an entry that
  // stays takes away a hit or promotes it.
  S3Node* Evict();

  uint64_t bytes() const { return small_.bytes + main_.bytes; }
  uint64_t entries() const { return small_.entries + main_.entries; }
  uint64_t small_bytes() const { return small_.bytes; }
  uint64_t main_bytes() const { return main_.bytes; }

  // Calls `visit(const S3Node&)` until it returns false: the main queue from the most hits to none,
  // the newest of equals first, then the small queue likewise. Walks each queue once for each count
  // of hits.
  template <typename Visit>
  void ForEachHottest(Visit visit) const {
    for (const Queue* queue : {&main_, &small_}) {
      for (int frequency = kFrequencyMax; frequency >= 0; --frequency) {
        for (const S3Node* node = queue->newest; node != nullptr; node = node->older) {
          if (node->frequency == frequency && !visit(*node)) return;
        }
      }
    }
  }

 private:
  struct Queue {
    S3Node* newest = nullptr;
    S3Node* oldest = nullptr;
    uint64_t bytes = 0;
    uint64_t entries = 0;

    void Push(S3Node* node);
    void Unlink(S3Node* node);
  };
  struct GhostSlot {
    uint32_t fingerprint;
    uint32_t time;  // victims remembered until then, modulo 2^32
  };
  static constexpr uint64_t kBucketSlots = 8;
  struct alignas(64) GhostBucket {
    GhostSlot slots[kBucketSlots];
  };
  static_assert(sizeof(GhostBucket) == 64);

  static uint64_t BucketsFor(uint64_t ghost_entries);
  bool TakeGhost(uint64_t hash);  // whether it was remembered; forgets it
  void RememberGhost(uint64_t hash);
  uint32_t GhostWindow() const;
  S3Node* EvictSmall();
  S3Node* EvictMain();

  const uint64_t small_max_bytes_;
  const uint64_t main_max_bytes_;
  const uint64_t ghost_entries_;
  Queue small_;
  Queue main_;
  std::vector<GhostBucket> ghost_;
  uint32_t ghost_time_;
};

}  // namespace hayloft
