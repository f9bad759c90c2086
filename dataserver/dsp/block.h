// One block as its dsp holds it in memory.
//
//   OPEN --(full, failed append, order, own restart)--> closing --> CLOSED --> SEALED
//
// Needles are visible once the group commit that holds them is synced. `end` is where the next
// commit begins: always a page boundary.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/core_io.h"
#include "common/file_address.h"
#include "common/ports.h"
#include "common/proto/hayloft.pb.h"
#include "dataserver/dsp/block_format.h"
#include "dataserver/dsp/block_index.h"
#include "dataserver/dsp/block_scan.h"

namespace hayloft {

// An upload whose bytes are here and which no commit has taken yet.
struct WaitingAppend {
  ReplyToken token;
  uint64_t deadline_ms = 0;
  uint32_t raw_size = 0;
  uint8_t encoding = 0;
  std::string metadata;
  std::vector<uint32_t> piece_crcs;
  Buffer data;
};

// An upload that is part of the commit under way.
struct CommittingAppend {
  ReplyToken token;
  FileId file_id;
  uint64_t offset = 0;
  uint64_t created_ms = 0;
};

struct Secondary {
  uint32_t dsp_id = 0;
  std::string address;
  uint64_t incarnation = 0;
};

// What the primary of an open block with several replicas knows of them, and of the commit that is
// under way. A commit is published when it is synced here and by every secondary.
struct Replication {
  std::vector<Secondary> secondaries;  // as the grant of the block's first append named them
  uint64_t commit = 0;                 // counts them: an answer to an earlier one is late
  uint32_t awaited = 0;                // secondaries that have not answered
  bool synced = false;                 // here
  bool doubted = false;                // its uploads were sent to another block
};

// The seal, also a repeated one, of a block with several replicas: what others have of it, and the
// new life of the file in which all of it comes together when this replica lacks some.
struct Union {
  struct Row {
    ScannedNeedle needle;
    int other = -1;  // whose it is: -1 for this replica's own
  };
  std::vector<pb::Replica> others;
  std::vector<std::vector<ScannedNeedle>> lists;  // theirs; offsets mean nothing here
  bool list_complete = true;                      // the last of these
  uint32_t needles = 0;                           // the greatest count of any
  uint32_t divergent = 0;
  bool without_all = false;  // a member of the set is missing
  std::vector<Row> rows;     // the union, in order of sequences
  // The new life.
  std::string temporary;
  FileHandle file;
  uint64_t life = 0;
  size_t next_row = 0;
  uint64_t end = kFirstNeedleOffset;
  ScanResult written;  // what lies in it
};

struct Block {
  uint64_t id = 0;
  uint64_t opening_epoch = 0;
  uint64_t block_epoch = 0;  // appends with another one are refused; raised by closing
  uint64_t life = 0;
  pb::BlockState state = pb::BLOCK_OPEN;
  FileHandle file;                    // of a sealed block only while it is among the last read
  uint64_t file_used = 0;             // sealed and open: its key in the order of use
  uint32_t reads = 0;                 // under way; the file stays open meanwhile
  std::vector<FileHandle> old_files;  // of a former life, until the reads under way have ended
  uint64_t end = kFirstNeedleOffset;
  uint32_t lost = 0;
  bool unread_pages = false;  // what is not found here may be here all the same
  uint32_t deleted = 0;
  uint32_t set_version = 0;
  std::vector<uint32_t> set_dsp_ids;
  uint64_t command_epoch = 0;  // of the last command on it, and the record that it rests on
  uint64_t command_index = 0;
  bool outside = false;  // the nameserver's set is without this dsp: nothing of it is served
  uint64_t merged_in =
      0;  // the doubt since which its delete state was merged; 0: not since a start
  bool without_all = false;  // sealed while a member was missing: what it alone had may come yet
  std::unique_ptr<OpenIndex> open_index;  // until sealed
  SealedIndex sealed_index;               // from then on
  Sha256 digest{};                        // sealed

  // While open.
  std::deque<WaitingAppend> waiting;
  std::vector<CommittingAppend> committing;
  uint64_t commit_end = 0;  // `end` once the commit under way is synced
  uint32_t next_sequence = 0;
  std::unique_ptr<Replication> replication;  // at the primary
  std::optional<ReplyToken> primary_waits;   // at a secondary: for the commit under way
  bool closing = false;       // takes no appends; the commit under way may still succeed
  bool close_issued = false;  // its record is being written
  bool nearly_full_told = false;
  uint32_t late_dsp_id = 0;  // whose silence or refusal closed it, told to uploads
  std::vector<ReplyToken> close_waiters;
  // While sealing.
  bool sealing = false;
  std::vector<ReplyToken> seal_waiters;
  std::unique_ptr<ScanResult> scan;  // what is intact, kept a while for others who seal
  uint64_t scan_used_ms = 0;
  bool list_scanning = false;
  std::unique_ptr<Union> merging;
  uint32_t divergent = 0;  // sequences under which another replica has another intact needle

  bool shared() const { return set_dsp_ids.size() > 1; }
  uint32_t needles() const { return open_index ? open_index->size() : sealed_index.size(); }
  NeedleSpan Find(uint32_t sequence) const {
    return open_index ? open_index->Find(sequence, end) : sealed_index.Find(sequence);
  }
};

}  // namespace hayloft
