// Our HTTP parser beside Debian's http-parser: see tests/fuzz/parser_difference.h.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/fuzz/parser_difference.h"
#include "tests/sim/sim_random.h"

using namespace hayloft;

namespace {

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  for (const auto& entry :
       std::filesystem::directory_iterator("tests/fuzz/corpus/parser_differential_fuzz")) {
    std::ifstream file(entry.path(), std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    seeds.push_back(text.str());
  }
  std::sort(seeds.begin(), seeds.end());
  return seeds;
}

// What parsers have been seen to disagree about.
constexpr std::string_view kWords[] = {"\r\n",
                                       "\n",
                                       "\r",
                                       " ",
                                       "\t",
                                       ":",
                                       ",",
                                       ";",
                                       "?",
                                       "0",
                                       "5",
                                       "+5",
                                       "0x5",
                                       "5, 5",
                                       "chunked",
                                       ", chunked",
                                       "identity",
                                       "\x0b",
                                       "close",
                                       "keep-alive",
                                       "#",
                                       "//",
                                       "http://h",
                                       "\r\n\r\n",
                                       "Content-Length: 5\r\n",
                                       "Transfer-Encoding: chunked\r\n",
                                       "\xff",
                                       "Connection: close\r\n"};

std::string Mutate(std::string text, SimRandom* random) {
  for (uint64_t i = random->Between(1, 4); i > 0; --i) {
    const size_t at = random->Below(text.size() + 1);
    switch (random->Below(4)) {
      case 0:
        text.insert(at, kWords[random->Below(std::size(kWords))]);
        break;
      case 1:
        text.erase(at, random->Between(1, 4));
        break;
      case 2:
        text.insert(at, text.substr(random->Below(text.size() + 1), random->Below(40)));
        break;
      default:
        if (at < text.size()) text[at] = static_cast<char>(random->Below(256));
    }
  }
  return text;
}

}  // namespace

TEST_CASE("http_parser: another parser sees the same requests in the same bytes (S03)") {
  const std::vector<std::string> seeds = Seeds();
  REQUIRE_GE(seeds.size(), 17);
  SimRandom random(/*seed=*/1);
  size_t taken = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string bytes = seeds[static_cast<size_t>(i) % seeds.size()];
    if (static_cast<size_t>(i) >= seeds.size()) bytes = Mutate(std::move(bytes), &random);
    const char* what = ParserDifference(bytes);
    CAPTURE(bytes);
    REQUIRE_EQ(std::string(what == nullptr ? "" : what), "");
    taken += ParseByUs(bytes).is_done;
  }
  CHECK_GE(taken, 20'000);  // it compares more than refusals
}

TEST_CASE("http_parser: the comparison with another parser does find differences") {
  // Trailing blanks aside, the two must not be made equal by the comparison itself.
  const std::string get = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
  const OurMessage ours = ParseByUs(get);
  OtherMessage other = ParseByOther(get);
  CHECK_EQ(HeadDifference(*ours.request, other), nullptr);
  other.target = "/b";
  CHECK_EQ(std::string(HeadDifference(*ours.request, other)), "the target");
  other = ParseByOther(get);
  other.headers[0].second = "g";
  CHECK_EQ(std::string(HeadDifference(*ours.request, other)), "a header's value");
  other = ParseByOther(get);
  other.content_length = 1;
  CHECK_EQ(std::string(HeadDifference(*ours.request, other)), "the length");
}
