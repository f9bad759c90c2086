// libFuzzer target: the name under which a browser saves a file.
// covers: gateway/content_disposition.cc
//
// The promise: a name that is taken is UTF-8 without control characters and separators, and the
// header that is made of it is one line of visible ASCII from which a client gets that name back.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>

#include "common/check.h"
#include "common/le.h"
#include "gateway/content_disposition.h"

namespace hayloft {
namespace {

// Decodes UTF-8 by arithmetic; false when it is none.
bool CodePoints(std::string_view text, std::u32string* points) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<uint8_t>(text[i]);
    const size_t more = lead < 0x80 ? 0 : lead < 0xc0 ? 9 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    if (more == 9 || lead > 0xf7 || text.size() - i <= more) return false;
    char32_t point = more == 0 ? lead : lead & (0x3fu >> more);
    for (size_t k = 1; k <= more; ++k) {
      const auto byte = static_cast<uint8_t>(text[i + k]);
      if (byte / 64 != 2) return false;
      point = point * 64 + byte % 64;
    }
    constexpr char32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
    if (point < kLeast[more] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) {
      return false;
    }
    points->push_back(point);
    i += more + 1;
  }
  return true;
}

bool NaiveIsSaveName(std::string_view name) {
  std::u32string points;
  if (name.empty() || name.size() > 255 || name == "." || name == "..") return false;
  if (!CodePoints(name, &points)) return false;
  const std::u32string forbidden =
      U"/\\\u007f\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068"
      U"\u2069";
  return std::none_of(points.begin(), points.end(), [&](char32_t point) {
    return point < 0x20 || (point >= 0x80 && point < 0xa0) ||
           forbidden.find(point) != std::u32string::npos;
  });
}

// As a client reads it: filename* wins.
std::string NameIn(std::string_view value) {
  constexpr std::string_view kBegin = "attachment; filename=\"";
  constexpr std::string_view kStar = "; filename*=UTF-8''";
  ASSERT(value.starts_with(kBegin));
  value.remove_prefix(kBegin.size());
  const size_t quote = value.find('"');
  ASSERT(quote != std::string_view::npos);
  const std::string plain(value.substr(0, quote));
  ASSERT(plain.find_first_of("\\%/") == std::string::npos);
  value.remove_prefix(quote + 1);
  if (value.empty()) return plain;
  ASSERT(value.starts_with(kStar));
  value.remove_prefix(kStar.size());
  ASSERT(value.find_first_of(" ;,\"'*()<>@:\\/[]?={}") == std::string_view::npos);
  std::string name;
  for (size_t i = 0; i < value.size(); ++i) {
    if (value[i] != '%') {
      name += value[i];
      continue;
    }
    name +=
        static_cast<char>(std::strtoul(std::string(value.substr(i + 1, 2)).c_str(), nullptr, 16));
    i += 2;
  }
  return name;
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  // A copy without a byte to spare, so that the sanitizer sees a read behind the end.
  const std::unique_ptr<char[]> exact(new char[size]);
  std::copy(data, data + size, exact.get());
  const std::string_view name(exact.get(), size);
  const std::string_view extension = ExtensionOf(name);
  ASSERT(extension.empty() || extension[0] == '.');
  ASSERT(IsSaveName(name) == NaiveIsSaveName(name));
  if (!IsSaveName(name)) return 0;
  const std::string value = AttachmentNamed(name);
  ASSERT(std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c <= '~'; }));
  ASSERT(NameIn(value) == name);
  return 0;
}
