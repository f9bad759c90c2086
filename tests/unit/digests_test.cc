#include "gateway/digests.h"

#include <doctest/doctest.h>

#include <utility>
#include <vector>

using namespace hayloft;

namespace {

// The content of RFC 9530 appendices B and D, and its digests there.
const std::string kHello = "{\"hello\": \"world\"}\n";
const std::string kMd5 = "UFIauregE76D7gDe0/n0JA==";
const std::string kSha1 = "yyTATouGJ50S3R4iWotz3qq6P9Y=";
const std::string kSha256 = "RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=";
const std::string kSha512 =
    "YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==";
const std::string kOther256 = "X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=";  // without newline

using Headers = std::vector<std::pair<HttpField, std::string>>;

enum class Outcome { kMalformed, kDiffers, kMatches };

Outcome Judge(const Headers& headers, std::string_view content = kHello, size_t step = 5) {
  ExpectedDigests digests;
  for (const auto& [field, value] : headers) {
    if (!digests.Add(field, value)) return Outcome::kMalformed;
  }
  Hasher hasher;
  for (size_t at = 0; at < content.size(); at += step) {
    const std::string_view piece = content.substr(at, step);
    digests.Update(AsBytes(piece));
    hasher.Update(AsBytes(piece));
  }
  Sha1 sha1;
  Sha256 sha256;
  hasher.Finish(&sha1, &sha256);
  return digests.Matches(sha1, sha256) ? Outcome::kMatches : Outcome::kDiffers;
}

void CheckAll(HttpField field, Outcome outcome, std::initializer_list<std::string> values) {
  for (const std::string& value : values) {
    CAPTURE(value);
    CHECK_EQ(Judge({{field, value}}), outcome);
  }
}

}  // namespace

TEST_CASE("digests: Content-MD5 of RFC 1864") {
  const HttpField field = HttpField::kContentMd5;
  CheckAll(field, Outcome::kMatches, {kMd5});
  CHECK_EQ(Judge({{field, "1B2M2Y8AsgTpgAmY7PhCfg=="}}, ""), Outcome::kMatches);
  CHECK_EQ(Judge({{field, "kAFQmDzST7DWlj99KOF/cg=="}}, "abc", 1), Outcome::kMatches);
  CheckAll(field, Outcome::kDiffers, {"1B2M2Y8AsgTpgAmY7PhCfg=="});
  CheckAll(field, Outcome::kMalformed,
           {"", "=", "==", kMd5.substr(0, 22), kMd5.substr(0, 23), kMd5 + "=", kSha1,
            "UFIauregE76D7gDe0/n0JB==", "UFIauregE76D7gDe0_n0JA==", "UFIauregE76D7gDe0/n0J ==",
            "50521abab7a013be83ee00ded3f9f424", ":" + kMd5 + ":", kMd5 + ", " + kMd5});
}

TEST_CASE("digests: Hayloft-SHA1 is in hex, as answers have it") {
  const HttpField field = HttpField::kSha1;
  const std::string hex = "cb24c04e8b86279d12dd1e225a8b73deaaba3fd6";
  CheckAll(field, Outcome::kMatches, {hex});
  CheckAll(field, Outcome::kDiffers, {std::string(40, '0')});
  CheckAll(field, Outcome::kMalformed,
           {"", kSha1, hex.substr(1), hex + "0", hex + " ", "x" + hex.substr(1)});
  CHECK_EQ(Judge({{field, hex}, {HttpField::kDigest, "sha=" + kSha1}}), Outcome::kMatches);
  CHECK_EQ(Judge({{field, std::string(40, '0')}, {HttpField::kDigest, "sha=" + kSha1}}),
           Outcome::kMalformed);
}

