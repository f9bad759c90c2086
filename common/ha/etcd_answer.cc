#include "common/ha/etcd_answer.h"

#include <algorithm>

#include "common/codec.h"
#include "common/io/json.h"

namespace hayloft {

namespace {

constexpr size_t kValueBytesMax = 64 << 10;
constexpr size_t kTokenBytesMax = 4096;
constexpr uint64_t kInt64Max = INT64_MAX;

Json Base64(const std::string& bytes) { return Json(ToBase64(AsBytes(bytes))); }
Json Number(uint64_t number) { return Json(std::to_string(number)); }

Json Range(const std::string& key) {
  return Json().Set("request_range", Json().Set("key", Base64(key)));
}

Json Compare(const std::string& key, const char* target, const char* field, Json value) {
  return Json().Set("key", Base64(key)).Set("target", target).Set(field, std::move(value));
}

// A member of an object; kCorrupt when it isn't there.
Result<const Json*> MemberOf(const Json& json, std::string_view name) {
  const Json* member = json.Find(name);
  if (member == nullptr || member->is_null()) return Err::kCorrupt;
  return member;
}

// Digits in a text, 1 to `most`.
Result<uint64_t> NumberOf(const Json& json, std::string_view name, uint64_t most = kInt64Max) {
  TRY_ASSIGN(const Json* member, MemberOf(json, name));
  const std::string& text = member->text();
  if (text.empty() || text.size() > 20) return Err::kCorrupt;
  uint64_t number = 0;
  for (const char c : text) {
    const auto digit = static_cast<unsigned char>(c - '0');
    if (digit > 9 || number > (most - digit) / 10) return Err::kCorrupt;
    number = number * 10 + digit;
  }
  if (number == 0) return Err::kCorrupt;
  return number;
}

Result<std::string> BytesOf(const Json& json, std::string_view name) {
  const Json* member = json.Find(name);
  if (member == nullptr) return std::string();  // no bytes are left out
  const std::string& text = member->text();
  if (text.empty() || text.size() % 4 != 0 || text.size() / 4 * 3 > kValueBytesMax) {
    return Err::kCorrupt;
  }
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  std::string bytes(text.size() / 4 * 3 - padding, '\0');
  if (!FromBase64(text, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()})) {
    return Err::kCorrupt;
  }
  return bytes;
}

struct Header {
  uint64_t cluster_id = 0;
  uint64_t revision = 0;
};

Result<Header> HeaderOf(const Json& answer) {
  TRY_ASSIGN(const Json* header, MemberOf(answer, "header"));
  Header out;
  TRY_ASSIGN(out.cluster_id, NumberOf(*header, "cluster_id", UINT64_MAX));
  TRY_ASSIGN(out.revision, NumberOf(*header, "revision"));
  return out;
}

struct KeyValue {
  uint64_t version = 0;  // 0: no such key
  std::string value;
};

Result<KeyValue> KeyOf(const Json& response, const std::string& key) {
  TRY_ASSIGN(const Json* range, MemberOf(response, "response_range"));
  TRY_ASSIGN([[maybe_unused]] const Json* header, MemberOf(*range, "header"));
  const Json* keys = range->Find("kvs");
  if (keys == nullptr) return KeyValue{};
  if (keys->array().size() != 1) return Err::kCorrupt;
  const Json& found = keys->array().front();
  TRY_ASSIGN(const std::string name, BytesOf(found, "key"));
  if (name != key) return Err::kCorrupt;
  KeyValue out;
  TRY_ASSIGN(out.version, NumberOf(found, "mod_revision"));
  TRY_ASSIGN(out.value, BytesOf(found, "value"));
  return out;
}

// false is left out.
Result<bool> SucceededOf(const Json& txn) {
  const Json* succeeded = txn.Find("succeeded");
  if (succeeded == nullptr) return false;
  if (!(*succeeded == Json(true)) && !(*succeeded == Json(false))) return Err::kCorrupt;
  return succeeded->boolean();
}

Result<EtcdLease> LeaseOf(const Json& answer, uint64_t ttl_s) {
  TRY_ASSIGN(const Header header, HeaderOf(answer));
  EtcdLease lease{.cluster_id = header.cluster_id};
  TRY_ASSIGN(lease.id, NumberOf(answer, "ID"));
  TRY_ASSIGN(const uint64_t ttl, NumberOf(answer, "TTL"));
  if (ttl < ttl_s) return Err::kCorrupt;
  return lease;
}

// By the numbers of gRPC. etcd says "invalid argument" of passwords, too.
Err ErrOfCode(int64_t code, std::string_view message) {
  constexpr std::string_view kPasswords[] = {
      "etcdserver: authentication failed", "etcdserver: user name is empty",
      "etcdserver: invalid auth token", "etcdserver: revision of auth store is old"};
  const auto begins = [&](std::string_view text) { return message.starts_with(text); };
  switch (code) {
    case 3:
      return std::any_of(std::begin(kPasswords), std::end(kPasswords), begins) ? Err::kDenied
                                                                               : Err::kInvalid;
    case 4:
      return Err::kTimeout;
    case 5:
      return Err::kNotFound;
    case 7:
    case 16:
      return Err::kDenied;
    case 8:
      return begins("etcdserver: mvcc: database space exceeded") ? Err::kFull : Err::kUnavailable;
    case 9:
      return begins("etcdserver: authentication is not enabled") ? Err::kUnsupported
                                                                 : Err::kUnavailable;
    default:
      return Err::kUnavailable;
  }
}

}  // namespace

// --- Requests ---

