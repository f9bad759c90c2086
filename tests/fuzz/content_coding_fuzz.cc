// libFuzzer target: Accept-Encoding.
// covers: gateway/content_coding.cc
//
// The promise: the choice that the weights, read here in another way, leave. And by what must not
// change it or must: the order of the codings, how they lie
// in header lines, and codings that are not ours do not; "zstd;q=0" beside all else ends it; zstd
// is sent to nobody who names neither it nor "*".
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <vector>

#include "common/check.h"
#include "common/le.h"
#include "gateway/content_coding.h"
#include "tests/fuzz/fuzzed_get.h"

namespace hayloft {
namespace {

using Codings = std::vector<std::string>;

bool Prefers(const Codings& lines) {
  FuzzedGet get;
  for (const std::string& line : lines) get.Add("Accept-Encoding", line);
  const HttpRequest* request = get.Parse();
  ASSERT(request != nullptr);
  return PrefersZstd(*request);
}

std::string Joined(const Codings& codings) {
  std::string list;
  for (const std::string& coding : codings) list += (list.empty() ? "" : ",") + coding;
  return list;
}

// In lower case, without blanks around it; empty: none.
std::string NameOf(const std::string& coding) {
  std::string name(TrimBlanks(coding.substr(0, coding.find(';'))));
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  return name;
}

bool IsOurs(const std::string& coding) {
  const std::string name = NameOf(coding);
  return name == "zstd" || name == "identity" || name == "*";
}

// In thousandths; what is malformed is not wanted.
long WeightOf(const std::string& coding) {
  const size_t semicolon = coding.find(';');
  if (semicolon == std::string::npos) return 1'000;
  const std::string parameter(TrimBlanks(std::string_view(coding).substr(semicolon + 1)));
  if (parameter.size() < 3 || (parameter[0] | 0x20) != 'q' || parameter[1] != '=') return 0;
  const std::string number = parameter.substr(2);
  const bool form = number.size() <= 5 && (number[0] == '0' || number[0] == '1') &&
                    (number.size() == 1 || number[1] == '.') &&
                    number.find_first_not_of("0123456789", std::min<size_t>(2, number.size())) ==
                        std::string::npos;
  const long weight = std::lround(std::strtod(number.c_str(), nullptr) * 1'000);
  return form && weight <= 1'000 ? weight : 0;
}

bool NaivePrefers(const Codings& codings) {
  std::map<std::string, long> least;
  for (const std::string& coding : codings) {
    const long weight = WeightOf(coding);
    const auto [at, fresh] = least.emplace(NameOf(coding), weight);
    if (!fresh) at->second = std::min(at->second, weight);
  }
  const long any = least.count("*") > 0 ? least["*"] : 0;
  const long identity = least.count("identity") > 0 ? least["identity"] : any;
  if (least.count("zstd") == 0) return any > identity;
  return least["zstd"] > 0 && least["zstd"] >= identity;
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  FuzzedGet get;
  if (!get.Add("Accept-Encoding", AsText(Bytes(data, size)))) return 0;
  const HttpRequest* request = get.Parse();
  if (request == nullptr) return 0;
  const bool prefers = PrefersZstd(*request);
  Codings codings(1);
  for (char c : request->Value(HttpField::kAcceptEncoding)) {
    if (c == ',') {
      codings.emplace_back();
    } else {
      codings.back() += c;
    }
  }
  if (codings.size() > kHttpHeadersMax / 2) return 0;
  ASSERT(NaivePrefers(codings) == prefers);
  Codings other = codings;
  std::reverse(other.begin(), other.end());
  ASSERT(Prefers(other) == prefers);            // a line each, the other way round
  ASSERT(Prefers({Joined(other)}) == prefers);  // in one line
  other.push_back("gzip;q=1.0, br, zstdx, x-zstd");
  ASSERT(Prefers(other) == prefers);
  std::erase_if(other, [](const std::string& coding) { return !IsOurs(coding); });
  ASSERT((!other.empty() && Prefers(other)) == prefers);
  if (prefers) {
    ASSERT(std::any_of(other.begin(), other.end(), [](const std::string& coding) {
      return NameOf(coding) == "zstd" || NameOf(coding) == "*";
    }));
    other.push_back("zstd;q=0");
    ASSERT(!Prefers(other));
  }
  // Whoever names it with full weight, and it alone of ours, gets it.
  std::erase_if(other, IsOurs);
  other.push_back(" ZStd ; Q=1.000");
  ASSERT(Prefers(other));
  return 0;
}
