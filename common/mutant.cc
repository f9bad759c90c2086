#include "common/mutant.h"

namespace hayloft {
Mutant g_mutant = Mutant::kNone;
}  // namespace hayloft
