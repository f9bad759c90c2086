#include "tests/unit/etcd_members.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

namespace hayloft {

namespace {

// A socket that listens on a port of 127.0.0.1 that was free.
UniqueFd Listen(int* port) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  REQUIRE_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  REQUIRE_EQ(listen(fd.get(), 16), 0);
  REQUIRE_EQ(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  *port = ntohs(address.sin_port);
  return fd;
}

void SendAll(int fd, const std::string& text) {
  for (size_t sent = 0; sent < text.size();) {
    const ssize_t count = send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (count <= 0) return;
    sent += static_cast<size_t>(count);
  }
}

// Head and body, by its Content-Length.
std::string ReadRequest(int fd) {
  std::string text;
  char part[16'384];
  for (;;) {
    const size_t head = text.find("\r\n\r\n");
    const size_t length = text.find("Content-Length: ");
    if (head != std::string::npos && length != std::string::npos &&
        text.size() >= head + 4 + std::stoul(text.substr(length + 16))) {
      return text;
    }
    const ssize_t count = recv(fd, part, sizeof(part), 0);
    if (count <= 0) return text;
    text.append(part, static_cast<size_t>(count));
  }
}

}  // namespace

bool Eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

int RunQuietly(std::vector<std::string> words) {
  words.insert(words.begin(), {"/bin/sh", "-c", "exec \"$@\" 2> /dev/null", "sh"});
  return RunToEnd(words);
}

EtcdMembers::EtcdMembers(size_t count, std::vector<std::string> more, const std::string& scheme)
    : scheme_(scheme), more_(std::move(more)), members_(count) {
  std::vector<UniqueFd> taken;  // until all are chosen
  for (size_t i = 0; i < count; ++i) {
    taken.push_back(Listen(&members_[i].client_port));
    taken.push_back(Listen(&members_[i].peer_port));
    members_[i].data = folder_ / ("data" + std::to_string(i));
  }
}

EtcdMembers::~EtcdMembers() {
  for (size_t i = 0; i < members_.size(); ++i) Kill(i);
}

void EtcdMembers::Start(size_t member) {
  Member& it = members_[member];
  // It goes with us, whatever becomes of the test.
  std::vector<std::string> argv = {"/usr/bin/setpriv",
                                   "--pdeathsig=KILL",
                                   "/usr/bin/etcd",
                                   "--name=m" + std::to_string(member),
                                   "--data-dir=" + it.data,
                                   "--listen-client-urls=" + Url(member),
                                   "--advertise-client-urls=" + Url(member),
                                   "--listen-peer-urls=" + PeerUrl(member),
                                   "--initial-advertise-peer-urls=" + PeerUrl(member),
                                   "--initial-cluster=" + InitialCluster(),
                                   "--heartbeat-interval=50",
                                   "--election-timeout=500"};
  argv.insert(argv.end(), more_.begin(), more_.end());
  const auto keep = [](const ProcessId&) { return Err::kOk; };
  const auto started = Spawn(argv, folder_ / ("log" + std::to_string(member)), keep);
  REQUIRE(started.ok());
  it.process = *started;
}

void EtcdMembers::Kill(size_t member) {
  ProcessId& process = members_[member].process;
  if (process.pid == 0) return;
  (void)hayloft::Signal(process, SIGKILL);
  CHECK(Eventually([&] { return ReapChild(process.pid).ok(); }));
  process = {};
}

void EtcdMembers::Signal(size_t member, int number) const {
  REQUIRE(hayloft::Signal(members_[member].process, number));
}

std::string EtcdMembers::Url(size_t member) const {
  return scheme_ + "://127.0.0.1:" + std::to_string(members_[member].client_port);
}

std::string EtcdMembers::PeerUrl(size_t member) const {
  return "http://127.0.0.1:" + std::to_string(members_[member].peer_port);
}

std::vector<std::string> EtcdMembers::Urls() const {
  std::vector<std::string> urls;
  for (size_t i = 0; i < members_.size(); ++i) urls.push_back(Url(i));
  return urls;
}

std::string EtcdMembers::InitialCluster() const {
  std::string text;
  for (size_t i = 0; i < members_.size(); ++i) {
    text += (i > 0 ? ",m" : "m") + std::to_string(i) + "=" + PeerUrl(i);
  }
  return text;
}

int EtcdMembers::Ctl(std::vector<std::string> words) const {
  words.insert(words.begin(), {"env", "ETCDCTL_API=3", "etcdctl", "--endpoints=" + Url(0)});
  return RunQuietly(std::move(words));
}

void EtcdMembers::Restore(const std::string& snapshot, const std::string& token) {
  Kill(0);
  std::filesystem::remove_all(members_[0].data);
  REQUIRE_EQ(Ctl({"snapshot", "restore", snapshot, "--name=m0", "--data-dir=" + members_[0].data,
                  "--initial-cluster=" + InitialCluster(), "--initial-cluster-token=" + token,
                  "--initial-advertise-peer-urls=" + PeerUrl(0)}),
             0);
  Start(0);
}

FaultyServer::FaultyServer(int port, std::string word, std::string answer)
    : port_(port), word_(std::move(word)), answer_(std::move(answer)) {
  listener_ = Listen(&own_port_);
  thread_ = std::thread([this] { Serve(); });
}

FaultyServer::~FaultyServer() {
  over_ = true;
  shutdown(listener_.get(), SHUT_RDWR);
  thread_.join();
}

std::string FaultyServer::Url() const { return "http://127.0.0.1:" + std::to_string(own_port_); }

void FaultyServer::Serve() {
  while (!over_) {
    const UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client.valid()) continue;
    if (port_ == 0) {
      if (!ReadRequest(client.get()).empty()) SendAll(client.get(), answer_);
      continue;
    }
    // As long as the client keeps the connection.
    for (;;) {
      const std::string request = ReadRequest(client.get());
      if (request.empty()) break;
      const std::string answer = Forward(request);
      if (request.find(word_) != std::string::npos) {
        ++lost_;
        break;
      }
      SendAll(client.get(), answer);
    }
  }
}

// The answer is one after which the client may keep its connection.
std::string FaultyServer::Forward(const std::string& request) const {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port_));
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) return "";
  std::string last = request;
  last.insert(last.find("\r\n") + 2, "Connection: close\r\n");
  SendAll(fd.get(), last);
  std::string answer;
  char part[16'384];
  for (;;) {
    const ssize_t count = recv(fd.get(), part, sizeof(part), 0);
    if (count <= 0) break;
    answer.append(part, static_cast<size_t>(count));
  }
  const std::string close = "Connection: close\r\n";
  if (const size_t at = answer.find(close); at != std::string::npos) answer.erase(at, close.size());
  return answer;
}

}  // namespace hayloft
