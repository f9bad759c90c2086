// Upload keys and signed URLs: what each lets its holder do, and what it does not.
#include "gateway/rights.h"

#include <doctest/doctest.h>

#include <string>

#include "gateway/nonce_table.h"

using namespace hayloft;
using Kind = RightsVerdict::Kind;

namespace {

constexpr uint64_t kNowS = 1'800'000'000;
const std::string kId = ToText({.block_id = 7, .file_id = FileId::Of(3, 99)});
const std::string kKeyText = UploadKeyText({1, 2, 3});
const SigningKey kOld{.id = "old", .secret = std::string(32, 'o')};
const SigningKey kNew{.id = "new", .secret = std::string(32, 'n')};

Rights Make(bool signed_reads = true, uint64_t skew_s = 0) {
  return Rights({.signing = {kOld, kNew},
                 .upload = {{.name = "shop", .hash = Sha256Of(AsBytes(kKeyText))}},
                 .signed_reads = signed_reads,
                 .skew_s = skew_s});
}

struct Ask {
  HttpMethod method = HttpMethod::kGet;
  std::string path = "/" + kId;
  std::string query{};
  std::string authorization{};
  uint64_t now_s = kNowS;
};

RightsVerdict Verdict(const Rights& rights, const Ask& ask) {
  return rights.Check({.kind = RouteOf(ask.method, ask.path, PageTable("none")).kind,
                       .method = ask.method,
                       .path = ask.path,
                       .query = ask.query,
                       .authorization = ask.authorization,
                       .now_s = ask.now_s});
}

Kind KindOf(const Rights& rights, const Ask& ask) { return Verdict(rights, ask).kind; }

std::string Signed(UrlGrant grant, const SigningKey& key = kNew) {
  if (grant.expires_s == 0) grant.expires_s = kNowS + 60;
  const Result<std::string> query = SignedQuery(key, grant);
  REQUIRE(query.ok());
  return *query;
}

const std::string kFiles = "/v1/files";
const std::string kJson = kFiles + "/" + kId;

}  // namespace

TEST_CASE("rights: each verb needs its own, and by default has none (S14)") {
  const Rights rights = Make();
  const std::string key = "Bearer " + kKeyText;
  struct Row {
    HttpMethod method;
    std::string path;
    Kind with_nothing;
    Kind with_key;
  };
  const Row rows[] = {
      {HttpMethod::kPost, kFiles, Kind::kNoKey, Kind::kAllowed},
      {HttpMethod::kGet, "/" + kId, Kind::kNoUrl, Kind::kNoUrl},
      {HttpMethod::kHead, "/" + kId + ".png", Kind::kNoUrl, Kind::kNoUrl},
      {HttpMethod::kGet, kJson, Kind::kNoKey, Kind::kAllowed},
      {HttpMethod::kHead, kJson, Kind::kNoKey, Kind::kAllowed},
      // The delete token is a right of its own.
      {HttpMethod::kDelete, kJson, Kind::kAllowed, Kind::kAllowed},
      {HttpMethod::kPost, kJson + "/undelete", Kind::kAllowed, Kind::kAllowed},
      {HttpMethod::kGet, "/healthz", Kind::kAllowed, Kind::kAllowed},
      {HttpMethod::kGet, "/readyz", Kind::kAllowed, Kind::kAllowed},
      {HttpMethod::kOptions, kFiles, Kind::kAllowed, Kind::kAllowed},
      {HttpMethod::kGet, "/metrics", Kind::kAllowed, Kind::kAllowed},
  };
  for (const Row& row : rows) {
    CAPTURE(row.path);
    CHECK_EQ(KindOf(rights, {.method = row.method, .path = row.path}), row.with_nothing);
    CHECK_EQ(KindOf(rights, {.method = row.method, .path = row.path, .authorization = key}),
             row.with_key);
    const bool reads = row.method == HttpMethod::kGet || row.method == HttpMethod::kHead;
    if (reads && row.with_nothing != Kind::kAllowed) {
      CHECK_EQ(KindOf(Make(false), {.method = row.method, .path = row.path}), Kind::kAllowed);
    }
  }
}

