// The name under which a browser saves a file: Content-Disposition (RFC 6266) with names beyond
// ASCII (RFC 8187). Pure.
#pragma once

#include <string>
#include <string_view>

namespace hayloft {

inline constexpr size_t kSaveNameBytesMax = 255;  // what file systems take

// UTF-8 of bounded length that names a file on any system and shows what it is: no control
// character, no separator of folders, not "." or "..", and none of the marks that turn the
// direction of text, with which "exe.jpg" can be made of "gpj.exe".
bool IsSaveName(std::string_view name);

// "attachment; filename=...", and filename* where ASCII does not do. REQUIRES: IsSaveName(name).
std::string AttachmentNamed(std::string_view name);

// ".png" for image/png and the like; empty for a type that has no usual one.
std::string_view ExtensionOf(std::string_view content_type);

}  // namespace hayloft
