// The version that every binary prints, and the newest formats that it writes (see CHANGELOG.md).
#pragma once

namespace hayloft {
inline constexpr const char kVersion[] = "0.1.0";
inline constexpr unsigned kDiskFormatVersion = 1;
inline constexpr unsigned kWireVersion = 1;
}  // namespace hayloft
