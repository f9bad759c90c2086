// A shard's purges: the files that were deleted, and of which a CDN has not been told yet.
//
// A CDN keeps what it fetched for as long as max-age said, a year maybe: a delete that it isn't
// told of is one for our own servers only. It is somebody else's server, though, and may be down
// for days, so that a delete doesn't wait for it:
//
//   delete --> record {file dead, "p" dying, "u" purge} --> dsps have it: "p" is cleared
//                                                              '--> delay_ms --> CDN: "u" is
//                                                              removed
//
// "u" stands in the record that makes the file dying, so that there is no moment at which a crash
// leaves a deleted file without one; it is sent when nothing is dying of the file any more, for a
// CDN that is told before would fetch it anew. For the same reason there is a delay: a gateway's
// cache may serve a file for a second after its delete (DESIGN.md section 8).
//
// Rows are kept in the Kv, some of them in memory, a window: those whose turn is next, or that wait
// for theirs after a failure. A scan of the rows, which never ends, fills the window, and counts.
//
// Threads: one owner. Pure; borrows the rows and the metrics.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/core_io.h"
#include "common/metrics.h"
#include "common/web_call.h"
#include "directory/dir_rows.h"
#include "directory/purge_request.h"

namespace hayloft {

#define PURGE_METRICS(X)                                                                \
  X(Counter, purges_total, "deleted files that the CDN was told of, and confirmed")     \
  X(Counter, purge_failures_total, "requests to the CDN that failed, and are repeated") \
  X(Counter, purges_given_up_total, "deleted files that the CDN was not told of in days")
struct PurgeMetrics {
  HAYLOFT_METRICS("hayloft_directory_", PURGE_METRICS)
};

class DirPurges {
 public:
  static constexpr size_t kWindowMax = 4'096;
  static constexpr size_t kFlightMax = 32;
  static constexpr size_t kLookedAtPerTick = 256;   // rows
  static constexpr uint64_t kFirstPauseMs = 1'000;  // after a failure, doubled each time
  static constexpr uint64_t kMostPauseMs = 60'000;
  static constexpr uint64_t kGiveUpMs = 7 * 24 * 3'600'000;
  // Whether the dsps may not have a file's delete yet.
  using IsDying = std::function<bool(const FileAddress&)>;

  DirPurges(PurgeOptions options, DirRows* rows) : options_(std::move(options)), rows_(rows) {}

  // Whether anybody is told. If not, nothing is entered, and what was before waits.
  bool on() const { return !options_.url.empty(); }
  // The file is deleted by the record that is being made. `tags`: as from PurgeTags. A purge of it
  // that is under way is not enough.
  void Enter(const FileAddress& file, const std::vector<std::string>& tags, Now now);
  // Likewise of one that was dead before: as a purge that is still to come does.
  Err EnterAgain(const FileAddress& file, const std::vector<std::string>& tags, Now now);
  // All dsps have the delete.
  void Allow(const FileAddress& file, Now now);

  Err OnTick(const IsDying& is_dying, Now now, std::vector<WebCall>* out);
  bool Sent(uint64_t call_id) const { return flight_.contains(call_id); }
  // REQUIRES: Sent(done.call_id).
  Err OnDone(const CallDone& done, Now now, std::vector<WebCall>* out);

  // Rows, as last counted.
  uint64_t pending() const { return std::max({counted_, counted_so_far_, window_.size()}); }
  const PurgeMetrics& metrics() const { return metrics_; }

 private:
  static constexpr uint64_t kHeld = UINT64_MAX;  // until the dsps have the delete
  struct Item {
    uint64_t due_ms = kHeld;
    uint64_t pause_ms = 0;
    bool in_flight = false;
    bool again = false;  // deleted once more since it was sent
  };

  void Put(const FileAddress& file, const std::vector<std::string>& tags, Now now);
  void SetDue(const FileAddress& file, Item* item, uint64_t due_ms);
  void Forget(const FileAddress& file);
  void Fail(const FileAddress& file, Item* item, const CallDone& done, Now now);
  Err Scan(const IsDying& is_dying, Now now);
  Err SendDue(Now now, std::vector<WebCall>* out);
  Result<bool> SendOne(const FileAddress& file, Item* item, Now now, std::vector<WebCall>* out);

  const PurgeOptions options_;
  DirRows* const rows_;
  std::map<FileAddress, Item> window_;
  std::set<std::pair<uint64_t, FileAddress>> queue_;  // by when they are due; not those in flight
  std::map<uint64_t, FileAddress> flight_;            // by call
  uint64_t last_call_ = 0;
  std::string scanned_;  // the scan goes on behind this key
  size_t counted_ = 0;   // rows that the last whole scan has met
  size_t counted_so_far_ = 0;
  PurgeMetrics metrics_;
};

}  // namespace hayloft
