// Signed URLs and the files that keys lie in.
#include "common/signed_url.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "common/key_file.h"

using namespace hayloft;

namespace {

const SigningKey kKey{.id = "k1", .secret = "0123456789abcdef0123456789abcdef"};
const UrlGrant kUpload{.method = "POST",
                       .path = "/v1/files",
                       .expires_s = 1'800'000'000,
                       .limit_bytes = 1'048'576,
                       .type = "image/*",
                       .nonce = "abcdefgh"};

bool Fits(const SigningKey& key, std::string_view method, std::string_view path,
          const std::string& query) {
  const SignedParameters url = FindSignedParameters(query);
  return url.present && !url.malformed && SignatureFits(key, {.method = method, .path = path}, url);
}

bool Malformed(const std::string& query) { return FindSignedParameters(query).malformed; }

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE_NE(at, std::string::npos);
  return text.replace(at, from.size(), to);
}

std::string WhyNoSigningKeys(std::string_view text) {
  std::string why;
  CHECK_EQ(ParseSigningKeys(text, &why).err(), Err::kConfig);
  return why;
}

}  // namespace

// The MAC was made by:
//   printf 'hayloft-url-v1\nPOST\n/v1/files\n1800000000\n1048576\nimage/*\nabcdefgh\nk1\n' |
//     openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef -binary | basenc --base64url
TEST_CASE("signed_url: the text that is signed is the documented one") {
  const Result<std::string> query = SignedQuery(kKey, kUpload);
  REQUIRE(query.ok());
  CHECK_EQ(*query,
           "hl-key=k1&hl-expires=1800000000&hl-limit=1048576&hl-type=image/*&hl-nonce=abcdefgh"
           "&hl-sig=sZJ5eJq5_ziT8ugTC-44eY-F4EBnpuAys94fPU7fdF8");
  CHECK(Fits(kKey, "POST", "/v1/files", *query));
  CHECK(Fits(kKey, "POST", "/v1/files", "download=x&" + *query + "&utm_source=y"));
}

TEST_CASE("signed_url: no part of the grant can be another one (S15)") {
  const std::string query = *SignedQuery(kKey, kUpload);
  CHECK_FALSE(Fits(kKey, "GET", "/v1/files", query));
  CHECK_FALSE(Fits(kKey, "DELETE", "/v1/files", query));
  CHECK_FALSE(Fits(kKey, "POST", "/v1/files/", query));
  CHECK_FALSE(Fits(kKey, "POST", "/v1/file", query));
  const std::vector<std::pair<std::string, std::string>> changes = {
      {"1800000000", "1800000001"}, {"limit=1048576", "limit=1048577"}, {"&hl-limit=1048576", ""},
      {"image/*", "image/png"},     {"&hl-type=image/*", ""},           {"abcdefgh", "abcdefgi"},
      {"hl-key=k1", "hl-key=k2"},   {"&hl-nonce=abcdefgh", ""}};
  for (const auto& [from, to] : changes) {
    CAPTURE(from);
    CHECK_FALSE(Fits(kKey, "POST", "/v1/files", Replaced(query, from, to)));
  }
  CHECK_FALSE(
      Fits({.id = "k1", .secret = "0123456789abcdef0123456789abcdeF"}, "POST", "/v1/files", query));
}

TEST_CASE("signed_url: a MAC with any one bit changed does not fit") {
  const std::string query = *SignedQuery(kKey, kUpload);
  const SignedParameters url = FindSignedParameters(query);
  for (size_t bit = 0; bit < 256; ++bit) {
    SignedParameters other = url;
    other.mac[bit / 8] = static_cast<uint8_t>(other.mac[bit / 8] ^ (1u << bit % 8));
    CHECK_FALSE(SignatureFits(kKey, {.method = "POST", .path = "/v1/files"}, other));
  }
}

TEST_CASE("signed_url: what is not exactly as we write it is malformed") {
  const std::string query = *SignedQuery(kKey, kUpload);
  CHECK_FALSE(Malformed(query));
  CHECK_FALSE(FindSignedParameters("").present);
  CHECK_FALSE(FindSignedParameters("a=b&HL-SIG=x&hl%2Dsig=y&xhl-sig=z").present);
  for (const char* other :
       {"&hl-expires=1800000000", "&hl-sig=", "&hl-future=1", "&hl-", "&hl-key", "&hl-key=k1"}) {
    CAPTURE(other);
    CHECK(Malformed(query + other));
  }
  const std::vector<std::pair<std::string, std::string>> changes = {
      {"expires=1800000000", "expires=01800000000"},
      {"expires=1800000000", "expires=+1800000000"},
      {"expires=1800000000", "expires=-1"},
      {"expires=1800000000", "expires="},
      {"expires=1800000000", "expires=9999999999999999999"},
      {"limit=1048576", "limit=0x10"},
      {"limit=1048576", "limit="},
      {"type=image/*", "type=image"},
      {"type=image/*", "type=*/*"},
      {"type=image/*", "type=image/"},
      {"type=image/*", "type=/png"},
      {"type=image/*", "type=image/p%6eg"},
      {"nonce=abcdefgh", "nonce=short"},
      {"nonce=abcdefgh", "nonce=" + std::string(65, 'a')},
      {"nonce=abcdefgh", "nonce=abcdefg~"},
      {"key=k1", "key="},
      {"key=k1", "key=" + std::string(65, 'k')},
      {"key=k1", "key=k%31"},
      {"&hl-expires=1800000000", ""},
      {"hl-key=k1&", ""}};
  for (const auto& [from, to] : changes) {
    CAPTURE(to);
    CHECK(Malformed(Replaced(query, from, to)));
  }
  for (size_t cut = 1; cut < 50; ++cut) CHECK(Malformed(query.substr(0, query.size() - cut)));
  CHECK(Malformed(query + "A"));
}

