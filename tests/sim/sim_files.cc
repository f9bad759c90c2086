#include "tests/sim/sim_files.h"

#include <algorithm>

#include "common/check.h"

namespace hayloft {

namespace {

constexpr uint64_t kBlock = 7;

CallDone Done(Err err, const google::protobuf::MessageLite& message) {
  CallDone done;
  done.err = err;
  done.message = message.SerializeAsString();
  return done;
}

CallDone Failed(Err err) {
  CallDone done;
  done.err = err;
  return done;
}

void FillReplica(pb::Replica* replica) {
  replica->set_dsp_id(1);
  replica->set_address(kSimFilesAddress);
  replica->set_incarnation(1);
}

}  // namespace

const SimFile* SimFiles::Find(const FileAddress& file) const {
  const auto found = files_.find(file);
  return found == files_.end() ? nullptr : &found->second;
}

CallDone SimFiles::Answer(const RpcCall& call) {
  const bool of_dsp = call.type != MessageType::kGrant && call.type != MessageType::kLocate;
  if (down && of_dsp) return Failed(Err::kUnavailable);
  switch (call.type) {
    case MessageType::kGrant: {
      pb::GrantReply reply;
      pb::Grant* grant = reply.add_grants();
      grant->set_block_id(kBlock);
      grant->set_block_epoch(1);
      FillReplica(grant->add_replicas());
      return Done(Err::kOk, reply);
    }
    case MessageType::kLocate: {
      pb::LocateReply reply;
      pb::Location* location = reply.add_locations();
      location->set_block_id(kBlock);
      location->set_state(pb::BLOCK_OPEN);
      FillReplica(location->add_replicas());
      reply.set_complete(true);
      reply.set_directory_shards(directory_shards_);
      return Done(Err::kOk, reply);
    }
    case MessageType::kDeclareDirectory: {
      pb::DeclareDirectoryRequest request;
      ASSERT(request.ParseFromString(call.message));
      pb::DeclareDirectoryReply reply;
      directory_shards_ = request.shards();
      reply.set_shards(directory_shards_);
      return Done(Err::kOk, reply);
    }
    case MessageType::kAppend:
      return Append(call);
    case MessageType::kRead:
      return Read(call);
    case MessageType::kStat:
      return Stat(call);
    case MessageType::kSetDelete:
      return SetDelete(call);
    default:
      return Failed(Err::kUnsupported);
  }
}

CallDone SimFiles::Append(const RpcCall& call) {
  pb::AppendRequest request;
  const bool parses = request.ParseFromString(call.message);
  ASSERT(parses);
  const Result<Metadata> metadata = ParseMetadata(AsBytes(request.metadata()));
  ASSERT(metadata.ok());
  const FileId id = FileId::Of(next_sequence_++, random_.Below(kCookieMax));
  NeedleHeader header{};
  header.block_id = request.block_id();
  header.file_id = id.value;
  header.created_ms = 1;
  header.stored_size = static_cast<uint32_t>(call.payload.size());
  header.raw_size = request.raw_size();
  header.encoding = static_cast<uint8_t>(request.encoding());
  SimFile file;
  file.head =
      EncodeNeedleHead(header, PieceCrcs(call.payload.bytes()), AsBytes(request.metadata()), {});
  file.bytes = AsText(call.payload.bytes());
  file.content = ContentOf(*metadata, request.raw_size());
  file.nonce = metadata->nonce;
  files_[{request.block_id(), id}] = std::move(file);
  pb::AppendReply reply;
  reply.set_file_id(id.value);
  reply.set_created_ms(1);
  return Done(Err::kOk, reply);
}

CallDone SimFiles::Read(const RpcCall& call) const {
  pb::ReadRequest request;
  const bool parses = request.ParseFromString(call.message);
  ASSERT(parses);
  const SimFile* file = Find({request.block_id(), FileId{request.file_id()}});
  if (file == nullptr || file->purged) return Failed(Err::kNotFound);
  if (!file->Live() && !request.include_deleted()) return Failed(Err::kGone);
  pb::ReadReply reply;
  reply.set_head(file->head);
  reply.set_delete_counter(file->counter);
  reply.set_doubtful(doubtful);
  CallDone done = Done(Err::kOk, reply);
  if (!request.head_only()) done.payload = Buffer::CopyOf(AsBytes(file->bytes));
  return done;
}

CallDone SimFiles::Stat(const RpcCall& call) const {
  pb::StatRequest request;
  const bool parses = request.ParseFromString(call.message);
  ASSERT(parses);
  const SimFile* file = Find({request.block_id(), FileId{request.file_id()}});
  if (file == nullptr) return Failed(Err::kNotFound);
  pb::StatReply reply;
  reply.set_head(file->head);
  reply.set_delete_counter(file->counter);
  reply.set_purged(file->purged);
  reply.set_serving(true);
  FillReplica(reply.add_up());
  reply.set_set_size(1);
  return Done(Err::kOk, reply);
}

// Replicas merge by maximum; what was purged can't come back.
CallDone SimFiles::SetDelete(const RpcCall& call) {
  pb::SetDeleteRequest request;
  const bool parses = request.ParseFromString(call.message);
  ASSERT(parses);
  const auto found = files_.find({request.block_id(), FileId{request.file_id()}});
  if (found == files_.end()) return Failed(Err::kNotFound);
  SimFile& file = found->second;
  if (file.purged && request.counter() % 2 == 0) return Failed(Err::kGone);
  if (!file.purged) file.counter = std::max(file.counter, request.counter());
  pb::SetDeleteReply reply;
  reply.set_counter(std::max(file.counter, request.counter()));
  reply.set_serving(true);
  FillReplica(reply.add_up());
  reply.set_set_size(1);
  return Done(Err::kOk, reply);
}

}  // namespace hayloft