TEST_CASE("rights: an upload key counts as a bearer token and in no other shape") {
  const Rights rights = Make();
  const auto upload = [&rights](const std::string& authorization) {
    return KindOf(rights,
                  {.method = HttpMethod::kPost, .path = kFiles, .authorization = authorization});
  };
  for (const char* scheme : {"Bearer ", "bearer ", "BEARER  "}) {
    CHECK_EQ(upload(scheme + kKeyText), Kind::kAllowed);
  }
  for (const std::string& none : {std::string(), std::string("Basic eDp5"), kKeyText,
                                  "Bearer2 " + kKeyText, "Bearer\t" + kKeyText}) {
    CAPTURE(none);
    CHECK_EQ(upload(none), Kind::kNoKey);
  }
  for (const std::string& wrong :
       {std::string("Bearer"), std::string("Bearer "), "Bearer " + kKeyText + "x",
        "Bearer " + kKeyText.substr(1), "Bearer " + kKeyText + " " + kKeyText,
        "Bearer " + ToHex(Sha256Of(AsBytes(kKeyText)))}) {  // what the file holds opens nothing
    CAPTURE(wrong);
    CHECK_EQ(upload(wrong), Kind::kWrongKey);
  }
  const RightsVerdict verdict = Verdict(
      rights, {.method = HttpMethod::kPost, .path = kFiles, .authorization = "Bearer " + kKeyText});
  CHECK_EQ(verdict.key_name, "shop");
  CHECK_FALSE(verdict.seconds_left.has_value());
}

TEST_CASE("rights: a signed URL is for its method, path, time and key (S15)") {
  const Rights rights = Make();
  const std::string query = Signed({.method = "GET", .path = "/" + kId});
  CHECK_EQ(KindOf(rights, {.query = query}), Kind::kAllowed);
  CHECK_EQ(KindOf(rights, {.method = HttpMethod::kHead, .query = query}), Kind::kAllowed);
  CHECK_EQ(KindOf(rights, {.query = "download=x&" + query + "&utm=1"}), Kind::kAllowed);
  CHECK_EQ(KindOf(rights, {.path = "/" + kId + ".png", .query = query}), Kind::kWrongUrl);
  CHECK_EQ(KindOf(rights, {.path = kJson, .query = query}), Kind::kWrongUrl);
  CHECK_EQ(KindOf(rights, {.method = HttpMethod::kDelete, .path = kJson, .query = query}),
           Kind::kWrongUrl);
  for (const std::string& bad :
       {query.substr(0, query.size() - 1), query + "&hl-limit=1", query + "&hl-key=new",
        std::string("hl-sig="), std::string("hl-x"), std::string("hl-"),
        Signed({.method = "GET", .path = "/" + kId}, {.id = "new", .secret = kOld.secret}),
        Signed({.method = "GET", .path = "/" + kId}, {.id = "x", .secret = kNew.secret})}) {
    CAPTURE(bad);
    CHECK_EQ(KindOf(rights, {.query = bad}), Kind::kWrongUrl);
    CHECK(Verdict(rights, {.query = bad}).key_name.empty());
  }
  // A bad URL is not made good by a key, nor where nothing would be needed.
  CHECK_EQ(KindOf(rights, {.path = kJson, .query = query, .authorization = "Bearer " + kKeyText}),
           Kind::kWrongUrl);
  CHECK_EQ(KindOf(Make(false), {.query = "hl-sig=x"}), Kind::kWrongUrl);
  // Without signing keys such parameters are as any other.
  const Rights none({.signing = {}, .upload = rights.keys().upload});
  CHECK_EQ(KindOf(none, {.query = "hl-sig=x"}), Kind::kAllowed);
  CHECK_EQ(KindOf(none, {.method = HttpMethod::kPost, .path = kFiles, .query = query}),
           Kind::kNoKey);
}

