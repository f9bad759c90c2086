#include "client/cli/samples.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>

#include "client/cli/await.h"
#include "common/io/files.h"
#include "common/io/json.h"

namespace hayloft {

namespace {

constexpr uint32_t kWidth = 160;
constexpr uint32_t kHeight = 100;
constexpr uint64_t kUrlsBytesMax = 64 << 10;
constexpr uint32_t kHttpMs = 10'000;

void AppendBigEndian32(uint32_t value, std::string* out) {
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift));
}

uint32_t Crc32(std::string_view bytes) {  // of PNG (ISO 3309), which is not our CRC-32C
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

uint32_t Adler32(std::string_view bytes) {
  uint32_t a = 1, b = 0;
  for (const char byte : bytes) {
    a = (a + static_cast<uint8_t>(byte)) % 65521;
    b = (b + a) % 65521;
  }
  return b << 16 | a;
}

void AppendChunk(std::string_view type, std::string_view data, std::string* png) {
  AppendBigEndian32(static_cast<uint32_t>(data.size()), png);
  std::string checked(type);
  checked += data;
  *png += checked;
  AppendBigEndian32(Crc32(checked), png);
}

// zlib's format with one stored block: an image of this size need not be compressed.
std::string Stored(std::string_view bytes) {
  const auto size = static_cast<uint16_t>(bytes.size());
  std::string out = "\x78\x01\x01";
  for (const uint16_t word : {size, static_cast<uint16_t>(~size)}) {
    out.push_back(static_cast<char>(word & 0xff));
    out.push_back(static_cast<char>(word >> 8));
  }
  out += bytes;
  AppendBigEndian32(Adler32(bytes), &out);
  return out;
}
static_assert((kWidth + 1) * kHeight <= 0xffff, "a stored block holds at most 64 KiB");

std::string UrlsPath(const ClusterState& state) { return state.Path("samples.txt"); }

bool Fail(const std::string& what, const HttpAnswer& answer) {
  std::fprintf(stderr, "hayloft: %s: status %d %s\n", what.c_str(), answer.status,
               answer.body.substr(0, 200).c_str());
  return false;
}

bool UploadAll(Loop* loop, const ClusterState& state, const std::string& gateway) {
  std::string urls;
  for (uint32_t i = 0; i < kSampleCount; ++i) {
    const HttpAnswer answer = AwaitHttp(loop, {.address = gateway,
                                               .path = "/v1/files",
                                               .content_type = "image/png",
                                               .body = DrawSample(i),
                                               .timeout_ms = kHttpMs});
    const Result<Json> json = Json::Parse(answer.body);
    if (answer.status / 100 != 2 || !json.ok()) return Fail("upload of a sample", answer);
    urls += "http://" + gateway + "/" + (*json)["id"].text() + ".png\n";
  }
  return ReplaceFile(UrlsPath(state), urls) == Err::kOk || Fail("cannot write samples.txt", {});
}

}  // namespace

// Rings round a point that moves with the number, in a palette from one colour to another.
std::string DrawSample(uint32_t number) {
  std::string png = "\x89PNG\r\n\x1a\n";
  std::string header;
  AppendBigEndian32(kWidth, &header);
  AppendBigEndian32(kHeight, &header);
  header += std::string("\x08\x03\x00\x00\x00", 5);  // 8 bits of palette, not interlaced
  AppendChunk("IHDR", header, &png);
  std::string palette;
  for (uint32_t i = 0; i < 256; ++i) {
    const std::array<uint32_t, 3> colour = {i, (i * (number + 1)) % 256, 255 - i / 2};
    for (uint32_t part = 0; part < 3; ++part) {
      palette.push_back(static_cast<char>(colour[(part + number) % 3]));
    }
  }
  AppendChunk("PLTE", palette, &png);
  std::string rows;
  for (uint32_t y = 0; y < kHeight; ++y) {
    rows.push_back('\0');  // this row is not filtered
    for (uint32_t x = 0; x < kWidth; ++x) {
      const uint32_t dx = x - 40 - number * 20, dy = y - 50;
      rows.push_back(static_cast<char>((dx * dx + dy * dy) / (8 + 4 * number)));
    }
  }
  AppendChunk("IDAT", Stored(rows), &png);
  AppendChunk("IEND", "", &png);
  return png;
}

bool UploadSamples(Loop* loop, const ClusterState& state) {
  const std::string gateway = "127.0.0.1:" + std::to_string(state.port);
  if (!FileExists(UrlsPath(state)) && !UploadAll(loop, state, gateway)) return false;
  const Result<std::string> urls = ReadWholeFile(UrlsPath(state), kUrlsBytesMax);
  if (!urls.ok()) return Fail("cannot read samples.txt", {});
  for (size_t start = 0; start < urls->size();) {
    const size_t end = std::min(urls->find('\n', start), urls->size());
    const std::string url = urls->substr(start, end - start);
    start = end + 1;
    const std::string path = url.substr(url.rfind('/'));  // the port may have changed since
    const HttpAnswer answer = AwaitHttp(loop, {.address = gateway, .path = path});
    if (answer.status != 200) return Fail("read of the sample " + path, answer);
    std::printf("http://%s%s\n", gateway.c_str(), path.c_str());
  }
  return true;
}

}  // namespace hayloft
