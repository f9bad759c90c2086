// What most files include, read once a build instead of once a file (see the Makefile). No file may
// rest on this: each includes what it uses, and builds with a compiler cache go without it.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/proto/hayloft.pb.h"
