#include "nameserver/placement.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "common/check.h"

namespace hayloft {

namespace {

// Megabytes, so that the sum over any cluster fits 64 bits.
constexpr uint64_t kWeightUnit = 1 << 20;

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
  std::string zone;
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

// By name, so that the order of candidates decides nothing.
std::map<std::string, Machine> MachinesOf(const std::vector<PlacementCandidate>& candidates) {
  std::map<std::string, Machine> machines;
  for (const PlacementCandidate& candidate : candidates) {
    Machine& machine = machines[candidate.machine];
    machine.zone = candidate.zone;
    machine.dsp_ids.push_back(candidate.dsp_id);
    machine.weights.push_back(std::max<uint64_t>(candidate.weight / kWeightUnit, 1));
  }
  return machines;
}

// By weight, and removed. REQUIRES: not empty.
Machine* TakeMachine(std::vector<Machine*>* machines, Random* random) {
  std::vector<uint64_t> weights;
  for (const Machine* machine : *machines) weights.push_back(machine->Weight());
  const auto at = static_cast<ptrdiff_t>(PickByWeight(weights, random));
  Machine* taken = (*machines)[static_cast<size_t>(at)];
  machines->erase(machines->begin() + at);
  return taken;
}

// Who got more than its share takes a copy all the same where one would be missing without it.
void ForgiveShares(size_t copies, std::vector<PlacementCandidate>* candidates) {
  std::set<std::string> fine;
  for (const PlacementCandidate& each : *candidates) {
    if (each.rank == PlacementRank::kFine) fine.insert(each.machine);
  }
  if (fine.size() >= copies) return;
  for (PlacementCandidate& each : *candidates) {
    if (each.rank == PlacementRank::kShareExceeded) each.rank = PlacementRank::kFine;
  }
}

// Moves the member with the fewest open blocks of its own to the front; of several a random one.
void PutPrimaryFirst(const std::vector<PlacementCandidate>& candidates, Random* random,
                     std::vector<uint32_t>* members) {
  std::map<uint32_t, uint64_t> primaries;
  for (const PlacementCandidate& each : candidates) primaries[each.dsp_id] = each.primaries;
  const auto fewest =
      std::min_element(members->begin(), members->end(),
                       [&](uint32_t a, uint32_t b) { return primaries.at(a) < primaries.at(b); });
  const uint64_t least = primaries.at(*fewest);
  std::vector<size_t> equal;
  for (size_t i = 0; i < members->size(); ++i) {
    if (primaries.at((*members)[i]) == least) equal.push_back(i);
  }
  std::swap((*members)[0], (*members)[equal[random->Below(equal.size())]]);
}

}  // namespace

std::vector<PlacementCandidate> KeepPreferred(std::vector<PlacementCandidate> candidates,
                                              size_t machines_min) {
  std::map<PlacementRank, std::set<std::string>> machines_of;
  for (const PlacementCandidate& each : candidates) machines_of[each.rank].insert(each.machine);
  std::set<std::string> machines;
  PlacementRank worst = PlacementRank::kFine;
  for (auto& [rank, names] : machines_of) {
    if (machines.size() >= machines_min && !machines.empty()) break;
    machines.merge(names);
    worst = rank;
  }
  std::erase_if(candidates, [&](const PlacementCandidate& each) { return each.rank > worst; });
  return candidates;
}

std::vector<uint32_t> ChooseReplicas(std::vector<PlacementCandidate> candidates,
                                     const CopiesWanted& wanted, Random* random, uint32_t primary) {
  ASSERT(wanted.min_copies >= 1 && wanted.min_copies <= wanted.copies);
  ASSERT(wanted.copies <= kReplicasMax);
  std::vector<uint32_t> chosen;
  std::map<std::string, size_t> copies_in;  // by zone
  if (primary != 0) {
    const auto first = std::find_if(candidates.begin(), candidates.end(),
                                    [&](const auto& each) { return each.dsp_id == primary; });
    ASSERT(first != candidates.end());
    ++copies_in[first->zone];
    chosen.push_back(primary);
    const std::string machine = first->machine;
    std::erase_if(candidates, [&](const auto& each) { return each.machine == machine; });
  }
  ForgiveShares(wanted.copies - chosen.size(), &candidates);
  candidates = KeepPreferred(std::move(candidates), wanted.min_copies - chosen.size());
  std::map<std::string, Machine> machines = MachinesOf(candidates);
  if (machines.size() + chosen.size() < wanted.min_copies) return {};
  std::vector<Machine*> left;
  for (auto& [name, machine] : machines) left.push_back(&machine);
  while (chosen.size() < wanted.copies && !left.empty()) {
    size_t fewest = SIZE_MAX;
    for (const Machine* machine : left) fewest = std::min(fewest, copies_in[machine->zone]);
    std::vector<Machine*> eligible;
    for (Machine* machine : left) {
      if (copies_in[machine->zone] == fewest) eligible.push_back(machine);
    }
    Machine* machine = TakeMachine(&eligible, random);
    std::erase(left, machine);
    ++copies_in[machine->zone];
    chosen.push_back(machine->TakeDsp(random));
  }
  ASSERT(chosen.size() >= wanted.min_copies);
  if (primary == 0) PutPrimaryFirst(candidates, random, &chosen);
  return chosen;
}

std::vector<size_t> ChooseSets(const std::vector<SetCandidate>& candidates, size_t count,
                               Random* random) {
  std::vector<size_t> left;
  PlacementRank best = PlacementRank::kDoubtful;
  for (const SetCandidate& each : candidates) best = std::min(best, each.rank);
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].rank == best) left.push_back(i);
  }
  std::map<uint32_t, size_t> dsp_uses;
  std::map<std::string, size_t> machine_uses;
  const auto shared = [&](const SetCandidate& each) {
    std::pair<size_t, size_t> uses;  // of dsps, of machines
    for (const uint32_t dsp_id : each.dsp_ids) uses.first += dsp_uses[dsp_id];
    for (const std::string& machine : each.machines) uses.second += machine_uses[machine];
    return uses;
  };
  std::vector<size_t> chosen;
  while (chosen.size() < count && !left.empty()) {
    std::pair<size_t, size_t> fewest = {SIZE_MAX, SIZE_MAX};
    for (const size_t i : left) fewest = std::min(fewest, shared(candidates[i]));
    std::vector<size_t> eligible;
    std::vector<uint64_t> weights;
    for (const size_t i : left) {
      if (shared(candidates[i]) != fewest) continue;
      eligible.push_back(i);
      weights.push_back(std::max<uint64_t>(candidates[i].weight / kWeightUnit, 1));
    }
    const size_t taken = eligible[PickByWeight(weights, random)];
    std::erase(left, taken);
    chosen.push_back(taken);
    for (const uint32_t dsp_id : candidates[taken].dsp_ids) ++dsp_uses[dsp_id];
    for (const std::string& machine : candidates[taken].machines) ++machine_uses[machine];
  }
  return chosen;
}

}  // namespace hayloft
