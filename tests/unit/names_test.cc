// What can be decided of names without asking anybody.
#include "gateway/names.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <memory>

#include "common/limits.h"

using namespace hayloft;

namespace {

std::unique_ptr<HttpRequest> Parsed(const std::string& bytes) {
  auto request = std::make_unique<HttpRequest>();
  REQUIRE_EQ(ParseHttpRequest(bytes, 0, request.get()).kind, HttpParsed::Kind::kRequest);
  return request;
}

std::string Kept(const std::string& headers, const std::string& line = "GET /v1/names/a") {
  const std::string bytes = line + " HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n";
  return KeptHead(*Parsed(bytes));
}

bool MayProceed(const std::string& headers, const std::string& etag) {
  const std::string kept = Kept(headers, "PUT /v1/names/a");
  return WriteMayProceed(*Parsed(kept), etag);
}

using Names = std::vector<std::string>;
pb::DirNameListReply Reply(const Names& names, bool more, const std::string& last) {
  pb::DirNameListReply reply;
  for (const std::string& name : names) reply.add_names()->set_name(name);
  reply.set_more(more);
  reply.set_last(last);
  return reply;
}

// What a shard answers that has these names and those, which were deleted.
pb::DirNameListReply Answer(const std::map<std::string, bool>& rows, const std::string& after,
                            size_t limit, size_t looked_at_max) {
  pb::DirNameListReply reply;
  size_t looked_at = 0;
  for (auto row = rows.upper_bound(after); row != rows.end(); ++row) {
    if (reply.names_size() == static_cast<int>(limit) || ++looked_at > looked_at_max) {
      reply.set_more(true);
      break;
    }
    reply.set_last(row->first);
    if (row->second) reply.add_names()->set_name(row->first);
  }
  return reply;
}

}  // namespace

TEST_CASE("names: any bytes that are UTF-8, never interpreted") {
  CHECK_EQ(DecodeName("a"), "a");
  CHECK_EQ(DecodeName("a/b%2Fc/../.d//+%20%00"), std::string("a/b/c/../.d//+ ") + '\0');
  CHECK_EQ(DecodeName("%c3%A4"), "\xc3\xa4");
  CHECK_EQ(DecodeName(std::string(kNameBytesMax, 'n'))->size(), kNameBytesMax);
  for (const std::string& bad :
       std::vector<std::string>{"", "%", "%4", "%4g", "%c3", "%ff", "%ed%a0%80", "%c0%80",
                                std::string(kNameBytesMax + 1, 'n')}) {
    CAPTURE(bad);
    CHECK_FALSE(DecodeName(bad).has_value());
  }
}

TEST_CASE("names: a path leads back to its name") {
  for (const std::string& name : std::vector<std::string>{
           "a.png", "a b/c?d#e%41", "\xc3\xa4\xe2\x82\xac", std::string("\0\r\n\x7f", 4)}) {
    const std::string path = NamePath(name);
    CHECK(path.starts_with("/v1/names/"));
    CHECK_EQ(path.find_first_of(" ?#\r\n"), std::string::npos);
    CHECK_EQ(DecodeName(path.substr(10)), name);
  }
  CHECK_EQ(NamePath("a/b"), "/v1/names/a%2Fb");
}