std::string EtcdViewRequest(const EtcdKeys& keys) {
  return Json().Set("success", Json::Array{Range(keys.record), Range(keys.holder)}).Dump();
}

// The holder's key must be missing or ours. One transaction compares for "and" only: the second
// case is a transaction in the first one's failure.
std::string EtcdCommitRequest(const EtcdKeys& keys, const EtcdCommit& commit) {
  Json::Array same = {Compare(keys.record, "MOD", "mod_revision", Number(commit.version))};
  if (commit.was != nullptr) {
    same.push_back(Compare(keys.record, "VALUE", "value", Base64(*commit.was)));
  }
  const auto put = [](const std::string& key, const std::string& value) {
    return Json().Set("key", Base64(key)).Set("value", Base64(value));
  };
  Json::Array puts = {Json().Set("request_put", put(keys.record, commit.record))};
  if (commit.lease != 0) {
    const Json holder = put(keys.holder, commit.holder).Set("lease", Number(commit.lease));
    puts.push_back(Json().Set("request_put", holder));
  }
  Json::Array nobodys = same;
  nobodys.push_back(Compare(keys.holder, "CREATE", "create_revision", Number(0)));
  Json::Array ours = std::move(same);
  ours.push_back(Compare(keys.holder, "VALUE", "value", Base64(commit.holder)));
  const Json other_case = Json().Set("compare", std::move(ours)).Set("success", puts);
  return Json()
      .Set("compare", std::move(nobodys))
      .Set("success", puts)
      .Set("failure", Json::Array{Json().Set("request_txn", other_case)})
      .Dump();
}

std::string EtcdGrantRequest(uint64_t ttl_s) { return Json().Set("TTL", Number(ttl_s)).Dump(); }

std::string EtcdLeaseRequest(uint64_t lease) { return Json().Set("ID", Number(lease)).Dump(); }

std::string EtcdTokenRequest(const std::string& user, const std::string& password) {
  return Json().Set("name", user).Set("password", password).Dump();
}

// --- Answers ---

Err EtcdErrOf(int http_status, std::string_view body) {
  const Result<Json> parsed = Json::Parse(body);
  if (!parsed.ok() || !parsed->is_object()) return Err::kUnavailable;  // not etcd, or not all of it
  const Json& answer = *parsed;
  const Json* fault = answer.Find("error");
  if (fault == nullptr) return http_status == 200 ? Err::kOk : Err::kUnavailable;
  // Of a stream the error is an object, with other names.
  if (fault->is_object()) {
    return ErrOfCode((*fault)["grpc_code"].number(), (*fault)["message"].text());
  }
  return ErrOfCode(answer["code"].number(), answer["message"].text());
}

Result<EtcdView> DecodeEtcdView(std::string_view body, const EtcdKeys& keys) {
  TRY_ASSIGN(const Json answer, Json::Parse(body));
  TRY_ASSIGN(const Header header, HeaderOf(answer));
  TRY_ASSIGN(const bool succeeded, SucceededOf(answer));
  const Json::Array& responses = answer["responses"].array();
  if (!succeeded || responses.size() != 2) return Err::kCorrupt;
  TRY_ASSIGN(KeyValue record, KeyOf(responses[0], keys.record));
  TRY_ASSIGN(const KeyValue holder, KeyOf(responses[1], keys.holder));
  if (std::max(record.version, holder.version) > header.revision) return Err::kCorrupt;
  return EtcdView{.cluster_id = header.cluster_id,
                  .version = record.version,
                  .record = std::move(record.value),
                  .held = holder.version != 0};
}

Result<EtcdCommitted> DecodeEtcdCommit(std::string_view body, size_t puts) {
  TRY_ASSIGN(const Json answer, Json::Parse(body));
  TRY_ASSIGN(const Header header, HeaderOf(answer));
  TRY_ASSIGN(bool succeeded, SucceededOf(answer));
  const Json::Array& responses = answer["responses"].array();
  if (responses.size() != (succeeded ? puts : 1)) return Err::kCorrupt;
  if (!succeeded) {
    TRY_ASSIGN(const Json* other_case, MemberOf(responses[0], "response_txn"));
    TRY_ASSIGN(succeeded, SucceededOf(*other_case));
    if ((*other_case)["responses"].array().size() != (succeeded ? puts : 0)) return Err::kCorrupt;
  }
  // What a transaction writes has the revision that it makes.
  return EtcdCommitted{.cluster_id = header.cluster_id, .version = succeeded ? header.revision : 0};
}

Result<EtcdLease> DecodeEtcdGrant(std::string_view body, uint64_t ttl_s) {
  TRY_ASSIGN(const Json answer, Json::Parse(body));
  return LeaseOf(answer, ttl_s);
}

Result<EtcdLease> DecodeEtcdKeepAlive(std::string_view body, uint64_t ttl_s) {
  TRY_ASSIGN(const Json answer, Json::Parse(body));
  TRY_ASSIGN(const Json* result, MemberOf(answer, "result"));
  if (result->Find("TTL") != nullptr) return LeaseOf(*result, ttl_s);
  TRY_ASSIGN(const Header header, HeaderOf(*result));
  return EtcdLease{.cluster_id = header.cluster_id};
}

Result<std::string> DecodeEtcdToken(std::string_view body) {
  TRY_ASSIGN(const Json answer, Json::Parse(body));
  const std::string& token = answer["token"].text();
  const auto fine = [](char c) { return c > ' ' && c <= '~'; };
  if (token.empty() || token.size() > kTokenBytesMax) return Err::kCorrupt;
  if (!std::all_of(token.begin(), token.end(), fine)) return Err::kCorrupt;
  return token;
}

}  // namespace hayloft
