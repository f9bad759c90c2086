// What etcd's JSON gateway is asked, and what its answers say. Pure; for etcd_coordinator.cc.
//
// https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/: bytes are base64, numbers of 64 bits are
// text, what is zero or false is left out. Answers come from whatever listens at an endpoint: each
// field is looked at for its type and range, and a Decode of what is not as it should be is
// kCorrupt.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/result.h"

namespace hayloft {

struct EtcdKeys {
  std::string record;
  std::string holder;  // lives as long as the lease that it hangs on
};

// --- Requests: bodies for POST ---

std::string EtcdViewRequest(const EtcdKeys& keys);  // /v3/kv/txn
struct EtcdCommit {
  uint64_t version = 0;              // that the record must have; 0: that there is none
  const std::string* was = nullptr;  // if not null: that it must hold, too
  std::string record;
  std::string holder;  // that the holder's key may have, if it is there
  uint64_t lease = 0;  // of the new holder's key; 0: that key stays as it is
};
std::string EtcdCommitRequest(const EtcdKeys& keys, const EtcdCommit& commit);  // /v3/kv/txn
std::string EtcdGrantRequest(uint64_t ttl_s);                                   // /v3/lease/grant
std::string EtcdLeaseRequest(uint64_t lease);  // /v3/lease/keepalive, /v3/lease/revoke
std::string EtcdTokenRequest(const std::string& user, const std::string& password);

// --- Answers ---

// kOk for an answer that is one. Nothing was done: kDenied, kNotFound (no such lease), kFull,
// kInvalid, kUnsupported (it asks for no passwords). Anything may have been done: kTimeout,
// kUnavailable.
Err EtcdErrOf(int http_status, std::string_view body);

struct EtcdView {
  uint64_t cluster_id = 0;
  uint64_t version = 0;  // 0: there is no record
  std::string record;
  bool held = false;
};
Result<EtcdView> DecodeEtcdView(std::string_view body, const EtcdKeys& keys);

struct EtcdCommitted {
  uint64_t cluster_id = 0;
  uint64_t version = 0;  // 0: it was not done
};
// `puts`: of its request, 2 with a lease, else 1.
Result<EtcdCommitted> DecodeEtcdCommit(std::string_view body, size_t puts);

struct EtcdLease {
  uint64_t cluster_id = 0;
  uint64_t id = 0;  // 0: there is no such lease any more
};
// `ttl_s`: the least that will do.
Result<EtcdLease> DecodeEtcdGrant(std::string_view body, uint64_t ttl_s);
Result<EtcdLease> DecodeEtcdKeepAlive(std::string_view body, uint64_t ttl_s);

// What may stand in a header.
Result<std::string> DecodeEtcdToken(std::string_view body);

}  // namespace hayloft