TEST_CASE("rights: a URL expires to the second, and only a true one says so (S15)") {
  const std::string query = Signed({.method = "GET", .path = "/" + kId, .expires_s = kNowS + 60});
  const Rights rights = Make();
  const auto at = [&query](const Rights& of, uint64_t now_s) {
    return Verdict(of, {.query = query, .now_s = now_s});
  };
  CHECK_EQ(at(rights, kNowS).seconds_left, 60);
  CHECK_EQ(at(rights, kNowS + 59).seconds_left, 1);
  CHECK_EQ(at(rights, kNowS + 59).key_name, "new");
  CHECK_EQ(at(rights, kNowS + 60).kind, Kind::kExpired);
  CHECK_EQ(at(rights, kNowS + 60).key_name, "new");
  std::string forged = query;
  forged[forged.find("hl-sig=") + 7] ^= 1;
  CHECK_EQ(KindOf(rights, {.query = forged, .now_s = kNowS + 60}), Kind::kWrongUrl);
  // With an allowance for clocks it holds longer, and nothing may be cached then.
  const Rights lenient = Make(true, kClockSkewSecondsMax);
  CHECK_EQ(at(lenient, kNowS + 359).kind, Kind::kAllowed);
  CHECK_EQ(at(lenient, kNowS + 359).seconds_left, 0);
  CHECK_EQ(at(lenient, kNowS + 360).kind, Kind::kExpired);
  // The largest number that a URL may hold overflows nothing.
  const std::string far =
      Signed({.method = "GET", .path = "/" + kId, .expires_s = 999'999'999'999'999'999});
  CHECK_EQ(KindOf(lenient, {.query = far}), Kind::kAllowed);
}

TEST_CASE("rights: what a URL allows to upload comes with it") {
  // Parts of the verdict are views of the query, another one of the keys.
  const Rights rights = Make();
  const Ask ask{.method = HttpMethod::kPost,
                .path = kFiles,
                .query = Signed({.method = "POST",
                                 .path = kFiles,
                                 .limit_bytes = 1'000,
                                 .type = "image/*",
                                 .nonce = "abcdefgh"},
                                kOld)};
  const RightsVerdict verdict = Verdict(rights, ask);
  CHECK(verdict.allowed());
  CHECK_EQ(verdict.body_bytes_max, 1'000);
  CHECK_EQ(verdict.type, "image/*");
  CHECK_EQ(verdict.nonce, "abcdefgh");
  CHECK_EQ(verdict.honoured_until_s, kNowS + 60);
  CHECK_EQ(verdict.key_name, "old");
}

TEST_CASE("rights: \"once\" is for what changes something, and for a day at most") {
  const Rights rights = Make();
  const auto upload = [&rights](uint64_t expires_s) {
    return KindOf(
        rights,
        {.method = HttpMethod::kPost,
         .path = kFiles,
         .query = Signed(
             {.method = "POST", .path = kFiles, .expires_s = expires_s, .nonce = "abcdefgh"})});
  };
  CHECK_EQ(upload(kNowS + kUrlNonceLifeMaxS + kClockSkewSecondsMax), Kind::kAllowed);
  CHECK_EQ(upload(kNowS + kUrlNonceLifeMaxS + kClockSkewSecondsMax + 1), Kind::kWrongUrl);
  for (const std::string& path : {"/" + kId, kJson}) {
    const std::string query = Signed({.method = "GET", .path = path, .nonce = "abcdefgh"});
    CHECK_EQ(KindOf(rights, {.path = path, .query = query}), Kind::kWrongUrl);
  }
  const std::string query = Signed({.method = "DELETE", .path = kJson, .nonce = "abcdefgh"});
  CHECK_EQ(KindOf(rights, {.method = HttpMethod::kDelete, .path = kJson, .query = query}),
           Kind::kAllowed);
}

TEST_CASE("rights: a type fits by its essence, a pattern by what stands before the slash") {
  CHECK(TypeFits("image/png", "image/png"));
  CHECK(TypeFits("image/*", "IMAGE/png; x=y"));
  CHECK(TypeFits("Text/Plain", "text/plain ;charset=utf-8"));
  CHECK_FALSE(TypeFits("image/png", "image/pngx"));
  CHECK_FALSE(TypeFits("image/*", "imagex/png"));
  CHECK_FALSE(TypeFits("image/*", "text/plain; image/png"));
  CHECK_FALSE(TypeFits("image/*", "image"));
  CHECK_FALSE(TypeFits("image/png", ""));
}

TEST_CASE("nonce_table: a nonce is spent once while its URL lives, and is never pushed out (S15)") {
  using Outcome = NonceTable::Outcome;
  NonceTable table(3);
  CHECK_EQ(table.Spend("k", "one", 100, 0), Outcome::kFresh);
  CHECK_EQ(table.Spend("k", "one", 100, 99), Outcome::kSpent);
  CHECK_EQ(table.Spend("k", "one", 200, 99), Outcome::kSpent);  // another URL with its nonce
  CHECK_EQ(table.Spend("ko", "ne", 100, 0), Outcome::kFresh);
  CHECK_EQ(table.Spend("l", "one", 50, 0), Outcome::kFresh);
  CHECK_EQ(table.Spend("m", "two", 100, 0), Outcome::kFull);
  CHECK_EQ(table.Spend("k", "one", 100, 0), Outcome::kSpent);
  const uint64_t late_s = NonceTable::kForgetAfterS;
  CHECK_EQ(table.Spend("l", "one", 50, 49 + late_s), Outcome::kSpent);   // by a clock behind others
  CHECK_EQ(table.Spend("m", "two", 100, 50 + late_s), Outcome::kFresh);  // in place of that one
  CHECK_EQ(table.size(), 3);
  CHECK_EQ(table.Spend("k", "one", 200, 100 + late_s), Outcome::kFresh);
  CHECK_EQ(table.size(), 1);
}

TEST_CASE("nonce_table: who signs many leaves room for the other keys, however many do so") {
  using Outcome = NonceTable::Outcome;
  NonceTable table(120);
  // As many as it takes. The next ones are refused, too.
  const auto fill = [&table](const std::string& key) {
    uint64_t taken = 0;
    while (table.Spend(key, std::to_string(taken), 100, 0) == Outcome::kFresh) ++taken;
    CHECK_EQ(table.Spend(key, "more", 100, 0), Outcome::kFull);
    return taken;
  };
  CHECK_EQ(fill("greedy"), 60);
  CHECK_EQ(fill("second"), 30);
  CHECK_EQ(table.Spend("shop", "one", 100, 0), Outcome::kFresh);
  CHECK_EQ(table.Spend("shop", "two", 100, 0), Outcome::kFresh);
  CHECK_EQ(table.Spend("greedy", "0", 100, 0), Outcome::kSpent);
  CHECK_EQ(table.size(), 92);
  CHECK_EQ(table.Spend("greedy", "more", 200, 100 + NonceTable::kForgetAfterS), Outcome::kFresh);
  CHECK_EQ(table.size(), 1);
}

TEST_CASE("rights: names are written by a key or a URL, deleted by their token too") {
  const std::string names = "/v1/names";
  const std::string bearer = "Bearer " + kKeyText;
  const std::string wrong = "Bearer " + UploadKeyText({4});
  const Rights rights = Make();
  for (const HttpMethod method : {HttpMethod::kPut, HttpMethod::kDelete}) {
    const Ask ask{.method = method, .path = names + "/a"};
    Ask keyed = ask;
    keyed.authorization = bearer;
    CHECK_EQ(Verdict(rights, keyed).key_name, "shop");
    keyed.authorization = wrong;
    CHECK_EQ(KindOf(rights, keyed), Kind::kWrongKey);
    Ask url = ask;
    url.query = Signed({.method = HttpMethodName(method), .path = ask.path, .nonce = "for-once"});
    CHECK_EQ(Verdict(rights, url).key_name, "new");
    url.path = names + "/b";
    CHECK_EQ(KindOf(rights, url), Kind::kWrongUrl);
  }
  CHECK_EQ(KindOf(rights, {.method = HttpMethod::kPut, .path = names + "/a"}), Kind::kNoKey);
  // Its token is checked elsewhere.
  const RightsVerdict by_token =
      Verdict(rights, {.method = HttpMethod::kDelete, .path = names + "/a"});
  CHECK(by_token.allowed());
  CHECK_EQ(by_token.key_name, "");
  CHECK_EQ(KindOf(rights, {.path = names + "/a"}), Kind::kNoUrl);
  CHECK(Verdict(Make(false), {.path = names + "/a"}).allowed());
  for (const bool signed_reads : {true, false}) {
    CHECK_EQ(KindOf(Make(signed_reads), {.path = names}), Kind::kNoKey);
    CHECK(Verdict(Make(signed_reads), {.path = names, .authorization = bearer}).allowed());
  }
}
