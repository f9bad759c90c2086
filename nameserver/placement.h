// Which dsps get the next data. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/ports.h"

namespace hayloft {

struct PlacementCandidate {
  uint32_t dsp_id = 0;
  std::string machine;
  uint64_t weight = 0;  // free bytes; 0 is taken as 1
};

// At most `count` of the candidates, each once: at random by weight, no machine a second time
// before every machine has had its turn (machines too by weight: the sum of their dsps').
std::vector<uint32_t> ChooseDsps(const std::vector<PlacementCandidate>& candidates, size_t count,
                                 Random* random);

}  // namespace hayloft
