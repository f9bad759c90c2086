// What etcd answers, and what something else at its port might.
#include "common/ha/etcd_answer.h"

#include <doctest/doctest.h>

#include <vector>

namespace hayloft {
namespace {

const EtcdKeys kKeys{.record = "p/record", .holder = "p/holder"};
const std::string kHeader =
    R"({"cluster_id":"18446744073709551615","member_id":"3","revision":"9","raft_term":"2"})";
// As etcd 3.4.23 writes them.
const std::string kRecordOnly =
    R"({"header":)" + kHeader +
    R"(,"succeeded":true,"responses":[{"response_range":{"header":{"revision":"9"},"kvs":[{"key":)"
    R"("cC9yZWNvcmQ=","create_revision":"2","mod_revision":"7","version":"1","value":"AAH/"}],)"
    R"("count":"1"}},{"response_range":{"header":{"revision":"9"}}}]})";
const std::string kNothing =
    R"({"header":)" + kHeader +
    R"(,"succeeded":true,"responses":[{"response_range":{"header":{"revision":"9"}}},)"
    R"({"response_range":{"header":{"revision":"9"}}}]})";
const std::string kPut = R"({"response_put":{"header":{"revision":"9"}}})";

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE_NE(at, std::string::npos);
  return text.replace(at, from.size(), to);
}

TEST_CASE("etcd_answer: a view") {
  const Result<EtcdView> view = DecodeEtcdView(kRecordOnly, kKeys);
  REQUIRE(view.ok());
  CHECK_EQ(view->cluster_id, UINT64_MAX);
  CHECK_EQ(view->version, 7);
  CHECK_EQ(view->record, std::string("\x00\x01\xff", 3));
  CHECK_FALSE(view->held);
  const Result<EtcdView> none = DecodeEtcdView(kNothing, kKeys);
  REQUIRE(none.ok());
  CHECK_EQ(none->version, 0);
}

TEST_CASE("etcd_answer: fields that are missing, of another type or out of range") {
  const std::vector<std::pair<std::string, std::string>> changes = {
      {R"("mod_revision":"7")", R"("mod_revision":7)"},
      {R"("mod_revision":"7")", R"("mod_revision":"-7")"},
      {R"("mod_revision":"7")", R"("mod_revision":"0")"},
      {R"("mod_revision":"7")", R"("mod_revision":"10")"},  // after the store's
      {R"("mod_revision":"7")", R"("mod_revision":"9223372036854775808")"},
      {R"("mod_revision":"7",)", ""},
      {R"("cluster_id":"18446744073709551615")", R"("cluster_id":"18446744073709551616")"},
      {R"("cluster_id":"18446744073709551615",)", ""},
      {R"("revision":"9","raft)", R"("revision":"9x","raft)"},
      {R"("revision":"9","raft)", R"("revision":"","raft)"},
      {R"("succeeded":true,)", ""},
      {R"("succeeded":true)", R"("succeeded":1)"},
      {"cC9yZWNvcmQ=", "cC9ob2xkZXI="},  // another key
      {"AAH/", "AAH"},
      {"AAH/", "A==="},
      {"AAH/", "AA*/"},
      {R"("AAH/")", "[]"},
      {R"("kvs":[{)", R"("kvs":[{},{)"},
      {R"("response_range")", R"("response_put")"},
      {R"("responses":[)", R"("responses":[{},)"},
      {R"("responses":)", R"("answers":)"},
  };
  for (const auto& [from, to] : changes) {
    INFO(from, " -> ", to);
    CHECK_EQ(DecodeEtcdView(Replaced(kRecordOnly, from, to), kKeys).err(), Err::kCorrupt);
  }
  for (size_t size = 0; size < kRecordOnly.size(); ++size) {
    const std::string half = kRecordOnly.substr(0, size);
    CHECK_EQ(DecodeEtcdView(half, kKeys).err(), Err::kCorrupt);
    CHECK_EQ(EtcdErrOf(200, half), Err::kUnavailable);
  }
}

TEST_CASE("etcd_answer: a commit was done in the first case, in the second, or not") {
  const std::string begin = R"({"header":)" + kHeader;
  const std::string both = R"("succeeded":true,"responses":[)" + kPut + "," + kPut + "]}";
  const std::string first = begin + "," + both;
  const std::string second =
      begin + R"(,"responses":[{"response_txn":{"header":{},)" + both + "}]}";
  const std::string none =
      begin + R"(,"responses":[{"response_txn":{"header":{"revision":"9"}}}]})";
  CHECK_EQ(DecodeEtcdCommit(first, 2)->version, 9);
  CHECK_EQ(DecodeEtcdCommit(second, 2)->version, 9);
  CHECK_EQ(DecodeEtcdCommit(none, 2)->version, 0);
  CHECK_EQ(DecodeEtcdCommit(Replaced(first, "," + kPut + "]", "]"), 1)->version, 9);
  CHECK_EQ(DecodeEtcdCommit(first, 1).err(), Err::kCorrupt);
  // Half of one must not look like a refusal.
  CHECK_EQ(DecodeEtcdCommit(begin + "}", 2).err(), Err::kCorrupt);
  CHECK_EQ(DecodeEtcdCommit(Replaced(first, R"("succeeded":true,)", ""), 2).err(), Err::kCorrupt);
  CHECK_EQ(DecodeEtcdCommit(Replaced(second, R"("succeeded":true,)", ""), 2).err(), Err::kCorrupt);
  CHECK_EQ(DecodeEtcdCommit(begin + R"(,"responses":[{}]})", 2).err(), Err::kCorrupt);
}

TEST_CASE("etcd_answer: leases") {
  const std::string alive = R"({"header":)" + kHeader + R"(,"ID":"77","TTL":"3"})";
  const std::string gone = R"({"header":)" + kHeader + R"(,"ID":"77"})";
  CHECK_EQ(DecodeEtcdGrant(alive, 3)->id, 77);
  CHECK_EQ(DecodeEtcdGrant(alive, 4).err(), Err::kCorrupt);  // shorter than needed
  CHECK_EQ(DecodeEtcdGrant(gone, 3).err(), Err::kCorrupt);
  CHECK_EQ(DecodeEtcdKeepAlive(R"({"result":)" + alive + "}", 3)->id, 77);
  CHECK_EQ(DecodeEtcdKeepAlive(R"({"result":)" + gone + "}", 3)->id, 0);
  CHECK_EQ(DecodeEtcdKeepAlive(alive, 3).err(), Err::kCorrupt);
  CHECK_EQ(DecodeEtcdKeepAlive(R"({"result":[]})", 3).err(), Err::kCorrupt);
}

TEST_CASE("etcd_answer: errors, and whether something may have been done") {
  const auto err_of = [](int code, const std::string& message) {
    return EtcdErrOf(
        400, R"({"error":"x","message":")" + message + R"(","code":)" + std::to_string(code) + "}");
  };
  CHECK_EQ(err_of(3, "etcdserver: authentication failed, invalid user ID or password"),
           Err::kDenied);
  CHECK_EQ(err_of(3, "illegal base64 data at input byte 0"), Err::kInvalid);
  CHECK_EQ(err_of(4, "context deadline exceeded"), Err::kTimeout);
  CHECK_EQ(err_of(5, "etcdserver: requested lease not found"), Err::kNotFound);
  CHECK_EQ(err_of(7, "etcdserver: permission denied"), Err::kDenied);
  CHECK_EQ(err_of(8, "etcdserver: mvcc: database space exceeded"), Err::kFull);
  CHECK_EQ(err_of(8, "etcdserver: too many requests"), Err::kUnavailable);
  CHECK_EQ(err_of(9, "etcdserver: authentication is not enabled"), Err::kUnsupported);
  CHECK_EQ(err_of(14, "etcdserver: leader changed"), Err::kUnavailable);
  CHECK_EQ(err_of(16, "etcdserver: invalid auth token"), Err::kDenied);
  CHECK_EQ(EtcdErrOf(200, kNothing), Err::kOk);
  CHECK_EQ(EtcdErrOf(503, kNothing), Err::kUnavailable);
  CHECK_EQ(EtcdErrOf(404, "<html>"), Err::kUnavailable);
  CHECK_EQ(EtcdErrOf(200, R"({"error":{"grpc_code":5,"message":"x"}})"), Err::kNotFound);
  CHECK_EQ(EtcdErrOf(200, R"({"error":7})"), Err::kUnavailable);
}

TEST_CASE("etcd_answer: a token may stand in a header") {
  CHECK_EQ(DecodeEtcdToken(R"({"token":"abc.9"})").value(), "abc.9");
  for (const char* bad :
       {R"({"token":""})", R"({"token":"a\r\nHost: x"})", R"({"token":7})", "{}"}) {
    CHECK_EQ(DecodeEtcdToken(bad).err(), Err::kCorrupt);
  }
}

}  // namespace
}  // namespace hayloft
