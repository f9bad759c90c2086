#include "gateway/pages.h"

#include "common/check.h"
#include "common/codec.h"

// The files' bytes, by the assembler's .incbin; the Makefile knows what this file rests on. The
// labels are local to the object.
#define HAYLOFT_EMBED(name, file)                                                    \
  asm(".pushsection .rodata\n"                                                       \
      "hayloft_page_" #name ": .incbin \"gateway/pages/" file                        \
      "\"\n"                                                                         \
      "hayloft_page_" #name                                                          \
      "_end: .byte 0\n"                                                              \
      ".popsection\n");                                                              \
  extern "C" __attribute__((visibility("hidden"))) const char hayloft_page_##name[], \
      hayloft_page_##name##_end[]

HAYLOFT_EMBED(upload_html, "upload.html");
HAYLOFT_EMBED(upload_js, "upload.js");
HAYLOFT_EMBED(status_html, "status.html");
HAYLOFT_EMBED(status_js, "status.js");
HAYLOFT_EMBED(common_js, "common.js");
HAYLOFT_EMBED(page_css, "page.css");
HAYLOFT_EMBED(icon_svg, "icon.svg");

#undef HAYLOFT_EMBED

namespace hayloft {

namespace {

constexpr std::string_view kHtml = "text/html; charset=utf-8";
constexpr std::string_view kScript = "text/javascript; charset=utf-8";

struct EmbeddedFile {
  std::string_view path;
  std::string_view type;
  const char* begin;
  const char* end;
  bool of_status;  // only the status page needs it
};

const EmbeddedFile kFiles[] = {
    {"/", kHtml, hayloft_page_upload_html, hayloft_page_upload_html_end, false},
    {"/pages/upload.js", kScript, hayloft_page_upload_js, hayloft_page_upload_js_end, false},
    {"/status", kHtml, hayloft_page_status_html, hayloft_page_status_html_end, true},
    {"/pages/status.js", kScript, hayloft_page_status_js, hayloft_page_status_js_end, true},
    {"/pages/common.js", kScript, hayloft_page_common_js, hayloft_page_common_js_end, false},
    {"/pages/page.css", "text/css; charset=utf-8", hayloft_page_page_css, hayloft_page_page_css_end,
     false},
    {"/pages/icon.svg", "image/svg+xml", hayloft_page_icon_svg, hayloft_page_icon_svg_end, false},
};

// The links between the pages: a page that is not there is not linked to.
void CutNavigation(std::string* html) {
  constexpr std::string_view kEnd = "</nav>";
  const size_t begin = html->find("<nav");
  const size_t end = html->find(kEnd);
  if (begin == std::string::npos || end == std::string::npos) return;
  html->erase(begin, end + kEnd.size() - begin);
}

}  // namespace

PageTable::PageTable(std::string_view wanted) : has_status_(wanted == "all") {
  ASSERT(PagesFault(wanted).empty());
  if (wanted == "none") return;
  for (const EmbeddedFile& file : kFiles) {
    if (file.of_status && !has_status_) continue;
    Page page{.path = file.path, .type = file.type, .bytes = {file.begin, file.end}, .etag = {}};
    if (!has_status_ && page.type == kHtml) CutNavigation(&page.bytes);
    const Sha256 hash = Sha256Of(AsBytes(page.bytes));
    page.etag = "\"" + ToHex(Bytes(hash).first(16)) + "\"";
    pages_.push_back(std::move(page));
  }
}

std::string PagesFault(std::string_view wanted) {
  return wanted == "none" || wanted == "upload" || wanted == "all" ? "" : "none, upload or all";
}

}  // namespace hayloft
