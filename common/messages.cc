#include "common/messages.h"

#include "common/limits.h"

namespace hayloft {

const MessageRow* FindMessage(uint16_t number) {
  switch (static_cast<MessageType>(number)) {
#define X(name, value, queue, message_max, payload_max)                                          \
  case MessageType::name: {                                                                      \
    static constexpr MessageRow kRow{MessageType::name, &#name[1], RpcQueue::queue, message_max, \
                                     payload_max};                                               \
    return &kRow;                                                                                \
  }
    HAYLOFT_MESSAGES(X)
#undef X
  }
  return nullptr;
}

}  // namespace hayloft
