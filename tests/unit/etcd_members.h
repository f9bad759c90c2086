// Real etcd members in a folder of their own, on free ports, gone with the test; and a proxy in
// front of one that loses answers.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "common/io/process.h"
#include "common/io/unique_fd.h"
#include "tests/unit/temp_folder.h"

namespace hayloft {

// Asks every 20 ms until it is true, for a minute at most.
bool Eventually(const std::function<bool()>& condition);

// A program to its end, without what it prints; its exit code.
int RunQuietly(std::vector<std::string> words);

class EtcdMembers {
 public:
  // `more`: arguments of each.
  explicit EtcdMembers(size_t count, std::vector<std::string> more = {},
                       const std::string& scheme = "http");
  ~EtcdMembers();
  EtcdMembers(const EtcdMembers&) = delete;  // owns the processes
  EtcdMembers& operator=(const EtcdMembers&) = delete;

  void Start(size_t member);
  void Kill(size_t member);  // and waits for its end
  void Signal(size_t member, int number) const;
  std::string Url(size_t member) const;
  std::vector<std::string> Urls() const;
  int port(size_t member) const { return members_[member].client_port; }
  std::string Path(const std::string& name) const { return folder_ / name; }
  // etcdctl with these words against the first member; its exit code.
  int Ctl(std::vector<std::string> words) const;
  // Puts the snapshot in place of what the only member has, and starts it.
  void Restore(const std::string& snapshot, const std::string& token);

 private:
  struct Member {
    int client_port = 0;
    int peer_port = 0;
    std::string data;
    ProcessId process;
  };
  std::string PeerUrl(size_t member) const;
  std::string InitialCluster() const;

  const std::string scheme_;
  const std::vector<std::string> more_;
  TempFolder folder_{TempFolder::Where::kMemory};
  std::vector<Member> members_;
};

// Passes each request on to a port of this machine and the answer back, but for requests that hold
// a word: their answers are lost. Or, without a port, gives one answer to all.
class FaultyServer {
 public:
  FaultyServer(int port, std::string word) : FaultyServer(port, std::move(word), "") {}
  explicit FaultyServer(std::string answer) : FaultyServer(0, "", std::move(answer)) {}
  ~FaultyServer();
  FaultyServer(const FaultyServer&) = delete;  // its thread holds its address
  FaultyServer& operator=(const FaultyServer&) = delete;
  std::string Url() const;
  int lost() const { return lost_; }

 private:
  FaultyServer(int port, std::string word, std::string answer);
  void Serve();
  std::string Forward(const std::string& request) const;

  const int port_;
  const std::string word_;
  const std::string answer_;
  UniqueFd listener_;
  int own_port_ = 0;
  std::atomic<int> lost_ = 0;
  std::atomic<bool> over_ = false;
  std::thread thread_;
};

}  // namespace hayloft
