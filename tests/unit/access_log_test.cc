// The lines of the access log, the addresses in them, and how they get into the file.
#include "gateway/access_log.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <algorithm>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <thread>
#include <vector>

#include "common/io/line_writer.h"
#include "gateway/request_times.h"
#include "tests/unit/temp_folder.h"

using namespace hayloft;

namespace {

AccessRecord RecordOf(const std::string& head) {
  HttpRequest request;
  const HttpParsed parsed = ParseHttpRequest(head, 0, &request);
  REQUIRE_EQ(parsed.kind, HttpParsed::Kind::kRequest);
  AccessRecord record;
  NoteRequest(request, &record);
  record.peer = PeerAddress::OfV4({192, 0, 2, 1});
  record.wall_ms = 1'795'921'575'123;  // 2026-11-29T03:06:15.123Z
  record.status = 200;
  record.sent_bytes = 1532;
  record.whole_us = 812;
  record.first_byte_us = 634;
  record.request_id = "0123456789abcdef";
  return record;
}

std::string LineOf(const AccessRecord& record, AccessFormat format = AccessFormat::kCombined) {
  std::string line;
  AppendAccessLine(record, format, &line);
  return line;
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("access_log: both forms tell the request, the answer and who gave it") {
  AccessRecord record = RecordOf(
      "GET /AAAAAAAAAAAAAAAAAB.jpg?download=cat.jpg HTTP/1.1\r\nHost: h\r\nUser-Agent: curl/8\r\n"
      "Referer: https://example.org/a\r\n\r\n");
  record.dsp = "10.0.0.7:7003";
  record.cache = "miss";
  record.tls_version = "TLSv1.3";
  CHECK_EQ(LineOf(record),
           "192.0.2.1 - - [29/Nov/2026:03:06:15 +0000] \"GET "
           "/AAAAAAAAAAAAAAAAAB.jpg?download=cat.jpg HTTP/1.1\" 200 1532 "
           "\"https://example.org/a\" \"curl/8\" 812 634 0123456789abcdef 10.0.0.7:7003 miss "
           "TLSv1.3 -\n");
  CHECK_EQ(LineOf(record, AccessFormat::kJson),
           "{\"time\":\"2026-11-29T03:06:15.123Z\",\"client\":\"192.0.2.1\",\"method\":\"GET\","
           "\"target\":\"/AAAAAAAAAAAAAAAAAB.jpg?download=cat.jpg\",\"protocol\":\"1.1\","
           "\"status\":200,\"sent_bytes\":1532,\"referer\":\"https://example.org/a\","
           "\"user_agent\":\"curl/8\",\"us\":812,\"first_byte_us\":634,"
           "\"request_id\":\"0123456789abcdef\",\"dsp\":\"10.0.0.7:7003\",\"cache\":\"miss\","
           "\"tls\":\"TLSv1.3\"}\n");
  AccessRecord unparsed;
  unparsed.status = 400;
  unparsed.broken = true;
  CHECK_EQ(LineOf(unparsed),
           "- - - [01/Jan/1970:00:00:00 +0000] \"-\" 400 0 \"-\" \"-\" 0 0 - - - - broken\n");
  CHECK_EQ(LineOf(unparsed, AccessFormat::kJson),
           "{\"time\":\"1970-01-01T00:00:00.000Z\",\"client\":\"-\",\"status\":400,"
           "\"sent_bytes\":0,\"us\":0,\"first_byte_us\":0,\"end\":\"broken\"}\n");
}

TEST_CASE("access_log: no client forges a line or steers a terminal (S23)") {
  const std::string head =
      "GET /a\"b?x=\"%0a HTTP/1.0\r\nHost: h\r\nUser-Agent: \xc2\x9b\t31m\" 200 0 \\\"\r\n\r\n";
  const AccessRecord record = RecordOf(head);
  const std::string combined = LineOf(record);
  CHECK_NE(combined.find("\"GET /a\\x22b?x=* HTTP/1.0\""), std::string::npos);
  CHECK_NE(combined.find("\"\\xc2\\x9b\\x0931m\\x22 200 0 \\x5c\\x22\""), std::string::npos);
  for (const AccessFormat format : {AccessFormat::kCombined, AccessFormat::kJson}) {
    const std::string line = LineOf(record, format);
    CHECK_EQ(line.find('\n'), line.size() - 1);
    CHECK(std::all_of(line.begin(), line.end() - 1, [](char c) { return c >= ' ' && c < 0x7f; }));
  }
  CHECK_NE(LineOf(record, AccessFormat::kJson).find("\\\\x22 200 0"), std::string::npos);
}

TEST_CASE("access_log: values of a query are told only when they are known to be harmless (S18)") {
  CHECK_EQ(RedactQuery("expires=17&signature=canary&download=a.jpg"),
           "expires=*&signature=*&download=a.jpg");
  CHECK_EQ(RedactQuery("canary"), "*");
  CHECK_EQ(RedactQuery("=canary&&a=b=canary&canary%20=1"), "*&&a=*&*");
  CHECK_EQ(RedactQuery(std::string(33, 'c') + "=1"), "*");
  CHECK_EQ(RedactQuery(""), "");
  const std::string line =
      LineOf(RecordOf("GET /x?sig=canary HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer canary\r\n"
                      "Hayloft-Delete-Token: canary\r\nCookie: canary\r\n"
                      "Referer: http://canary@example.org/p?token=canary#canary\r\n\r\n"));
  CHECK_EQ(line.find("canary"), std::string::npos);
  CHECK_NE(line.find("\"*@example.org/p?token=*\""), std::string::npos);
}

TEST_CASE("access_log: what is too long is cut, so that a line has a bound") {
  const AccessRecord record =
      RecordOf("GET /" + std::string(8'000, 'a') +
               " HTTP/1.1\r\nHost: h\r\nUser-Agent: " + std::string(8'000, '\x01' + 'a') +
               "\r\nReferer: " + std::string(8'000, 'c') + "\r\n\r\n");
  CHECK_EQ(record.target.size(), kAccessTargetBytesMax + 3);
  CHECK_EQ(record.user_agent.size(), kAccessFieldBytesMax + 3);
  CHECK_EQ(record.referer.size(), kAccessFieldBytesMax + 3);
  CHECK_LT(LineOf(record).size(), 2'000);
}

TEST_CASE("peer_address: text as RFC 5952 writes it, and limits by /64 (S01)") {
  const auto v6 = [](std::initializer_list<uint16_t> groups) {
    PeerAddress peer;
    size_t i = 0;
    for (const uint16_t group : groups) {
      peer.bytes[i++] = static_cast<uint8_t>(group >> 8);
      peer.bytes[i++] = static_cast<uint8_t>(group & 0xff);
    }
    return peer;
  };
  CHECK_EQ(PeerAddress::OfV4({127, 0, 0, 1}).Text(), "127.0.0.1");
  CHECK_EQ(v6({0, 0, 0, 0, 0, 0xffff, 0x7f00, 1}).Text(), "127.0.0.1");
  CHECK_EQ(v6({0x2001, 0xdb8, 0, 0, 1, 0, 0, 1}).Text(), "2001:db8::1:0:0:1");
  CHECK_EQ(v6({0x2001, 0xdb8, 0, 1, 1, 1, 1, 1}).Text(), "2001:db8:0:1:1:1:1:1");
  CHECK_EQ(v6({0, 0, 0, 0, 0, 0, 0, 1}).Text(), "::1");
  CHECK_EQ(v6({0xfe80, 0, 0, 0, 0, 0, 0, 0}).Text(), "fe80::");
  CHECK_EQ(PeerAddress().Text(), "-");
  const PeerAddress one = v6({0x2001, 0xdb8, 0, 5, 1, 2, 3, 4});
  CHECK_EQ(one.LimitKey(), v6({0x2001, 0xdb8, 0, 5, 9, 9, 9, 9}).LimitKey());
  CHECK_NE(one.LimitKey(), v6({0x2001, 0xdb8, 0, 6, 1, 2, 3, 4}).LimitKey());
  CHECK_NE(PeerAddress::OfV4({192, 0, 2, 1}).LimitKey(),
           PeerAddress::OfV4({192, 0, 2, 2}).LimitKey());
}

TEST_CASE("line_writer: lines of several threads stay whole, also over a reopening") {
  const TempFolder folder;
  const std::string path = folder.path() + "/access.log";
  Counter lost;
  constexpr int kThreads = 4;
  constexpr int kLines = 500;
  {
    const std::unique_ptr<LineWriter> writer = LineWriter::Open(path, &lost);
    REQUIRE(writer != nullptr);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&writer, t] {
        for (int i = 0; i < kLines; ++i)
          writer->Write(std::string(50, static_cast<char>('a' + t)) + "\n");
      });
    }
    std::filesystem::rename(path, path + ".1");
    writer->Reopen();
    for (std::thread& thread : threads) thread.join();
  }
  std::istringstream lines(ReadAll(path + ".1") + ReadAll(path));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    CHECK_EQ(line, std::string(50, line.front()));
  }
  CHECK_EQ(count, kThreads * kLines);
  CHECK_EQ(lost.value(), 0);
  CHECK(std::filesystem::exists(path));
}

TEST_CASE("line_writer: what a disk refuses is counted") {
  Counter lost;
  CHECK_EQ(LineWriter::Open("/nonexistent/access.log", &lost), nullptr);
  {
    const std::unique_ptr<LineWriter> writer = LineWriter::Open("/dev/full", &lost);
    REQUIRE(writer != nullptr);
    writer->Write("a\nb\n");
    writer->Write("c\n");
  }
  CHECK_EQ(lost.value(), 3);
}

// A reader that never reads: the writer's thread is stuck in its write, as on a disk that hangs.
TEST_CASE("line_writer: beyond its bound lines are lost, and nobody waits") {
  const TempFolder folder;
  const std::string path = folder.path() + "/pipe";
  REQUIRE_EQ(::mkfifo(path.c_str(), 0600), 0);
  std::ifstream reader;
  std::thread opener([&] { reader.open(path); });
  Counter lost;
  std::unique_ptr<LineWriter> writer = LineWriter::Open(path, &lost);
  opener.join();
  REQUIRE(writer != nullptr);
  const std::string chunk = std::string((64 << 10) - 1, 'x') + "\n";
  for (size_t sent = 0; sent < 2 * LineWriter::kWaitingBytesMax; sent += chunk.size()) {
    writer->Write(chunk);
  }
  CHECK_GT(lost.value(), 100);
  std::thread drain([&] { reader.ignore(std::numeric_limits<std::streamsize>::max()); });
  writer.reset();
  drain.join();
}

TEST_CASE("request_times: each kind has its own histograms, one HELP line for all") {
  RequestTimes times;
  times.NoteFirstByte(RequestKind::kUpload, 100);
  times.NoteWhole(RequestKind::kUpload, 200);
  MetricsText text;
  times.Print(&text);
  const std::string& printed = text.text();
  CHECK_NE(printed.find("hayloft_gateway_request_us_sum{kind=\"upload\"} 200\n"),
           std::string::npos);
  CHECK_NE(printed.find("hayloft_gateway_first_byte_us_sum{kind=\"upload\"} 100\n"),
           std::string::npos);
  CHECK_NE(printed.find("hayloft_gateway_request_us_count{kind=\"read\"} 0\n"), std::string::npos);
  const std::string type = "# TYPE hayloft_gateway_request_us histogram\n";
  CHECK_NE(printed.find(type), std::string::npos);
  CHECK_EQ(printed.find(type, printed.find(type) + 1), std::string::npos);
}