TEST_CASE("signed_url: a grant that could not be written into a URL is refused") {
  UrlGrant grant = kUpload;
  grant.path = "no-slash";
  CHECK_EQ(SignedQuery(kKey, grant).err(), Err::kInvalid);
  grant = kUpload;
  grant.type = "image/png&hl-limit=1";
  CHECK_EQ(SignedQuery(kKey, grant).err(), Err::kInvalid);
  grant = kUpload;
  grant.nonce = "a b c d e";
  CHECK_EQ(SignedQuery(kKey, grant).err(), Err::kInvalid);
  CHECK_EQ(SignedQuery({.id = "a&b", .secret = kKey.secret}, kUpload).err(), Err::kInvalid);
}

TEST_CASE("key_file: signing keys are hex or base64, comments and blanks are left out") {
  const std::string hex = "00112233445566778899aabbccddeeff";
  const std::string text = "# rotated in May\n\n  old  " + hex +
                           "\nnew\tABEiM0RVZneImaq7zN3u/w==\r\nurl ABEiM0RVZneImaq7zN3u_w";
  std::string why;
  const Result<std::vector<SigningKey>> keys = ParseSigningKeys(text, &why);
  REQUIRE(keys.ok());
  REQUIRE_EQ(keys->size(), 3);
  CHECK_EQ((*keys)[0].id, "old");
  CHECK_EQ((*keys)[2].id, "url");
  for (const SigningKey& key : *keys) CHECK_EQ(ToHex(AsBytes(key.secret)), hex);
}

TEST_CASE("key_file: a fault is named by its line, and never with what stands there (S18)") {
  CHECK_EQ(WhyNoSigningKeys(""), "there is no key in it");
  CHECK_EQ(WhyNoSigningKeys("# nothing\n"), "there is no key in it");
  const std::string secret = "the secret is not hex or base64 of 16 to 256 bytes";
  CHECK_EQ(WhyNoSigningKeys("a 00112233445566778899aabbccddeeff\nb 0011"), "line 2: " + secret);
  CHECK_EQ(WhyNoSigningKeys("a"), "line 1: " + secret);
  CHECK_EQ(WhyNoSigningKeys("a 00112233445566778899aabbccddeef"), "line 1: " + secret);
  CHECK_EQ(WhyNoSigningKeys("a " + std::string(600, 'a')), "line 1: " + secret);
  CHECK_EQ(WhyNoSigningKeys("a!b 00112233445566778899aabbccddeeff"),
           "line 1: a key's name has 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'");
  CHECK_EQ(
      WhyNoSigningKeys("a 00112233445566778899aabbccddeeff\n\na 00112233445566778899aabbccddeeff"),
      "line 3: the name is there already");
  std::string many;
  for (int i = 0; i < 1001; ++i) {
    many += "k" + std::to_string(i) + " 00112233445566778899aabbccddeeff\n";
  }
  CHECK_EQ(WhyNoSigningKeys(many), "line 1001: more than 1000 keys");
  std::string why;
  CHECK_EQ(ParseUploadKeys("name 0011", &why).err(), Err::kConfig);
  CHECK_EQ(why, "line 1: behind the name belongs a SHA-256, 64 hex digits");
}

TEST_CASE("key_file: an upload key is found by its hash alone") {
  const std::string text = UploadKeyText({1, 2, 3});
  CHECK_EQ(text.size(), 47);
  CHECK(text.starts_with("hlk_AQID"));
  std::string why;
  const auto keys = ParseUploadKeys(
      "other " + std::string(64, '0') + "\nphone " + ToHex(Sha256Of(AsBytes(text))) + "\n", &why);
  REQUIRE(keys.ok());
  const UploadKey* found = FindUploadKey(*keys, text);
  REQUIRE(found != nullptr);
  CHECK_EQ(found->name, "phone");
  CHECK(FindUploadKey(*keys, text + "A") == nullptr);
  CHECK(FindUploadKey(*keys, "") == nullptr);
  CHECK(FindUploadKey(*keys, ToHex((*keys)[1].hash)) == nullptr);
}
