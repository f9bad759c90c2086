#include "tests/unit/fake_cluster.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <future>

#include "common/proto/hayloft.pb.h"

namespace hayloft {

namespace {

RpcReply ReplyTo(const RpcRequest& request, Err err, std::string message = {}) {
  return RpcReply{
      .token = request.token, .type = request.type, .err = err, .message = std::move(message)};
}

template <typename Message>
Message Parse(const RpcRequest& request) {
  Message message;
  ASSERT(message.ParseFromString(request.message));
  return message;
}

}  // namespace

FakeCluster::FakeCluster(const std::string& cluster_key)
    : nameserver_(&loop_, {.listen = "127.0.0.1:0", .cluster_key = cluster_key}),
      dsp_(&loop_, {.listen = "127.0.0.1:0", .cluster_key = cluster_key}) {
  nameserver_.OnRequest([this](RpcRequest&& request) { OnNameserver(std::move(request)); });
  dsp_.OnRequest([this](RpcRequest&& request) { OnDsp(std::move(request)); });
  std::string why;
  REQUIRE_EQ(nameserver_.Listen(&why), Err::kOk);
  REQUIRE_EQ(dsp_.Listen(&why), Err::kOk);
  thread_ = std::thread([this] { loop_.Run(); });
}

FakeCluster::~FakeCluster() {
  loop_.Stop();
  thread_.join();
}

void FakeCluster::Do(const std::function<void()>& fn) {
  std::promise<void> done;
  loop_.Post([&] {
    fn();
    done.set_value();
  });
  done.get_future().wait();
}

size_t FakeCluster::files() {
  size_t count = 0;
  Do([&] { count = files_.size(); });
  return count;
}

void FakeCluster::Forget(const FileAddress& address) {
  Do([&] { files_.erase(address.file_id.value); });
}

void FakeCluster::ReleaseAppends() {
  Do([this] {
    hold_appends = false;
    for (const RpcRequest& request : held_) dsp_.Reply(Append(request));
    held_.clear();
  });
}

size_t FakeCluster::reads_held() {
  size_t count = 0;
  Do([&] { count = held_reads_.size(); });
  return count;
}

void FakeCluster::ReleaseReads() {
  Do([this] {
    hold_reads = false;
    for (const RpcRequest& request : held_reads_) dsp_.Reply(Read(request));
    held_reads_.clear();
  });
}

size_t FakeCluster::answers_held() {
  size_t count = 0;
  Do([&] { count = held_answers_.size(); });
  return count;
}

void FakeCluster::ReleaseAnswers() {
  Do([this] {
    hold_answers = false;
    for (RpcReply& reply : std::exchange(held_answers_, {})) dsp_.Reply(std::move(reply));
  });
}

void FakeCluster::OnNameserver(RpcRequest&& request) {
  const auto replica = [this] {
    pb::Replica one;
    one.set_dsp_id(1);
    one.set_address(dsp_.address());
    one.set_incarnation(1);
    return one;
  };
  if (request.type == MessageType::kGrant) {
    pb::GrantReply reply;
    pb::Grant* grant = reply.add_grants();
    grant->set_block_id(kBlockId);
    grant->set_block_epoch(1);
    *grant->add_replicas() = replica();
    return nameserver_.Reply(ReplyTo(request, grant_err, reply.SerializeAsString()));
  }
  if (request.type == MessageType::kLocate) {
    pb::LocateReply reply;
    reply.set_complete(true);
    reply.set_directory_shards(directory_shards_);
    const auto locate = Parse<pb::LocateRequest>(request);
    for (const uint64_t block_id : locate.block_ids()) {
      pb::Location* location = reply.add_locations();
      location->set_block_id(block_id);
      if (block_id != kBlockId) continue;
      location->set_state(pb::BLOCK_OPEN);
      *location->add_replicas() = replica();
    }
    return nameserver_.Reply(ReplyTo(request, Err::kOk, reply.SerializeAsString()));
  }
  if (request.type == MessageType::kDeclareDirectory) {
    directory_shards_ = Parse<pb::DeclareDirectoryRequest>(request).shards();
    pb::DeclareDirectoryReply reply;
    reply.set_shards(directory_shards_);
    return nameserver_.Reply(ReplyTo(request, Err::kOk, reply.SerializeAsString()));
  }
  pb::ClusterStatusReply reply;
  reply.set_role("active");
  reply.set_writable(writable);
  nameserver_.Reply(ReplyTo(request, Err::kOk, reply.SerializeAsString()));
}

void FakeCluster::OnDsp(RpcRequest&& request) {
  switch (request.type) {
    case MessageType::kAppend:
      ++appends;
      if (hold_appends) return held_.push_back(std::move(request));
      return dsp_.Reply(Append(request));
    case MessageType::kRead:
      if (Parse<pb::ReadRequest>(request).live_only()) {
        ++live_asks;
        return dsp_.Reply(Read(request));
      }
      ++reads;
      if (hold_reads) return held_reads_.push_back(std::move(request));
      if (hold_answers) return held_answers_.push_back(Read(request));
      return dsp_.Reply(Read(request));
    case MessageType::kDeleteFeed:
      ++feed_asks;
      return dsp_.Reply(Feed(request));
    case MessageType::kStat:
      return dsp_.Reply(Stat(request));
    case MessageType::kSetDelete:
      return dsp_.Reply(SetDelete(request));
    default:
      return dsp_.Reply(ReplyTo(request, Err::kUnsupported));
  }
}

FakeCluster::File* FakeCluster::Find(uint64_t block_id, uint64_t file_id) {
  const auto entry = files_.find(file_id);
  return block_id == kBlockId && entry != files_.end() ? &entry->second : nullptr;
}

size_t FakeCluster::live_files() {
  size_t count = 0;
  Do([&] {
    for (const auto& [id, file] : files_) count += file.delete_counter % 2 == 0 ? 1 : 0;
  });
  return count;
}

FileAddress FakeCluster::Store(const Needle& needle) {
  NeedleHeader header{};
  header.raw_size = needle.raw_size;
  header.encoding = static_cast<uint8_t>(needle.encoding);
  FileId id{};
  Do([&] { id = Keep(header, Buffer::CopyOf(AsBytes(needle.stored)), AsBytes(needle.metadata)); });
  return {kBlockId, id};
}

// Under the next id.
FileId FakeCluster::Keep(NeedleHeader header, Buffer stored, Bytes metadata) {
  const uint32_t sequence = next_sequence_++;
  const FileId id = FileId::Of(sequence, 0x1234500000 + sequence);
  header.block_id = kBlockId;
  header.file_id = id.value;
  header.created_ms = created_ms_;
  header.stored_size = static_cast<uint32_t>(stored.size());
  File file;
  file.head =
      EncodeNeedleHead(header, PieceCrcs(stored.bytes()), metadata, {.life = 1, .offset = 0});
  file.stored = std::move(stored);
  files_[id.value] = std::move(file);
  return id;
}

RpcReply FakeCluster::Append(const RpcRequest& request) {
  if (append_err.load() != Err::kOk) return ReplyTo(request, append_err);
  const auto append = Parse<pb::AppendRequest>(request);
  NeedleHeader header{};
  header.raw_size = append.raw_size();
  header.encoding = static_cast<uint8_t>(append.encoding());
  const std::vector<uint32_t> crcs(append.piece_crcs().begin(), append.piece_crcs().end());
  CHECK_EQ(crcs, PieceCrcs(request.payload.bytes()));
  const FileId id =
      Keep(header, Buffer::CopyOf(request.payload.bytes()), AsBytes(append.metadata()));
  pb::AppendReply reply;
  reply.set_file_id(id.value);
  reply.set_created_ms(created_ms_);
  return ReplyTo(request, Err::kOk, reply.SerializeAsString());
}

// What a file holds, as if another id named it.
FakeCluster::File FakeCluster::UnderId(const File& file, uint64_t file_id) {
  const Result<NeedleHead> head = ParseNeedleHead(AsBytes(file.head));
  NeedleHeader header = head->header;
  header.file_id = file_id;
  File renamed;
  renamed.head = EncodeNeedleHead(header, PieceCrcs(file.stored.bytes()), head->metadata,
                                  {.life = 1, .offset = 0});
  renamed.stored = Buffer::CopyOf(file.stored.bytes());
  return renamed;
}

RpcReply FakeCluster::Read(const RpcRequest& request) {
  if (read_err.load() != Err::kOk && reads_before_err-- <= 0) return ReplyTo(request, read_err);
  const auto read = Parse<pb::ReadRequest>(request);
  const bool lies = !read.head_only() && reads_before_lie-- <= 0;
  const File* file = Find(read.block_id(), read.file_id());
  if (file == nullptr) return ReplyTo(request, Err::kNotFound);
  if (file->delete_counter % 2 == 1 && !read.include_deleted()) {
    return ReplyTo(request, trash_time_over ? Err::kNotFound : Err::kGone);
  }
  File other;
  const bool disguised = lies && bytes_of > 0;
  if (disguised) {
    other = UnderId(*Find(kBlockId, bytes_of), read.file_id());
    file = &other;
  }
  const Result<NeedleHead> head = ParseNeedleHead(AsBytes(file->head));
  const uint64_t size = head->header.raw_size;
  if (!disguised && read.suffix() == 0 && read.offset() >= size && read.offset() > 0) {
    return ReplyTo(request, Err::kRange);
  }
  pb::ReadReply reply;
  reply.set_head(file->head);
  reply.set_delete_counter(file->delete_counter);
  reply.set_doubtful(doubtful);
  reply.set_block_open(block_open ? 1 : 0);
  if (read.live_only()) {
    reply.clear_head();
    return ReplyTo(request, Err::kOk, reply.SerializeAsString());
  }
  uint64_t begin = read.suffix() > 0 ? size - std::min(size, read.suffix()) : read.offset();
  uint64_t end = read.length() > 0 && read.suffix() == 0
                     ? begin + std::min(read.length(), size - begin)
                     : size;
  if (head->header.encoding != static_cast<uint8_t>(Encoding::kIdentity)) {
    begin = 0;
    end = file->stored.size();
  }
  begin = begin / kPieceBytes * kPieceBytes;  // as a dsp that sends whole pieces
  reply.set_offset(begin);
  RpcReply answer = ReplyTo(request, Err::kOk, reply.SerializeAsString());
  if (!read.head_only()) {
    const uint64_t count = lies ? std::min<uint64_t>(end - begin, read_bytes_max) : end - begin;
    answer.payload = Buffer::CopyOf(file->stored.bytes().subspan(begin, count));
  }
  return answer;
}

RpcReply FakeCluster::Stat(const RpcRequest& request) {
  const auto stat = Parse<pb::StatRequest>(request);
  const File* file = Find(stat.block_id(), stat.file_id());
  if (file == nullptr) return ReplyTo(request, Err::kNotFound);
  pb::StatReply reply;
  reply.set_head(file->head);
  reply.set_delete_counter(file->delete_counter);
  return ReplyTo(request, Err::kOk, reply.SerializeAsString());
}

RpcReply FakeCluster::Feed(const RpcRequest& request) {
  if (feed_silent) return ReplyTo(request, Err::kUnavailable);
  const auto feed = Parse<pb::DeleteFeedRequest>(request);
  pb::DeleteFeedReply reply;
  reply.set_incarnation(1);
  reply.set_dsp_id(1);
  reply.set_position(changes_.size());
  reply.set_gap(feed.incarnation() != 1);
  for (size_t at = feed.position(); !reply.gap() && at < changes_.size(); ++at) {
    pb::FileChange& change = *reply.add_changes();
    change.set_block_id(kBlockId);
    change.set_sequence(changes_[at]);
  }
  return ReplyTo(request, Err::kOk, reply.SerializeAsString());
}

void FakeCluster::Set(uint64_t file_id, File* file, uint32_t counter) {
  if (file->delete_counter == counter) return;
  file->delete_counter = counter;
  changes_.push_back(FileId{file_id}.sequence());
}

void FakeCluster::Change(const FileAddress& address, bool deleted) {
  Do([&] {
    File* file = Find(address.block_id, address.file_id.value);
    const bool is_deleted = file->delete_counter % 2 == 1;
    if (is_deleted != deleted) Set(address.file_id.value, file, file->delete_counter + 1);
  });
}

RpcReply FakeCluster::SetDelete(const RpcRequest& request) {
  const auto change = Parse<pb::SetDeleteRequest>(request);
  File* file = Find(change.block_id(), change.file_id());
  if (file == nullptr) return ReplyTo(request, Err::kNotFound);
  const bool undelete = change.counter() % 2 == 0 && change.counter() > 0;
  if (undelete && trash_time_over) return ReplyTo(request, Err::kGone);
  Set(change.file_id(), file, std::max(file->delete_counter, change.counter()));
  pb::SetDeleteReply reply;
  reply.set_counter(file->delete_counter);
  return ReplyTo(request, Err::kOk, reply.SerializeAsString());
}

}  // namespace hayloft
