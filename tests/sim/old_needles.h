// Needles of a former life: what a recycled file holds before its new block writes over it, and
// what an uploader may hide inside an image. A dsp must never take one for a needle of its own.
#pragma once

#include <string>

#include "tests/sim/sim_device.h"
#include "tests/sim/sim_random.h"

namespace hayloft {

// A whole needle, right in every byte but for its place: another life number of the file.
std::string OldNeedle(uint64_t block_id, uint32_t sequence, uint64_t offset, SimRandom* random);

// Fills a pool file, behind the headers, with needles of a former life of the block that will be
// made of it: sequences 0, 1, 2...
void FillWithOldNeedles(SimDevice* disk, std::string_view pool_file, uint64_t block_id,
                        SimRandom* random);

}  // namespace hayloft
