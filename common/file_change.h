// What a dsp's feed of deletes tells (pb::FileChange).
#pragma once

#include <cstdint>

namespace hayloft {

// In place of a sequence: the dsp does not serve the block any more, and says no more of its files.
// A gateway of an older version takes it for a change that cannot be, which it answers as a gap.
inline constexpr uint32_t kWholeBlock = UINT32_MAX;

}  // namespace hayloft
