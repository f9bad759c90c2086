// libFuzzer target: what the headers of an upload say of its file.
// covers: gateway/digests.cc
// covers: gateway/upload_headers.cc
//
// Promise: what is taken once is taken twice, and then means the same.
#include <algorithm>
#include <memory>
#include <vector>

#include "common/check.h"
#include "gateway/upload_headers.h"

namespace {

using namespace hayloft;

constexpr std::string_view kNames[] = {"Content-MD5", "Digest", "Content-Digest", "Repr-Digest",
                                       "Content-Type"};
constexpr std::string_view kFile = "{\"hello\": \"world\"}\n";

// Each line is a number that stands for a name, and a value.
std::vector<HttpHeader> Headers(std::string_view text) {
  std::vector<HttpHeader> headers;
  while (!text.empty() && headers.size() < kHttpHeadersMax) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty()) continue;
    const std::string_view name = kNames[static_cast<uint8_t>(line[0]) % std::size(kNames)];
    headers.push_back(
        {.name = name, .value = TrimHttpBlanks(line.substr(1)), .field = HttpFieldOf(name)});
  }
  return headers;
}

bool Matches(ExpectedDigests* digests) {
  if (digests == nullptr) return true;
  Hasher hasher;
  Sha1 sha1;
  Sha256 sha256;
  digests->Update(AsBytes(kFile));
  hasher.Update(AsBytes(kFile));
  hasher.Finish(&sha1, &sha256);
  return digests->Matches(sha1, sha256);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::unique_ptr<char[]> exact(new char[size]);
  std::copy(data, data + size, exact.get());
  const std::vector<HttpHeader> headers = Headers({exact.get(), size});
  UploadHeaders once, twice;
  const HttpFault fault = TakeUploadHeaders(headers, &once);
  if (fault.status != 0) return 0;
  ASSERT(TakeUploadHeaders(headers, &twice).status == 0);
  std::vector<HttpHeader> both = headers;
  both.insert(both.end(), headers.begin(), headers.end());
  UploadHeaders doubled;
  ASSERT(TakeUploadHeaders(both, &doubled).status == 0);
  const bool matches = Matches(once.digests.get());
  ASSERT(Matches(twice.digests.get()) == matches);
  ASSERT(Matches(doubled.digests.get()) == matches);
  return 0;
}
