#include "client/sniff.h"

#include <algorithm>

#include "common/check.h"
#include "common/text.h"

namespace hayloft {

namespace {

using std::literals::string_view_literals::operator""sv;

struct Signature {
  size_t offset;
  std::string_view bytes;
  std::string_view type;
};
// ISO media files (avif, heic) and RIFF (webp) need a second look and are not here.
constexpr Signature kSignatures[] = {
    {0, "\x89PNG\r\n\x1a\n"sv, "image/png"},
    {0, "\xff\xd8\xff"sv, "image/jpeg"},
    {0, "GIF87a"sv, "image/gif"},
    {0, "GIF89a"sv, "image/gif"},
    {0, "\0\0\1\0"sv, "image/x-icon"},
    {0, "\0\0\2\0"sv, "image/x-icon"},
    {0, "II*\0"sv, "image/tiff"},
    {0, "MM\0*"sv, "image/tiff"},
};

// Tags at which the WHATWG's sniffing standard sees a page (section 7.1), and a few more that make
// a browser start one.
constexpr std::string_view kHtmlTags[] = {
    "!doctype html", "html",   "head",  "script", "iframe", "h1", "div", "font", "table", "a",
    "style",         "title",  "b",     "body",   "br",     "p",  "!--", "meta", "link",  "form",
    "img",           "object", "embed", "base",   "video"};

std::string_view SkipSpace(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n\f");
  return first == std::string_view::npos ? std::string_view() : text.substr(first);
}

// "<tag" followed by something that ends a tag's name.
bool StartsWithTag(std::string_view text, std::string_view tag) {
  if (!text.starts_with('<') || !StartsWithNoCase(text.substr(1), tag)) return false;
  if (tag == "!--") return true;
  const std::string_view rest = text.substr(1 + tag.size());
  return rest.empty() || " \t\r\n\f>/"sv.find(rest.front()) != std::string_view::npos;
}

// An ISO base media file names its brands in the first box: size, "ftyp", major brand, version,
// compatible brands.
std::string_view IsoMediaType(std::string_view bytes) {
  if (bytes.size() < 16 || bytes.substr(4, 4) != "ftyp") return {};
  uint32_t box_bytes = 0;
  for (size_t i = 0; i < 4; ++i) box_bytes = box_bytes << 8 | static_cast<uint8_t>(bytes[i]);
  const std::string_view box = bytes.substr(0, box_bytes);
  for (size_t at = 8; at + 4 <= box.size(); at += at == 8 ? 8 : 4) {
    const std::string_view brand = box.substr(at, 4);
    if (brand == "avif" || brand == "avis") return "image/avif";
    if (brand == "heic" || brand == "heix" || brand == "hevc" || brand == "hevx") {
      return "image/heic";
    }
  }
  return {};
}

std::string_view ImageType(std::string_view bytes) {
  for (const Signature& signature : kSignatures) {
    if (bytes.substr(std::min(signature.offset, bytes.size())).starts_with(signature.bytes)) {
      return signature.type;
    }
  }
  if (bytes.starts_with("RIFF") && bytes.size() >= 12 && bytes.substr(8, 4) == "WEBP") {
    return "image/webp";
  }
  // "BM" alone begins many a text: the header's reserved field and its size must agree too.
  if (bytes.starts_with("BM") && bytes.size() >= 18 && bytes.substr(6, 4) == "\0\0\0\0"sv &&
      static_cast<uint8_t>(bytes[14]) >= 12 && bytes[15] == 0) {
    return "image/bmp";
  }
  return IsoMediaType(bytes);
}

// WHATWG's binary data bytes: none of them occurs in text of any common encoding.
bool HoldsBinary(std::string_view bytes) {
  return std::any_of(bytes.begin(), bytes.end(), [](char c) {
    const auto byte = static_cast<uint8_t>(c);
    return byte <= 0x08 || byte == 0x0b || (byte >= 0x0e && byte <= 0x1a) ||
           (byte >= 0x1c && byte <= 0x1f);
  });
}

// A text's own type: SVG and HTML may begin with space, a declaration and comments.
std::string_view MarkupType(std::string_view text) {
  text = SkipSpace(text);
  const bool xml = StartsWithNoCase(text, "<?xml");
  bool declared_svg = false;
  while (true) {
    const std::string_view before = text;
    if (StartsWithNoCase(text, "<?xml")) {
      const size_t end = text.find("?>");
      text = end == std::string_view::npos ? std::string_view() : text.substr(end + 2);
    } else if (text.starts_with("<!--") && text.find("-->") != std::string_view::npos) {
      text = text.substr(text.find("-->") + 3);
    } else if (StartsWithNoCase(text, "<!doctype svg")) {
      declared_svg = true;
      break;
    }
    text = SkipSpace(text);
    if (text == before) break;
  }
  if (declared_svg || StartsWithTag(text, "svg")) return "image/svg+xml";
  for (std::string_view tag : kHtmlTags) {
    if (StartsWithTag(text, tag)) return "text/html";
  }
  return xml ? "text/xml" : "text/plain";
}

bool IsTokenChar(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         "!#$%&'*+-.^_`|~"sv.find(c) != std::string_view::npos;
}

std::string_view TakeToken(std::string_view* text) {
  size_t length = 0;
  while (length < text->size() && IsTokenChar((*text)[length])) ++length;
  const std::string_view token = text->substr(0, length);
  text->remove_prefix(length);
  return token;
}

bool TakeQuoted(std::string_view* text) {
  for (size_t i = 1; i < text->size(); ++i) {
    if ((*text)[i] == '\\') {
      ++i;
    } else if ((*text)[i] == '"') {
      text->remove_prefix(i + 1);
      return true;
    }
  }
  return false;
}

void SkipOptionalSpace(std::string_view* text) {
  while (text->starts_with(' ')) text->remove_prefix(1);
}

std::string Essence(std::string_view type) {
  return LowerText(type.substr(0, type.find_first_of("; ")));
}

bool IsMarkup(std::string_view essence) {
  return essence == "text/html" || essence.ends_with("+xml") || essence.ends_with("/xml");
}

// Whether the client's word and the bytes can both be right.
bool Agrees(std::string_view claimed, std::string_view sniffed) {
  if (claimed == sniffed) return true;
  if (sniffed == kUnknownType) {
    // Bytes that show nothing: any type that we know no signature of may be right.
    for (const Signature& signature : kSignatures) {
      if (claimed == signature.type) return false;
    }
    return !claimed.starts_with("text/") && !IsMarkup(claimed) && claimed != "image/webp" &&
           claimed != "image/bmp" && claimed != "image/avif" && claimed != "image/heic";
  }
  if (sniffed == "image/x-icon") return claimed == "image/vnd.microsoft.icon";
  if (sniffed == "image/heic") return claimed == "image/heif";
  if (sniffed.starts_with("image/") && sniffed != "image/svg+xml") return false;
  // The bytes are text. Plainer than they look is harmless; an image they are not.
  return !claimed.starts_with("image/") || claimed == "image/svg+xml";
}

}  // namespace

std::string_view SniffType(Bytes bytes) {
  const std::string_view text = AsText(bytes.first(std::min(bytes.size(), kSniffBytesMax)));
  if (const std::string_view image = ImageType(text); !image.empty()) return image;
  if (text.starts_with("\xef\xbb\xbf")) return MarkupType(text.substr(3));
  if (text.starts_with("\xfe\xff") || text.starts_with("\xff\xfe")) return "text/plain";
  return HoldsBinary(text) ? kUnknownType : MarkupType(text);
}

bool IsValidType(std::string_view type) {
  if (type.size() > kContentTypeBytesMax) return false;
  const bool ascii =
      std::all_of(type.begin(), type.end(), [](char c) { return c >= ' ' && c <= '~'; });
  if (!ascii || TakeToken(&type).empty() || !type.starts_with('/')) return false;
  type.remove_prefix(1);
  if (TakeToken(&type).empty()) return false;
  while (true) {
    SkipOptionalSpace(&type);
    if (type.empty()) return true;
    if (!type.starts_with(';')) return false;
    type.remove_prefix(1);
    SkipOptionalSpace(&type);
    if (type.empty() || type.starts_with(';')) continue;
    if (TakeToken(&type).empty() || !type.starts_with('=')) return false;
    type.remove_prefix(1);
    const bool value = type.starts_with('"') ? TakeQuoted(&type) : !TakeToken(&type).empty();
    if (!value) return false;
  }
}

bool HasControlByte(std::string_view type) {
  return std::any_of(type.begin(), type.end(),
                     [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7f; });
}

std::string DecideType(std::string_view claimed, Bytes bytes) {
  ASSERT(!HasControlByte(claimed));
  const std::string_view sniffed = SniffType(bytes);
  if (!IsValidType(claimed)) return std::string(sniffed);
  const std::string essence = Essence(claimed);
  // curl's default for --data-binary; nobody stores a form's fields under their own type.
  if (essence == "application/x-www-form-urlencoded") return std::string(sniffed);
  if (essence == kUnknownType) {
    // "I don't know": an image may be named, but a page is not made out of a download.
    const bool image = sniffed.starts_with("image/") && sniffed != "image/svg+xml";
    return std::string(image ? sniffed : kUnknownType);
  }
  return std::string(Agrees(essence, sniffed) ? claimed : sniffed);
}

bool IsActiveType(std::string_view type) { return IsMarkup(Essence(type)); }

}  // namespace hayloft
