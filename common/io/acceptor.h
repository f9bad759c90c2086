// Accepts connections from one listening socket.
//
// Without descriptors or memory (EMFILE, ENFILE, ENOMEM, ENOBUFS) it stops accepting for 100 ms: a
// listening socket stays readable, and asking again at once would burn a processor for nothing.
#pragma once

#include <functional>

#include "common/io/loop.h"
#include "common/metrics.h"

namespace hayloft {

class Acceptor {
 public:
  using OnAccept = std::function<void(UniqueFd)>;
  // `fd` listens and does not block. `pauses`, borrowed, counts how often it ran dry.
  Acceptor(Loop* loop, UniqueFd fd, Counter* pauses, OnAccept on_accept);
  // Takes what waits, before the socket is closed: the system would reset it.
  void AcceptWaiting() { OnReadable(); }
  int fd() const { return fd_.get(); }

 private:
  void OnReadable();

  Loop* loop_;
  UniqueFd fd_;
  Counter* pauses_;
  OnAccept on_accept_;
  Loop::Handle readable_;
  Loop::Handle retry_;
};

}  // namespace hayloft