TEST_CASE("names: what a file's tag decides later is kept, dates are not") {
  const std::string kept = Kept(
      "If-None-Match: \"a\"\r\nRange: bytes=1-2\r\nAccept-Encoding: zstd\r\n"
      "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\nCookie: x\r\nHayloft-Id: y\r\n",
      "GET /v1/names/a?download=b");
  const auto request = Parsed(kept);
  CHECK_EQ(request->method, HttpMethod::kGet);
  CHECK_EQ(request->query, "download=b");
  CHECK_EQ(request->Value(HttpField::kIfNoneMatch), "\"a\"");
  CHECK_EQ(request->Value(HttpField::kRange), "bytes=1-2");
  CHECK_EQ(request->Value(HttpField::kAcceptEncoding), "zstd");
  CHECK_EQ(request->Count(HttpField::kIfModifiedSince), 0);
  CHECK_EQ(request->Count(HttpField::kFileId), 0);
  CHECK_EQ(request->headers().size(), 4);
  const std::string tag = Kept("If-Range: \"t\"\r\n");
  CHECK_EQ(Parsed(tag)->Value(HttpField::kIfRange), "\"t\"");
  // A range whose condition is a date must not be served as if it held, nor as if it had none.
  const std::string date = Kept("If-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
  CHECK(Parsed(date)->Value(HttpField::kIfRange).starts_with('"'));
}

TEST_CASE("names: conditions of a write") {
  CHECK(MayProceed("", ""));
  CHECK(MayProceed("", "\"x\""));
  CHECK(MayProceed("If-None-Match: *\r\n", ""));
  CHECK_FALSE(MayProceed("If-None-Match: *\r\n", "\"x\""));
  CHECK(MayProceed("If-None-Match: \"y\"\r\n", "\"x\""));
  CHECK_FALSE(MayProceed("If-None-Match: \"x\"\r\n", "\"x\""));
  CHECK(MayProceed("If-Match: \"x\"\r\n", "\"x\""));
  CHECK(MayProceed("If-Match: *\r\n", "\"x\""));
  CHECK_FALSE(MayProceed("If-Match: \"y\"\r\n", "\"x\""));
  CHECK_FALSE(MayProceed("If-Match: \"x\"\r\n", ""));
  CHECK_FALSE(MayProceed("If-Match: *\r\n", ""));
}

TEST_CASE("names: the query of a list") {
  const auto query = ParseNamesQuery("prefix=a%2Fb+c&after=a%2fz&limit=7&x=y");
  REQUIRE(query.has_value());
  CHECK_EQ(query->prefix, "a/b c");
  CHECK_EQ(query->after, "a/z");
  CHECK_EQ(query->limit, 7);
  CHECK_EQ(ParseNamesQuery("")->limit, 100);
  CHECK_EQ(ParseNamesQuery("limit=1000")->limit, 1000);
  for (const std::string& bad : std::vector<std::string>{
           "limit=0", "limit=1001", "limit=", "limit=-1", "limit=99999999999", "limit=1x",
           "prefix=%", "prefix=%ff", "after=" + std::string(kNameBytesMax + 1, 'a')}) {
    CAPTURE(bad);
    CHECK_FALSE(ParseNamesQuery(bad).has_value());
  }
}

TEST_CASE("names: pages over several shards have each name once, in order") {
  std::vector<std::map<std::string, bool>> shards(3);
  Names all;
  for (int i = 0; i < 300; ++i) {
    std::string name = std::to_string(i * 7919 % 1000);
    const bool deleted = i % 5 == 0;
    if (!deleted) all.push_back(name);
    shards[static_cast<size_t>(i % 7 % 3)][std::move(name)] = !deleted;
  }
  std::sort(all.begin(), all.end());
  for (const size_t limit : {1, 2, 7, 100, 1000}) {
    for (const size_t looked_at_max : {1, 3, 1000}) {
      Names found;
      std::string after;
      for (bool more = true; more;) {
        std::vector<pb::DirNameListReply> replies;
        for (const auto& rows : shards) {
          const size_t share = NamesOfShard(static_cast<uint32_t>(limit), 3);
          replies.push_back(Answer(rows, after, share, looked_at_max));
        }
        const NamesPage page = MergeNames(std::move(replies), limit);
        CHECK_LE(page.names.size(), limit);
        for (const pb::DirNamed& named : page.names) found.push_back(named.name());
        more = page.more;
        REQUIRE((!more || page.after > after));
        after = page.after;
      }
      CHECK_EQ(found, all);
    }
  }
  // However many shards there are, what they answer together stays near a page.
  for (const uint32_t shards_many : {1u, 3u, 16u, 256u}) {
    CHECK_LE(NamesOfShard(1'000, shards_many) * shards_many, 6'100);
    CHECK_GE(NamesOfShard(1'000, shards_many) * shards_many, 1'000);
    CHECK_EQ(NamesOfShard(1, shards_many), 1);
  }
  const NamesPage none = MergeNames({Reply({}, false, ""), Reply({}, false, "")}, 10);
  CHECK(none.names.empty());
  CHECK_FALSE(none.more);
}