TEST_CASE("digests: Digest of RFC 3230, a list with names in any case") {
  const HttpField field = HttpField::kDigest;
  CheckAll(field, Outcome::kMatches,
           {"sha-256=" + kSha256, "SHA-256=" + kSha256, "sha=" + kSha1, "SHA-1=" + kSha1,
            "md5=" + kMd5, "sha-512=" + kSha512, "SHA=" + kSha1 + ",md5=" + kMd5,
            "unixsum=30637,\tsha-256=" + kSha256 + " ,, crc32c=AAAAAA==",
            "sha-256=" + kSha256 + ",sha-256=" + kSha256, "id-sha-256=x", ""});
  CheckAll(field, Outcome::kDiffers,
           {"sha-256=" + kOther256, "md5=" + kMd5 + ",sha-256=" + kOther256,
            "sha-256=" + kSha256 + ",md5=1B2M2Y8AsgTpgAmY7PhCfg=="});
  CheckAll(field, Outcome::kMalformed,
           {"sha-256", "sha-256=", "=", "=x", "sha-256 =" + kSha256, "sha-256= " + kSha256,
            "sha-256=" + kSha1, "sha-256=:" + kSha256 + ":", "md5", "s ha=x", "sha-256=\"x\"",
            "sha-256=" + kSha256 + ",sha-256=" + kOther256, "sha-256=" + kSha256 + ";q=1"});
}

TEST_CASE("digests: Content-Digest and Repr-Digest of RFC 9530, dictionaries of RFC 8941") {
  for (const HttpField field : {HttpField::kContentDigest, HttpField::kReprDigest}) {
    const std::string sha256 = "sha-256=:" + kSha256 + ":";
    CheckAll(field, Outcome::kMatches,
             {sha256, "sha-512=:" + kSha512 + ":", "sha=:" + kSha1 + ":", "md5=:" + kMd5 + ":",
              sha256 + ",\tmd5=:" + kMd5 + ": ,sha=:" + kSha1 + ":", sha256 + "," + sha256,
              "crc32c=:AAAAAA==:, *x.y_z=::," + sha256, "sha-3=:x=y:", "",
              sha256 + ";a;b=1;  c=-1.5;d=\"x\\\"\\\\\";e=tok/en:x;f=?0;g=:YQ==:;*h=*i"});
    CheckAll(field, Outcome::kDiffers,
             {"sha-256=:" + kOther256 + ":", sha256 + ",sha-512=:" + std::string(86, 'A') + "==:"});
    CheckAll(field, Outcome::kMalformed,
             {"sha-256",
              "sha-256=",
              "sha-256=" + kSha256,
              "sha-256=:" + kSha256,
              "SHA-256=::",
              "Sha-256=:" + kSha256 + ":",
              "sha-256=::",
              "sha-256=:" + kSha1 + ":",
              sha256 + ",",
              "," + sha256,
              sha256 + ",," + sha256,
              sha256 + " " + sha256,
              sha256 + "x",
              "sha-256 =:" + kSha256 + ":",
              "sha-256= :" + kSha256 + ":",
              "sha-256=?1",
              "sha-256=(:" + kSha256 + ":)",
              "md5=\"" + kMd5 + "\"",
              "1a=::",
              "a=:-:",
              "a",
              sha256 + ";",
              sha256 + ";A",
              sha256 + ";a=",
              sha256 + ";a=\"",
              sha256 + ";a=\"\\x\"",
              sha256 + ";a=\"\t\"",
              sha256 + ";a=?2",
              sha256 + ";a=1.",
              sha256 + ";a=1.2345",
              sha256 + ";a=1234567890123456",
              sha256 + ";a=-",
              sha256 + ";a=(1)",
              sha256 + " ;a",
              sha256 + ",sha-256=:" + kOther256 + ":"});
  }
}

TEST_CASE("digests: all of the headers must hold together") {
  const std::string sha256 = "sha-256=:" + kSha256 + ":";
  CHECK_EQ(Judge({{HttpField::kContentMd5, kMd5},
                  {HttpField::kDigest, "sha=" + kSha1},
                  {HttpField::kContentDigest, sha256},
                  {HttpField::kReprDigest, "sha-512=:" + kSha512 + ":"}}),
           Outcome::kMatches);
  CHECK_EQ(Judge({{HttpField::kContentDigest, sha256},
                  {HttpField::kReprDigest, "sha-256=:" + kOther256 + ":"}}),
           Outcome::kMalformed);
  CHECK_EQ(Judge({{HttpField::kContentDigest, sha256}, {HttpField::kDigest, "md5=" + kMd5}}, "x"),
           Outcome::kDiffers);
  CHECK_EQ(Judge({}), Outcome::kMatches);
}
