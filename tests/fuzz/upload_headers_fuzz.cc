// libFuzzer target: what the headers of an upload say of its file.
// covers: gateway/digests.cc
// covers: gateway/upload_headers.cc
// covers: client/file_fields.cc
//
// Promises: digests that are taken may be said twice, and then mean the same; no field that is
// taken could end its line in an answer's head.
#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "client/file_fields.h"
#include "common/check.h"
#include "gateway/upload_headers.h"

namespace {

using namespace hayloft;

constexpr std::string_view kNames[] = {"Content-MD5", "Digest",        "Content-Digest",
                                       "Repr-Digest", "Surrogate-Key", "Cache-Tag",
                                       "X-Hayloft-"};
constexpr std::string_view kFile = "{\"hello\": \"world\"}\n";

// Each line is a number that stands for a name, and a value; the user's own names go up to a colon.
std::vector<HttpHeader> Headers(std::string_view text, std::deque<std::string>* names) {
  std::vector<HttpHeader> headers;
  while (!text.empty() && headers.size() < kHttpHeadersMax) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty()) continue;
    std::string_view value = line.substr(1);
    std::string& name =
        names->emplace_back(kNames[static_cast<uint8_t>(line[0]) % std::size(kNames)]);
    if (name.ends_with('-')) {
      const size_t colon = std::min(value.find(':'), value.size());
      name += value.substr(0, colon);
      value.remove_prefix(std::min(colon + 1, value.size()));
      if (!IsHttpToken(name)) continue;
    }
    headers.push_back({.name = name, .value = TrimBlanks(value), .field = HttpFieldOf(name)});
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
  std::deque<std::string> names;
  std::vector<HttpHeader> headers = Headers({exact.get(), size}, &names);
  UploadHeaders once;
  if (TakeUploadHeaders(headers, &once).status != 0) return 0;
  ASSERT(once.fields.size() <= kHttpFieldsMax);
  for (const auto& [name, value] : once.fields) {
    ASSERT(IsHttpToken(name));
    ASSERT(IsSendable(name, value));
    ASSERT(value.find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos);
  }
  std::erase_if(headers, [](const HttpHeader& header) { return !IsDigestField(header.field); });
  std::vector<HttpHeader> doubled = headers;
  doubled.insert(doubled.end(), headers.begin(), headers.end());
  UploadHeaders twice;
  ASSERT(TakeUploadHeaders(doubled, &twice).status == 0);
  ASSERT(Matches(once.digests.get()) == Matches(twice.digests.get()));
  return 0;
}
