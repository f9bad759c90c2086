#include "common/io/acceptor.h"

#include <sys/socket.h>

#include <cerrno>

#include "common/log.h"

namespace hayloft {

namespace {
constexpr int kAcceptsPerTurnMax = 64;  // then established connections have their turn
constexpr uint64_t kRetryMs = 100;

bool RanDry(int error) {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}
}  // namespace

Acceptor::Acceptor(Loop* loop, UniqueFd fd, Counter* pauses, OnAccept on_accept)
    : loop_(loop), fd_(std::move(fd)), pauses_(pauses), on_accept_(std::move(on_accept)) {
  ASSERT(fd_.valid());
  readable_ = loop_->OnReadable(fd_.get(), [this] { OnReadable(); });
}

void Acceptor::OnReadable() {
  for (int i = 0; i < kAcceptsPerTurnMax; ++i) {
    UniqueFd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd.valid()) {
      on_accept_(std::move(fd));
      continue;
    }
    if (errno == EAGAIN) return;
    if (!RanDry(errno)) continue;  // this one connection died before it was accepted
    pauses_->Add();
    LOG_WARN("accept_ran_dry", "errno=%d action=pause_%dms", errno, static_cast<int>(kRetryMs));
    Loop::Pause(readable_);
    retry_ = loop_->After(kRetryMs, [this] { Loop::Resume(readable_); });
    return;
  }
}

}  // namespace hayloft
