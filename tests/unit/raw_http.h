// A client that sends bytes as they are and reads answers, for tests: it can be as rude as it
// likes.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "common/io/unique_fd.h"

namespace hayloft {

struct RawAnswer {
  int status = 0;                             // 0: the connection ended before a whole answer came
  std::map<std::string, std::string> fields;  // names in lower case
  std::string body;
  const std::string& operator[](const std::string& name) const;
};

class RawHttp {
 public:
  explicit RawHttp(const std::string& address);  // "IP:PORT"
  // False when the server has closed.
  bool Send(std::string_view bytes);
  // The next answer; `head` says that it has no body whatever its Content-Length.
  RawAnswer Read(bool head = false);
  // True when the server closes without sending anything more; `*reset`: by a reset.
  bool ReadClose(bool* reset = nullptr);
  void ShutdownSend();
  void Abort();  // closes with a reset
  int fd() const { return fd_.get(); }
  // Sends one request and reads its answer.
  RawAnswer Ask(std::string_view bytes, bool head = false);

 private:
  bool Fill();  // some more bytes; false at the end or after 20 s
  UniqueFd fd_;
  std::string buffer_;
  bool reset_ = false;
};

}  // namespace hayloft
