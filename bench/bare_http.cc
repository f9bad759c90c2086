// What serving a file over HTTP costs at least: one thread, one epoll, one pread, one writev. Knows
// nothing but GET of a file in its folder and answers with hardly a header: the measure beside
// which bench/http_cost_bench.py puts the gateway and nginx.
//
//   bare_http FOLDER          prints the port that it listens on
//   bare_http FOLDER memory   keeps each file in memory once it was asked for: no pread
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace hayloft {
namespace {

constexpr size_t kFileBytesMaxHere = 1 << 20;

struct OpenFile {
  int fd = -1;
  size_t size = 0;
  std::vector<char> bytes{};  // those of them that are kept
};

struct Peer {
  int fd = -1;
  std::string in;
  std::vector<char> out;
  size_t sent = 0;
};

class BareServer {
 public:
  BareServer(std::string folder, bool keeps)
      : folder_(std::move(folder)), keeps_(keeps), buffer_(kFileBytesMaxHere) {}

  bool Listen() {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(at);
    auto* const address = reinterpret_cast<sockaddr*>(&at);
    if (bind(listener_, address, length) != 0 || listen(listener_, 1024) != 0) return false;
    if (getsockname(listener_, address, &length) != 0) return false;
    std::printf("%d\n", ntohs(at.sin_port));
    std::fflush(stdout);
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    Watch(EPOLL_CTL_ADD, listener_, EPOLLIN, nullptr);
    return true;
  }

  void Run() {
    std::array<epoll_event, 256> events;
    while (true) {
      const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<size_t>(i)];
        auto* const peer = static_cast<Peer*>(event.data.ptr);
        if (peer == nullptr) {
          Accept();
        } else if (!((event.events & EPOLLOUT) != 0 ? SendRest(peer) : Read(peer))) {
          close(peer->fd);
          delete peer;
        }
      }
    }
  }

 private:
  void Watch(int how, int fd, uint32_t what, Peer* peer) {
    epoll_event event{};
    event.events = what;
    event.data.ptr = peer;
    epoll_ctl(epoll_, how, fd, &event);
  }
  void Accept() {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    Watch(EPOLL_CTL_ADD, fd, EPOLLIN, new Peer{.fd = fd, .in = {}, .out = {}});
  }
  const OpenFile& Open(std::string_view name) {
    OpenFile& file = files_[std::string(name)];
    if (file.fd < 0) {
      file.fd = open((folder_ + "/" + std::string(name)).c_str(), O_RDONLY | O_CLOEXEC);
      struct stat info {};
      if (fstat(file.fd, &info) == 0) file.size = static_cast<size_t>(info.st_size);
      if (keeps_) file.bytes.resize(file.size);
      if (keeps_ && pread(file.fd, file.bytes.data(), file.size, 0) < 0) file.fd = -1;
    }
    return file;
  }
  bool Read(Peer* peer) {
    std::array<char, 4096> bytes;
    const ssize_t got = recv(peer->fd, bytes.data(), bytes.size(), 0);
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return false;
    peer->in.append(bytes.data(), static_cast<size_t>(got));
    const size_t end = peer->in.find("\r\n\r\n");
    if (end == std::string::npos) return true;
    const size_t slash = peer->in.find('/');
    const size_t space = peer->in.find(' ', slash);
    const OpenFile& file = Open(std::string_view(peer->in).substr(slash + 1, space - slash - 1));
    if (file.fd < 0 || file.size > buffer_.size()) return false;
    peer->in.erase(0, end + 4);
    if (keeps_) return Send(peer, file.bytes.data(), file.size);
    const ssize_t size = pread(file.fd, buffer_.data(), file.size, 0);
    return size >= 0 && Send(peer, buffer_.data(), static_cast<size_t>(size));
  }
  bool Send(Peer* peer, const char* bytes, size_t size) {
    char head[160];
    const int head_size = std::snprintf(head, sizeof(head),
                                        "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
                                        "Content-Length: %zu\r\n\r\n",
                                        size);
    std::array<iovec, 2> parts{
        {{head, static_cast<size_t>(head_size)}, {const_cast<char*>(bytes), size}}};
    ssize_t sent = writev(peer->fd, parts.data(), 2);
    if (sent < 0 && errno == EAGAIN) sent = 0;
    if (sent < 0) return false;
    const size_t all = static_cast<size_t>(head_size) + size;
    if (static_cast<size_t>(sent) == all) return true;
    peer->out.assign(head, head + head_size);
    peer->out.insert(peer->out.end(), bytes, bytes + size);
    peer->sent = static_cast<size_t>(sent);
    Watch(EPOLL_CTL_MOD, peer->fd, EPOLLOUT, peer);
    return true;
  }
  bool SendRest(Peer* peer) {
    const ssize_t sent =
        send(peer->fd, peer->out.data() + peer->sent, peer->out.size() - peer->sent, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN;
    peer->sent += static_cast<size_t>(sent);
    if (peer->sent == peer->out.size()) Watch(EPOLL_CTL_MOD, peer->fd, EPOLLIN, peer);
    return true;
  }

  const std::string folder_;
  const bool keeps_;
  std::vector<char> buffer_;
  std::unordered_map<std::string, OpenFile> files_;
  int listener_ = -1;
  int epoll_ = -1;
};

}  // namespace
}  // namespace hayloft

int main(int argc, char** argv) {
  const bool keeps = argc == 3 && std::strcmp(argv[2], "memory") == 0;
  if (argc != 2 && !keeps) {
    std::fprintf(stderr, "usage: bare_http FOLDER [memory]\n");
    return 2;
  }
  hayloft::BareServer server(argv[1], keeps);
  if (!server.Listen()) {
    std::perror("bare_http");
    return 1;
  }
  server.Run();
}
