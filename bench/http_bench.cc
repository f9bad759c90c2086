// The cost of the pure parts of HTTP on the hot path: one parse and one response head. No socket.
#include <benchmark/benchmark.h>

#include <memory>

#include "client/sniff.h"
#include "gateway/conditions.h"
#include "gateway/http_date.h"
#include "gateway/http_parser.h"
#include "gateway/http_semantics.h"
#include "gateway/multipart.h"
#include "gateway/ranges.h"

namespace hayloft {
namespace {

constexpr std::string_view kShort = "GET /AAAAAAEAAAAAAAAAAA HTTP/1.1\r\nHost: img\r\n\r\n";

// What a desktop browser sends for an image.
constexpr std::string_view kBrowser =
    "GET /AAAAAAEAAAAAAAAAAA.jpg HTTP/1.1\r\n"
    "Host: img.example.org\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5\r\n"
    "Accept-Language: en-US,en;q=0.7,de;q=0.3\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Referer: https://www.example.org/gallery/2026/11/21/a-walk-in-the-hay.html\r\n"
    "Connection: keep-alive\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=light; consent=all\r\n"
    "Sec-Fetch-Dest: image\r\n"
    "Sec-Fetch-Mode: no-cors\r\n"
    "Sec-Fetch-Site: same-site\r\n"
    "If-None-Match: \"AAAAAAEAAAAAAAAAAA\"\r\n"
    "Priority: u=5, i\r\n"
    "\r\n";

// Arg: 0 a short request, 1 a browser's. Goals: 25 and 256 ns.
void BM_ParseRequest(benchmark::State& state) {
  const std::string_view bytes = state.range(0) == 0 ? kShort : kBrowser;
  const auto request = std::make_unique<HttpRequest>();
  for (auto _ : state) {
    const HttpParsed parsed = ParseHttpRequest(bytes, 0, request.get());
    if (parsed.kind != HttpParsed::Kind::kRequest) return state.SkipWithError("not parsed");
    benchmark::DoNotOptimize(request->header_count);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes.size()));
}
BENCHMARK(BM_ParseRequest)->Arg(0)->Arg(1);

// Decoding a 16 KiB body in chunks of the given size.
void BM_DecodeChunked(benchmark::State& state) {
  const auto chunk = static_cast<size_t>(state.range(0));
  char size_line[16];
  std::snprintf(size_line, sizeof(size_line), "%zx\r\n", chunk);
  std::string bytes;
  for (size_t sent = 0; sent < (16 << 10); sent += chunk) {
    bytes.append(size_line).append(chunk, 'x').append("\r\n");
  }
  bytes += "0\r\n\r\n";
  for (auto _ : state) {
    ChunkedDecoder decoder;
    std::string_view input = bytes;
    std::string_view data;
    size_t body = 0;
    while (decoder.Next(&input, &data) == ChunkedDecoder::Step::kData) body += data.size();
    benchmark::DoNotOptimize(body);
  }
}
BENCHMARK(BM_DecodeChunked)->Arg(256)->Arg(4096);

// The head of a 200 as the gateway builds it, into a string that keeps its memory.
void BM_ResponseHead(benchmark::State& state) {
  const auto date = FormatHttpDate(1'795'000'000);
  std::string out;
  for (auto _ : state) {
    out.clear();
    const auto modified = FormatHttpDate(1'700'000'000);
    ResponseHead(&out, 200)
        .Add("Date", {date.data(), date.size()})
        .Add("Content-Type", "image/png")
        .Add("Content-Length", uint64_t{16384})
        .Add("ETag", "\"AAAAAAEAAAAAAAAAAA\"")
        .Add("Last-Modified", {modified.data(), modified.size()})
        .Add("Cache-Control", "public, max-age=31536000, immutable")
        .Add("Accept-Ranges", "bytes")
        .Add("X-Content-Type-Options", "nosniff")
        .Add("X-Cache", "miss")
        .End();
    benchmark::DoNotOptimize(out.data());
  }
}
BENCHMARK(BM_ResponseHead);

// A form with one file of 1 MiB, in the reads of 256 KiB in which a socket gives it: what taking
// forms apart costs a byte. Arg: 0 a photo's bytes, 1 lines of text, 2 nothing but CRs, the worst.
void BM_Multipart(benchmark::State& state) {
  constexpr size_t kReadBytes = 256 << 10;
  std::string file(1 << 20, '\r');
  uint64_t noise = 1;
  for (size_t i = 0; i < file.size() && state.range(0) < 2; ++i) {
    noise = noise * 6364136223846793005 + 1442695040888963407;
    file[i] = state.range(0) == 0 ? static_cast<char>(noise >> 56) : "text\r\n"[i % 40 % 6];
  }
  const std::string body =
      "--XyZ\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.png\"\r\n"
      "Content-Type: image/png\r\n\r\n" +
      file + "\r\n--XyZ--\r\n";
  for (auto _ : state) {
    MultipartParser parser("XyZ");
    size_t size = 0;
    for (size_t at = 0; at < body.size(); at += kReadBytes) {
      std::string_view input = std::string_view(body).substr(at, kReadBytes);
      std::string_view data;
      MultipartParser::Step step;
      while ((step = parser.Next(&input, &data)) != MultipartParser::Step::kMore) {
        if (step == MultipartParser::Step::kData) size += data.size();
      }
    }
    if (size != file.size() || !parser.End()) return state.SkipWithError("not parsed");
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(body.size()));
}
BENCHMARK(BM_Multipart)->Arg(0)->Arg(1)->Arg(2);

void BM_SniffPng(benchmark::State& state) {
  std::string png("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16);
  png.resize(16 << 10, 'x');
  for (auto _ : state) benchmark::DoNotOptimize(SniffType(AsBytes(png)));
}
BENCHMARK(BM_SniffPng);

}  // namespace
}  // namespace hayloft

BENCHMARK_MAIN();
