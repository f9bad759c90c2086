// Which dsps get the next data. Pure.
//
// Chance by free space, so that disks of different sizes get full at about the same time; failure
// domains before chance: two copies of a block never share a machine, nor a zone as long as there
// is another one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/limits.h"
#include "common/ports.h"

namespace hayloft {

// Best first. A preference: the last one is chosen too if there is no other.
enum class PlacementRank : uint8_t {
  kFine,
  kShareExceeded,  // it got twice its share of the last minute's new blocks
  kDoubtful,       // a fault closed its blocks lately, or others can't reach it
};

struct PlacementCandidate {
  uint32_t dsp_id = 0;
  std::string machine{};
  uint64_t weight = 0;  // free bytes; 0 is taken as 1
  std::string zone{};
  PlacementRank rank = PlacementRank::kFine;
  uint64_t primaries = 0;  // open blocks of which it is the primary
};

// Without those of the worst ranks, of which so many are left out that the rest still lies on
// `machines_min` machines (or is all that there is), in the same order.
std::vector<PlacementCandidate> KeepPreferred(std::vector<PlacementCandidate> candidates,
                                              size_t machines_min);

// A replica set that could take an upload.
struct SetCandidate {
  std::vector<uint32_t> dsp_ids{};
  std::vector<std::string> machines{};  // theirs
  uint64_t weight = 0;
  PlacementRank rank = PlacementRank::kFine;
};
// Indexes of at most `count` candidates, all of the best rank there is, as disjoint as they allow:
// at random by weight from those that share the fewest dsps, then machines, with the ones before.
std::vector<size_t> ChooseSets(const std::vector<SetCandidate>& candidates, size_t count,
                               Random* random);

struct CopiesWanted {
  size_t copies = 1;      // at most kReplicasMax
  size_t min_copies = 1;  // fewer are of no use
};
// The replica set of a new block, its primary first: `copies` dsps on as many machines, over as
// many zones as there are; fewer if the machines don't suffice; none if they don't suffice for
// min_copies. Doubt is obeyed as far as min_copies allow, shares as far as copies do. The primary
// is `primary` if one is named (0: none), whatever its rank; else the member that is the primary of
// the fewest open blocks. REQUIRES: 1 <= min_copies <= copies <= kReplicasMax; `primary` is a
// candidate.
std::vector<uint32_t> ChooseReplicas(std::vector<PlacementCandidate> candidates,
                                     const CopiesWanted& wanted, Random* random,
                                     uint32_t primary = 0);

}  // namespace hayloft
