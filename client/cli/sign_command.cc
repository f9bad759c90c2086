// `hayloft sign`: a URL that lets whoever has it do one thing for a while.

#include <cinttypes>

#include "client/cli/command.h"
#include "client/cli/sign_url.h"
#include "common/io/json.h"
#include "common/io/server_start.h"
#include "common/io/system_clock.h"
#include "common/io/system_random.h"
#include "common/key_file.h"

namespace hayloft {

namespace {

constexpr size_t kNonceRandomBytes = 16;

#define HAYLOFT_SIGN_OPTIONS(X)                                                               \
  X(bool, json, false, 0, 1, "print JSON")                                                    \
  X(std::string, keys, "", 0, 4096, "file of signing keys, as the gateway's signing_keys")    \
  X(std::string, key, "", 0, 64, "which of them, by its name; default: the last line's")      \
  X(std::string, method, "GET", 1, 16, "GET (HEAD too), POST or DELETE")                      \
  X(std::string, path, "", 0, 8192, "path as the gateway gets it; prints path and query")     \
  X(std::string, url, "", 0, 8192, "or the whole URL, http://HOST/PATH; prints it signed")    \
  X(uint64_t, expires, 0, 1, UINT64_MAX, "when it ends, in seconds since 1970")               \
  X(uint64_t, limit, 0, 1, 999'999'999'999'999'999, "bytes that the body of a POST may have") \
  X(std::string, type, "", 0, 100, "what a POST must turn out to be: image/png, or image/*")  \
  X(bool, once, false, 0, 1,                                                                  \
    "a POST or DELETE that is carried out once, by any one gateway; for"                      \
    " a day at most")

struct SignOptions {
  HAYLOFT_OPTIONS(HAYLOFT_SIGN_OPTIONS)
  std::string life;
};

std::string Fault(const SignOptions& options) {
  const bool post = options.method == "POST";
  if (options.keys.empty()) return "--keys is needed: the file of signing keys";
  if (!post && options.method != "GET" && options.method != "DELETE") {
    return "--method: GET, POST or DELETE";
  }
  if (options.path.empty() == options.url.empty()) return "name either --path or --url";
  if (!options.path.empty() && !options.path.starts_with('/')) {
    return "--path: " + PathFault(options.path);
  }
  if (options.url.starts_with('/')) return "--url: a URL is http://HOST/PATH or https://HOST/PATH";
  if (options.life.empty() == (options.expires == 0)) return "name either --for or --expires";
  if (!options.life.empty() && !ParseLifeS(options.life)) {
    return "--for: a time like 90s, 15m, 1h or 7d, ten years at most";
  }
  if (!post && (options.limit > 0 || !options.type.empty())) {
    return "--limit and --type are for uploads: --method POST";
  }
  if (options.once && options.method == "GET") return "--once is for POST and DELETE";
  return {};
}

const SigningKey* FindKey(const std::vector<SigningKey>& keys, const std::string& id) {
  if (id.empty()) return &keys.back();
  for (const SigningKey& key : keys) {
    if (key.id == id) return &key;
  }
  return nullptr;
}

std::string NewNonce() {
  std::array<uint8_t, kNonceRandomBytes> random;
  SystemRandom().Fill(random);
  return ToBase64Url(random);
}

int Sign(const SignOptions& options) {
  const uint64_t now_s = SystemWallMs() / 1'000;
  const uint64_t expires_s =
      options.life.empty() ? options.expires : now_s + *ParseLifeS(options.life);
  if (expires_s <= now_s) return Complain("--expires: that time has passed", kExitUsage);
  if (options.once && expires_s - now_s > kUrlNonceLifeMaxS) {
    return Complain("--once: gateways remember what was used for a day at most", kExitUsage);
  }
  std::string why;
  const Result<std::string> text = ReadSecretFile(options.keys, kKeyFileBytesMax, &why);
  if (!text.ok()) return Complain("--keys: " + why);
  const Result<std::vector<SigningKey>> keys = ParseSigningKeys(*text, &why);
  if (!keys.ok()) return Complain("--keys: " + options.keys + ": " + why);
  const SigningKey* key = FindKey(*keys, options.key);
  if (key == nullptr) return Complain("there is no key " + options.key + " in " + options.keys);
  const std::string nonce = options.once ? NewNonce() : "";
  UrlGrant grant{.method = options.method,
                 .path = {},
                 .expires_s = expires_s,
                 .type = options.type,
                 .nonce = nonce};
  if (options.limit > 0) grant.limit_bytes = options.limit;
  const std::string& target = options.url.empty() ? options.path : options.url;
  const Result<std::string> url = SignTarget(*key, grant, target, &why);
  if (!url.ok()) return Complain(why, kExitUsage);
  if (options.json) {
    const Json json = Json().Set("url", *url).Set("expires_s", expires_s).Set("key", key->id);
    std::printf("%s\n", json.Dump().c_str());
  } else {
    std::printf("%s\n", url->c_str());
  }
  return kExitFine;
}

}  // namespace

int RunSign(int argc, const char* const* argv) {
  SignOptions options;
  OptionRows rows = options.Rows();
  rows.push_back({.name = "for",
                  .help = "how long it is good: 90s, 15m, 1h, 7d",
                  .field = &options.life,
                  .min = 0,
                  .max = 20});
  const Program program{.name = "hayloft sign",
                        .role = "",
                        .about =
                            "Signs a URL, so that whoever has it may do that one thing for a "
                            "while. Asks no server.",
                        .rows = std::move(rows),
                        .fault = [&] { return Fault(options); }};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  return Sign(options);
}

}  // namespace hayloft
