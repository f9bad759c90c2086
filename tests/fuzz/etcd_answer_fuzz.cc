// libFuzzer target: an answer that came from an endpoint of etcd.
// covers: common/ha/etcd_answer.cc HeaderOf KeyOf NumberOf BytesOf LeaseOf ErrOfCode
//
// Promise: numbers are in range, a version is one that the store had, a token may stand in a
// header, whatever came.
#include "common/ha/etcd_answer.h"
#include "common/le.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  const std::string_view body = AsText({data, size});
  const EtcdKeys keys{.record = "p/record", .holder = "p/holder"};
  (void)EtcdErrOf(200, body);
  (void)EtcdErrOf(400, body);
  if (const auto view = DecodeEtcdView(body, keys); view.ok()) {
    ASSERT(view->cluster_id > 0 && view->version <= INT64_MAX);
    ASSERT(view->version > 0 || view->record.empty());
  }
  if (const auto committed = DecodeEtcdCommit(body, 2); committed.ok()) {
    ASSERT(committed->cluster_id > 0 && committed->version <= INT64_MAX);
  }
  if (const auto lease = DecodeEtcdGrant(body, 2); lease.ok()) ASSERT(lease->id > 0);
  if (const auto lease = DecodeEtcdKeepAlive(body, 2); lease.ok()) ASSERT(lease->cluster_id > 0);
  if (const auto token = DecodeEtcdToken(body); token.ok()) {
    ASSERT(token->find_first_of("\r\n ") == std::string::npos && !token->empty());
  }
  return 0;
}
