#include "nameserver/placement.h"

#include <algorithm>
#include <map>

#include "common/check.h"

namespace hayloft {

namespace {

// An index with a chance in proportion to its weight. REQUIRES: not empty, no weight 0.
size_t PickByWeight(const std::vector<uint64_t>& weights, Random* random) {
  ASSERT(!weights.empty());
  uint64_t sum = 0;
  for (const uint64_t weight : weights) sum += weight;
  uint64_t at = random->Below(sum);
  for (size_t i = 0; i < weights.size(); ++i) {
    if (at < weights[i]) return i;
    at -= weights[i];
  }
  ASSERT(!"the draw lies below the sum");
  return 0;
}

struct Machine {
  std::vector<uint32_t> dsp_ids;
  std::vector<uint64_t> weights;
  uint64_t Weight() const {
    uint64_t sum = 0;
    for (const uint64_t weight : weights) sum += weight;
    return sum;
  }
  uint32_t TakeDsp(Random* random) {
    const auto at = static_cast<ptrdiff_t>(PickByWeight(weights, random));
    const uint32_t dsp_id = dsp_ids[static_cast<size_t>(at)];
    dsp_ids.erase(dsp_ids.begin() + at);
    weights.erase(weights.begin() + at);
    return dsp_id;
  }
};

}  // namespace

std::vector<uint32_t> ChooseDsps(const std::vector<PlacementCandidate>& candidates, size_t count,
                                 Random* random) {
  // Megabytes, so that the sum over any cluster fits 64 bits.
  constexpr uint64_t kUnit = 1 << 20;
  std::map<std::string, Machine> machines;
  for (const PlacementCandidate& candidate : candidates) {
    Machine& machine = machines[candidate.machine];
    machine.dsp_ids.push_back(candidate.dsp_id);
    machine.weights.push_back(std::max<uint64_t>(candidate.weight / kUnit, 1));
  }
  std::vector<uint32_t> chosen;
  std::vector<Machine*> lap;  // machines that have not had their turn yet
  while (chosen.size() < std::min(count, candidates.size())) {
    if (lap.empty()) {
      for (auto& [name, machine] : machines) {
        if (!machine.dsp_ids.empty()) lap.push_back(&machine);
      }
    }
    std::vector<uint64_t> weights;
    for (const Machine* machine : lap) weights.push_back(machine->Weight());
    const auto at = static_cast<ptrdiff_t>(PickByWeight(weights, random));
    chosen.push_back(lap[static_cast<size_t>(at)]->TakeDsp(random));
    lap.erase(lap.begin() + at);
  }
  return chosen;
}

}  // namespace hayloft
