// A few images for a new cluster, drawn here: there may be no network.
#pragma once

#include <cstdint>
#include <string>

#include "client/cli/cluster_state.h"
#include "common/io/loop.h"

namespace hayloft {

inline constexpr uint32_t kSampleCount = 4;

// A small PNG, the same one for the same number.
std::string DrawSample(uint32_t number);

// Uploads the samples by HTTP if that was not done before, and prints their URLs, each after it was
// read. False, with a line on stderr, when one fails.
bool UploadSamples(Loop* loop, const ClusterState& state);

}  // namespace hayloft
