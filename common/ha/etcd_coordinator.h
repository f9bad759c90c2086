// The coordinator of nodes on several machines: etcd 3.4 or later, by its JSON gateway.
//
//   PREFIX/record    LeaseRecord (Protocol Buffers); its mod_revision is the version
//   PREFIX/holder    the holder, in hex; hangs on the holder's lease, so that it goes with it
//
// A commit is one transaction: the record has the version (and what this process saw under it), and
// the holder's key is missing or ours; then both are put. etcd's own locks and elections are not
// used: they hold nobody back who was stopped after it asked.
//
// A history is told by the record's identity and etcd's cluster id, which a restore from a snapshot
// changes if it is given a new --initial-cluster-token. With the old one the version falls.
//
// Each request has a connection of its own: libcurl sends a request once more when a kept
// connection broke, and a transaction that was done twice would look like another's.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/ha/coordinator.h"
#include "common/ha/etcd_answer.h"
#include "common/ports.h"

namespace hayloft {

struct EtcdOptions {
  std::vector<std::string> endpoints{};  // "http://IP:PORT", or https; at least one
  std::string prefix{};                  // "/hayloft/CLUSTER/nameserver"
  uint32_t lease_ms = 3'000;    // rounded up to seconds; etcd's least is 2 s with its own defaults
  uint32_t timeout_ms = 1'000;  // of a call, whatever endpoints it has to ask
  std::string ca_file{};        // of https; else the system's
  std::string cert_file{};      // our own
  std::string key_file{};
  std::string user{};
  std::string password_file{};  // read again when a token has ended
};

// kDenied also when the password can't be read. Of several endpoints the one that answered last is
// asked first; one that hangs costs its share of the time once.
class EtcdCoordinator : public Coordinator {
 public:
  EtcdCoordinator(EtcdOptions options, Random* random);  // borrows the random source
  ~EtcdCoordinator() override;
  Result<CoordinatorView> Read() override;
  // kExists also for a version that is not the last one that this object saw.
  Result<uint64_t> Commit(const pb::LeaseRecord& record, uint64_t version) override {
    return Put(record, version, /*renews=*/true);
  }
  Result<uint64_t> Change(const pb::LeaseRecord& record, uint64_t version) override {
    return Put(record, version, /*renews=*/false);
  }
  void Release() override;

 private:
  class Http;

  Result<uint64_t> Put(const pb::LeaseRecord& record, uint64_t version, bool renews);
  Result<std::string> Ask(const char* path, const std::string& body, uint64_t end_ms, bool* unsure);
  Err Authenticate(const std::string& endpoint, uint64_t timeout_ms);
  Err RenewLease(uint64_t end_ms);
  bool IsOtherCluster(uint64_t cluster_id);
  void Saw(const EtcdView& view);
  std::string IdentityOf(const pb::LeaseRecord& record) const;

  const EtcdOptions options_;
  const EtcdKeys keys_;
  Random* const random_;
  const std::unique_ptr<Http> http_;
  size_t current_ = 0;  // endpoint that is asked first
  std::string token_;
  uint64_t lease_ = 0;  // 0: none
  // What was seen last, by a read or a commit.
  uint64_t cluster_id_ = 0;
  uint64_t version_ = 0;
  std::string value_;     // of the record at that version
  std::string identity_;  // in it
  bool corrupt_ = false;  // it could not be understood
};

}  // namespace hayloft
