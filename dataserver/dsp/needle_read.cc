#include "dataserver/dsp/needle_read.h"

#include <algorithm>

#include "common/needle.h"
#include "common/proto/hayloft.pb.h"
#include "dataserver/dsp/block_format.h"

namespace hayloft {

namespace {

// Enough for the head of every needle, also of 60 MiB with 8 KiB of metadata.
constexpr uint64_t kHeadReadBytes = 12 << 10;
static_assert(sizeof(NeedleHeader) + kFileBytesMax / kPieceBytes * sizeof(le32) +
                  kMetadataBytesMax <=
              kHeadReadBytes);
constexpr uint64_t kOneReadBytes = kPieceBytes + kHeadReadBytes;

// Bytes wanted of the stored data, as whole pieces and as asked.
struct Wanted {
  uint64_t begin = 0;
  uint64_t end = 0;
  uint64_t piece_begin = 0;
  uint64_t piece_end = 0;
};

class NeedleReader {
 public:
  NeedleReader(Device* device, const ReadJob& job, bool cached_only)
      : device_(device), job_(job), cached_only_(cached_only) {}

  Err Run(RpcReply* reply) {
    const uint64_t available = job_.span.next - job_.span.offset;
    bytes_ = Buffer(FirstReadBytes(available));
    TRY(Read(job_.span.offset, bytes_.mutable_bytes()));
    const Result<NeedleHead> head = Check();
    if (!head.ok()) return head.err();
    if (head->needle_bytes > available) return Err::kCorrupt;
    if (head->file_id() != job_.file_id) return Err::kNotFound;
    if (job_.delete_err != Err::kOk) return job_.delete_err;
    return Answer(*head, reply);
  }

 private:
  Err Read(uint64_t offset, MutableBytes out) {
    return cached_only_ ? device_->ReadCached(job_.file, offset, out)
                        : device_->Read(job_.file, offset, out);
  }

  uint64_t FirstReadBytes(uint64_t available) const {
    if (job_.head_only || job_.purpose != ReadJob::Purpose::kRead) {
      return std::min(available, kHeadReadBytes);
    }
    if (available <= kOneReadBytes) return available;
    const bool from_start = job_.offset == 0 && job_.suffix == 0;
    if (!from_start) return std::min(available, kHeadReadBytes);
    if (job_.length == 0 || job_.length >= available) return available;
    const uint64_t pieces = (job_.length + kPieceBytes - 1) / kPieceBytes * kPieceBytes;
    return std::min(available, kHeadReadBytes + pieces);
  }

  Result<NeedleHead> Check() const {
    return CheckNeedleHead(bytes_.bytes(), job_.block_id,
                           {.life = job_.life, .offset = job_.span.offset});
  }

  Result<Wanted> Want(const NeedleHead& head) const {
    const uint64_t size = head.header.stored_size;
    Wanted want{.begin = 0, .end = size};
    if (head.header.encoding == static_cast<uint8_t>(Encoding::kIdentity)) {
      if (job_.suffix > 0) {
        want.begin = size - std::min(size, job_.suffix);
      } else {
        if (job_.offset >= size) return Err::kRange;
        want.begin = job_.offset;
        if (job_.length > 0) want.end = want.begin + std::min(job_.length, size - want.begin);
      }
    }
    want.piece_begin = want.begin / kPieceBytes * kPieceBytes;
    want.piece_end = std::min(size, (want.end + kPieceBytes - 1) / kPieceBytes * kPieceBytes);
    return want;
  }

  Err Answer(const NeedleHead& head, RpcReply* reply) {
    const std::string head_bytes(AsText(bytes_.bytes().first(head.data_offset)));
    if (job_.purpose == ReadJob::Purpose::kStat) {
      pb::StatReply message;
      message.set_head(head_bytes);
      message.set_delete_counter(job_.delete_counter);
      message.set_delete_changed_ms(job_.delete_changed_ms);
      reply->message = message.SerializeAsString();
      return Err::kOk;
    }
    pb::ReadReply message;
    if (!job_.head_only) {
      TRY_ASSIGN(const Wanted want, Want(head));
      TRY(TakePayload(head, want, reply));
      message.set_offset(want.begin);
    }
    message.set_head(head_bytes);
    message.set_delete_counter(job_.delete_counter);
    message.set_block_open(job_.block_open ? 1 : 0);
    message.set_doubtful(!job_.serves);
    reply->message = message.SerializeAsString();
    return Err::kOk;
  }

  // Moves the wanted bytes into the reply, checked; `head` points into bytes_ until then.
  Err TakePayload(const NeedleHead& head, const Wanted& want, RpcReply* reply) {
    const uint64_t pieces_bytes = want.piece_end - want.piece_begin;
    uint64_t begin = head.data_offset + want.piece_begin;  // of the pieces, in `data`
    Buffer data;
    Bytes pieces;
    if (begin + pieces_bytes <= bytes_.size()) {
      pieces = bytes_.bytes().subspan(begin, pieces_bytes);
    } else {
      data = Buffer(pieces_bytes);
      TRY(Read(job_.span.offset + begin, data.mutable_bytes()));
      pieces = data.bytes();
      begin = 0;
    }
    TRY(CheckPieces(head, want.piece_begin / kPieceBytes, pieces));
    const bool one_whole_piece =
        want.begin == want.piece_begin && want.end == want.piece_end && pieces_bytes <= kPieceBytes;
    if (one_whole_piece) {
      reply->payload_crc = head.piece_crc(want.piece_begin / kPieceBytes);
      reply->payload_crc_known = true;
    }
    reply->payload = data.empty() ? std::move(bytes_) : std::move(data);
    reply->payload.Narrow(begin + (want.begin - want.piece_begin), want.end - want.begin);
    return Err::kOk;
  }

  Device* device_;
  const ReadJob& job_;
  const bool cached_only_;
  Buffer bytes_;
};

// A block's file that is gone says nothing about what was in it.
Err OpenBlock(Device* device, bool cached_only, ReadJob* job, FileHandle* opened) {
  if (cached_only) return Err::kBusy;
  const Result<FileHandle> file = device->Open(BlockFileName(job->block_id));
  if (!file.ok()) return file.err() == Err::kBusy ? Err::kBusy : Err::kIo;
  job->file = *opened = *file;
  return Err::kOk;
}

MessageType ReplyType(ReadJob::Purpose purpose) {
  return purpose == ReadJob::Purpose::kRead ? MessageType::kRead : MessageType::kStat;
}

}  // namespace

ReadDone ReadNeedle(Device* device, ReadJob job, bool cached_only) {
  ASSERT(job.span.present());
  ReadDone done;
  done.reply.token = job.token;
  done.reply.type = ReplyType(job.purpose);
  if (!job.file.valid()) done.err = OpenBlock(device, cached_only, &job, &done.opened);
  if (done.err == Err::kOk) {
    done.err = NeedleReader(device, job, cached_only).Run(&done.reply);
  }
  done.reply.err = done.err;
  if (done.err != Err::kOk) {
    done.reply.message.clear();
    done.reply.payload = Buffer();
  }
  done.job = std::move(job);
  return done;
}

}  // namespace hayloft
