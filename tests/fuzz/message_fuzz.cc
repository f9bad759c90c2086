// libFuzzer target: the message of each type, behind a sound frame, as a process decodes it.
// covers: out/gen/common/proto/hayloft.pb.cc _InternalParse
//
// Promise: what parses can be written and read again without a change.
#include <string>

#include "common/io/frame_reader.h"
#include "common/proto/hayloft.pb.h"

namespace hayloft {
namespace {

template <typename Message>
void Check(const std::string& bytes) {
  Message message;
  if (!message.ParseFromString(bytes)) return;
  const std::string written = message.SerializeAsString();
  Message again;
  ASSERT(again.ParseFromString(written));
  ASSERT(again.SerializeAsString() == written);
}

#define HAYLOFT_BODIES(X)                \
  X(kHello, Hello)                       \
  X(kAuth, Auth)                         \
  X(kPing, Ping)                         \
  X(kAppend, Append)                     \
  X(kReplicaAppend, Append)              \
  X(kRead, Read)                         \
  X(kStat, Stat)                         \
  X(kSetDelete, SetDelete)               \
  X(kDeleteFeed, DeleteFeed)             \
  X(kNeedleList, NeedleList)             \
  X(kDeleteState, DeleteState)           \
  X(kCreateBlock, CreateBlock)           \
  X(kCloseBlock, CloseBlock)             \
  X(kSealBlock, SealBlock)               \
  X(kRegister, Register)                 \
  X(kHeartbeat, Heartbeat)               \
  X(kBlockReport, BlockReport)           \
  X(kGrant, Grant)                       \
  X(kLocate, Locate)                     \
  X(kClusterStatus, ClusterStatus)       \
  X(kDeclareGone, DeclareGone)           \
  X(kFailover, Failover)                 \
  X(kForcePromote, ForcePromote)         \
  X(kDeclareDirectory, DeclareDirectory) \
  X(kGatewayHello, GatewayHello)         \
  X(kShip, Ship)                         \
  X(kSnapshot, Snapshot)                 \
  X(kTakeOver, TakeOver)                 \
  X(kDirLookup, DirLookup)               \
  X(kDirUpload, DirUpload)               \
  X(kDirReference, DirReference)         \
  X(kDirDelete, DirDelete)               \
  X(kDirUndelete, DirUndelete)           \
  X(kDirAdopt, DirAdopt)                 \
  X(kDirPin, DirPin)                     \
  X(kDirNameGet, DirNameGet)             \
  X(kDirNamePut, DirNamePut)             \
  X(kDirNameDelete, DirNameDelete)       \
  X(kDirNameList, DirNameList)           \
  X(kDirStatus, DirStatus)               \
  X(kHottest, Hottest)

void CheckBody(MessageType type, const std::string& bytes) {
  switch (type) {
#define X(number, name)              \
  case MessageType::number:          \
    Check<pb::name##Request>(bytes); \
    return Check<pb::name##Reply>(bytes);
    HAYLOFT_BODIES(X)
#undef X
  }
}

}  // namespace
}  // namespace hayloft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hayloft;
  if (size < 1) return 0;
  const std::string message(AsText({data + 1, size - 1}));
  const MessageRow* row = FindMessage(data[0]);
  if (row == nullptr) {
    Check<pb::HaRecord>(message);
    Check<pb::DirRecord>(message);
    return Check<pb::LogRecord>(message), 0;
  }
  if (message.size() > row->message_bytes_max) return 0;
  const FrameHeader header = MakeFrameHeader({.type = row->type, .message = AsBytes(message)});
  const std::string frame = std::string(AsText(StructBytes(header))) + message;
  FrameReader reader;
  Bytes input = AsBytes(frame);
  ASSERT(*reader.Next(&input) == FrameReader::Step::kHeader);
  ASSERT(*reader.Next(&input) == FrameReader::Step::kFrame);
  CheckBody(row->type, reader.Take().message);
  return 0;
}
