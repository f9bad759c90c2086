// Downloads: GET and HEAD /<id>.
//
//   BeginDownload --first run: head and up to 1 MiB--> AnswerFile --> SendFile -- more? --> SendRun
//        \-- what is sent depends on the head: that first --> ReadFirstRun --^
//
// A file's tags are known from its address, so a client that has the bytes costs no payload: the
// dsp is only asked whether the file still exists, and in which form. A long file is read in runs,
// the next one when the client has taken the last: what one reader holds is bounded. A run that
// fails breaks the connection off: a short body must not look whole. A file that is stored encoded
// comes in one run and is decoded, unless the client takes it as it lies on the disk.
#include <algorithm>

#include "client/sniff.h"
#include "common/log.h"
#include "gateway/answers.h"
#include "gateway/content_coding.h"
#include "gateway/content_disposition.h"
#include "gateway/file_lines.h"
#include "gateway/query.h"
#include "gateway/worker_shell.h"

namespace hayloft {

namespace {

bool IsZstd(const NeedleHead& head) {
  return head.header.encoding == static_cast<uint8_t>(Encoding::kZstd);
}

// Of the file in the form that is sent.
uint64_t SentSize(const DownloadState& download, const NeedleHead& head) {
  return download.as_zstd ? head.header.stored_size : head.header.raw_size;
}

// Bytes of the file, in the form that is sent, out of a reply's payload. A file that is stored
// encoded comes whole, and `range` is then any part of it; else the payload holds at least that.
Result<Buffer> CutPayload(const NeedleHead& head, GetDone&& done, const ByteRange& range,
                          bool as_zstd) {
  if (IsZstd(head) && !as_zstd) {
    TRY_ASSIGN(Buffer raw, Decompress(done.payload.bytes(), head.header.raw_size));
    // The size may be another one than that by which the range was settled.
    if (range.offset > raw.size() || range.length > raw.size() - range.offset) {
      return Err::kCorrupt;
    }
    raw.Narrow(range.offset, range.length);
    return raw;
  }
  const uint64_t begin = done.offset;
  if (begin > range.offset || range.offset - begin > done.payload.size()) return Err::kCorrupt;
  const uint64_t skip = range.offset - begin;
  if (range.length > done.payload.size() - skip) return Err::kCorrupt;
  done.payload.Narrow(skip, range.length);
  return std::move(done.payload);
}

Result<Buffer> CutRun(GetDone&& done, const ByteRange& run) {
  if (done.err != Err::kOk) return done.err;
  const std::string head_bytes = std::move(done.head);
  TRY_ASSIGN(const NeedleHead head, ParseNeedleHead(AsBytes(head_bytes)));
  return CutPayload(head, std::move(done), run, /*as_zstd=*/false);
}

// Whether the client may have the bytes already, or not want them, in one of these forms.
bool MayNeedNoBytes(const Conditions& conditions) {
  return conditions.if_none_match == Conditions::Tag::kMatches ||
         conditions.if_match == Conditions::Tag::kDiffers;
}

bool RangeIsOff(const Conditions& conditions) {
  return conditions.if_range == Conditions::Tag::kDiffers && !conditions.if_range_date;
}

// What is sent takes nothing but the request to know: one range, whose condition can be judged for
// any form of the file, in words that a dsp understands.
bool CanAskAtOnce(const DownloadState& download) {
  if (download.ranges.empty()) return true;
  const Conditions& conditions = download.conditions;
  if (download.ranges.size() > 1 || conditions.if_range_date) return false;
  if (download.prefers_zstd && conditions.if_range != download.zstd_conditions.if_range) {
    return false;
  }
  const RangeSpec& range = download.ranges.front();
  return range.kind != RangeSpec::Kind::kSuffix || range.suffix <= kRunBytes;
}

}  // namespace

void GatewayWorker::BeginDownload(HttpConnection* connection, const HttpRequest& request) {
  if (!shared_->download_memory.HasRoom(1)) return AnswerErr(connection, Err::kBusy);
  Exchange& exchange = connection->exchange;
  DownloadState& download = exchange.download;
  download = DownloadState();
  download.head_only = connection->is_head();
  const CacheAnswer found = cached_.Look(exchange.address);
  if (AnswerAtOnce(connection, request, found)) return;
  if (!request.query.empty() && !NoteSaveName(connection, request.query)) return;
  download.conditions = ParseConditions(request, exchange.etag_text());
  download.prefers_zstd = PrefersZstd(request);
  bool need_head = download.head_only || MayNeedNoBytes(download.conditions);
  bool range_is_off = RangeIsOff(download.conditions);
  if (download.prefers_zstd) {
    download.zstd_conditions = ParseConditions(request, exchange.zstd_etag());
    need_head |= MayNeedNoBytes(download.zstd_conditions);
    range_is_off &= RangeIsOff(download.zstd_conditions);
  }
  if (request.method == HttpMethod::kGet && !range_is_off) download.ranges = ParseRanges(request);
  if (found.found == Found::kHit) return AnswerKept(connection, found.file);
  const bool asks_head = need_head || !CanAskAtOnce(download);
  exchange.work_on_disk = asks_head ? Work::kReadHead : Work::kReadRun;
  // It is there, once a dsp has said that it still lives: whatever of it is wanted. Of what another
  // gateway keeps, a part may be in that one's memory.
  const bool part = need_head || !download.ranges.empty();
  const bool asks_owner = part && !cached_.Owns(exchange.address);
  download.memory_only = asks_owner && found.found != Found::kAsk;
  const bool kept = found.found == Found::kAsk || asks_owner;
  Admit(connection, kept ? Work::kReadKept : exchange.work_on_disk);
}

// False: the name that the file shall be saved under is none, and that was answered.
bool GatewayWorker::NoteSaveName(HttpConnection* connection, std::string_view query) {
  const std::optional<std::string_view> value = QueryValue(query, "download");
  if (!value) return true;
  std::optional<std::string>& save_as = connection->exchange.download.save_as;
  save_as = DecodeQueryValue(*value, kSaveNameBytesMax);
  if (save_as && (save_as->empty() || IsSaveName(*save_as))) return true;
  AnswerError(
      connection,
      {.status = 400, .message = "download: not a file's name in UTF-8 of at most 255 bytes."});
  return false;
}

void GatewayWorker::ReadHead(HttpConnection* connection, DownloadState::Step step) {
  connection->exchange.download.step = step;
  GetRequest request;
  request.address = connection->exchange.address;
  request.head_only = true;
  Get(connection, std::move(request));
}

// What a reader who takes nothing can make us hold. With long runs some hundred of them would hold
// all of the memory for answers, and others would get 503 until they are given up.
uint64_t GatewayWorker::RunBytes() const {
  const MemoryBudget& memory = shared_->download_memory;
  return memory.used_bytes() > memory.bytes_max() / 2 ? kShortRunBytes : kRunBytes;
}

// The first run of what was asked, before the size is known.
void GatewayWorker::ReadFirstRun(HttpConnection* connection) {
  DownloadState& download = connection->exchange.download;
  download.step = DownloadState::Step::kFirstRun;
  download.run = {.offset = 0, .length = RunBytes()};
  GetRequest request;
  request.address = connection->exchange.address;
  if (download.parts == nullptr && download.ranges.empty()) return ReadThroughCache(connection);
  if (download.parts != nullptr) {
    download.run = download.parts->NextRead(download.run.length);
  } else if (!download.ranges.empty()) {
    const RangeSpec& range = download.ranges.front();
    if (range.kind == RangeSpec::Kind::kSuffix) {
      if (range.suffix == 0) return ReadHead(connection, DownloadState::Step::kHeadForSize);
      ASSERT(range.suffix <= kRunBytes);
      download.run.length = kRunBytes;
      request.suffix = range.suffix;
      return Get(connection, std::move(request));
    }
    download.run.offset = range.first;
    if (range.kind == RangeSpec::Kind::kFromTo) {
      download.run.length = std::min(range.last - range.first, download.run.length - 1) + 1;
    }
  }
  request.offset = download.run.offset;
  request.length = download.run.length;
  Get(connection, std::move(request));
}

void GatewayWorker::Get(HttpConnection* connection, GetRequest&& request) {
  request.timeout_ms = shared_->options.read_timeout_ms;
  connection->exchange.store_asked_ms = loop_.now().mono_ms;
  client_.Get(std::move(request), [this, id = connection->id](GetDone&& done) {
    HttpConnection* waiting = Find(id);
    ReadEnded(waiting);
    if (waiting != nullptr) OnGot(waiting, std::move(done));
  });
}

void GatewayWorker::OnGot(HttpConnection* connection, GetDone&& done) {
  DownloadState& download = connection->exchange.download;
  connection->NoteStore(done.dsp, download.cache);
  if (download.step == DownloadState::Step::kNextRun) return SendRun(connection, std::move(done));
  ASSERT(connection->answering());
  if (done.err == Err::kRange && download.step == DownloadState::Step::kFirstRun) {
    reads_.Begin();
    return ReadHead(connection, DownloadState::Step::kHeadForSize);
  }
  if (done.err != Err::kOk) return OnGetFailed(connection, done.err);
  NoteSuccess();
  AnswerFile(connection, std::move(done));
}

void GatewayWorker::OnGetFailed(HttpConnection* connection, Err err) {
  if (err == Err::kNotFound || err == Err::kGone) {
    const std::optional<uint64_t> left_s = connection->exchange.seconds_left;
    return AnswerError(connection,
                       {.status = ErrHttpStatus(err),
                        .code = ErrName(err),
                        .message = ErrSentence(err),
                        .cache_control = left_s ? NotFoundCacheControl(shared_->options, left_s)
                                                : shared_->not_found_cache_control});
  }
  if (ErrHttpStatus(err) >= 500) shared_->metrics.read_failures_total.Add();
  AnswerErr(connection, err);
}

void GatewayWorker::AnswerFile(HttpConnection* connection, GetDone&& done) {
  using Step = DownloadState::Step;
  DownloadState& download = connection->exchange.download;
  download.doubtful |= done.doubtful;
  const std::string head_bytes = std::move(done.head);
  const Result<NeedleHead> head = ParseNeedleHead(AsBytes(head_bytes));
  if (!head.ok()) return OnGetFailed(connection, head.err());
  download.as_zstd = download.prefers_zstd && IsZstd(*head);
  const Conditions& conditions = download.as_zstd ? download.zstd_conditions : download.conditions;
  const uint64_t modified_s = head->header.created_ms / 1'000;
  switch (Evaluate(conditions, modified_s)) {
    case Verdict::kFailed:
      return AnswerError(connection,
                         {.status = 412, .message = "A condition of the request does not hold."});
    case Verdict::kNotModified:
      return SendNotModified(connection, *head);
    case Verdict::kProceed:
      break;
  }
  if (!RangeAllowed(conditions, modified_s)) download.ranges.clear();
  const uint64_t size = SentSize(download, *head);
  if (download.parts == nullptr && !SettleRanges(connection, *head)) {
    return AnswerUnsatisfiable(connection, size);
  }
  if (download.step == Step::kHeadForSize) return OnGetFailed(connection, Err::kCorrupt);
  if (download.step == Step::kHeadFirst && !download.head_only) {
    // Now it is known what to ask for, in words that need no size.
    if (!download.ranges.empty()) {
      download.ranges = {{.kind = RangeSpec::Kind::kFromTo,
                          .first = download.next_offset,
                          .last = download.end_offset - 1}};
    }
    if (done.payload.size() < head->header.stored_size) return ReadAfterHead(connection);
    download.step = Step::kFirstRun;  // all of it came with its head
    download.run.length = kRunBytes;
    if (download.parts != nullptr) download.run = download.parts->NextRead(RunBytes());
  }
  Result<Buffer> payload = Buffer();
  if (!download.head_only) payload = FirstPayload(connection, *head, std::move(done));
  if (!payload.ok()) return OnGetFailed(connection, payload.err());
  SendFile(connection, *head, std::move(*payload));
}

// One read was let in, and has told the head; or it came from the cache, and is let in now.
void GatewayWorker::ReadAfterHead(HttpConnection* connection) {
  DownloadState& download = connection->exchange.download;
  if (std::exchange(download.from_cache, false)) return Admit(connection, Work::kReadRun);
  reads_.Begin();
  ReadFirstRun(connection);
}

// What is sent, now that the file's size is known. False: nothing of what was asked for exists.
bool GatewayWorker::SettleRanges(HttpConnection* connection, const NeedleHead& head) {
  DownloadState& download = connection->exchange.download;
  const uint64_t size = SentSize(download, head);
  // The parts of a multipart body cannot say that they are encoded, and the body itself is not.
  if (download.as_zstd && download.ranges.size() > 1) download.ranges.clear();
  download.next_offset = 0;
  download.end_offset = size;
  if (download.ranges.empty()) return true;
  std::vector<ByteRange> ranges = ResolveRanges(download.ranges, size);
  if (ranges.empty()) return false;
  download.next_offset = ranges.front().offset;
  download.end_offset = ranges.front().end();
  if (ranges.size() == 1) return true;
  const Result<Metadata> metadata = ParseMetadata(head.metadata);
  const std::string_view type = metadata.ok() ? TypeOf(*metadata) : kUnknownType;
  download.parts = std::make_unique<ByterangesBody>(
      ByterangesFile{.id = connection->exchange.id(), .type = type, .size = size},
      std::move(ranges));
  return true;
}

// kBusy when there is no memory for it, kCorrupt when the reply holds something else.
Result<Buffer> GatewayWorker::FirstPayload(HttpConnection* connection, const NeedleHead& head,
                                           GetDone&& done) {
  DownloadState& download = connection->exchange.download;
  const uint64_t size = SentSize(download, head);
  // Many may have begun since it was asked for: what this one does not take is not kept for it.
  const uint64_t run_max = std::min(download.run.length, RunBytes());
  ByteRange cut{.offset = download.next_offset,
                .length = download.end_offset - download.next_offset};
  if (download.parts != nullptr) {
    cut = IsZstd(head) ? ByteRange{.offset = 0, .length = size} : download.run;
  } else if (!IsZstd(head)) {
    cut.length = std::min(cut.length, run_max);
  }
  if (!shared_->download_memory.HasRoom(IsZstd(head) ? size : cut.length)) return Err::kBusy;
  TRY_ASSIGN(Buffer payload, CutPayload(head, std::move(done), cut, download.as_zstd));
  if (download.parts != nullptr) return download.parts->Take(cut, payload.bytes());
  if (run_max < download.run.length) payload = Buffer::CopyOf(payload.bytes());
  return payload;
}

void GatewayWorker::AddCacheControl(const HttpConnection& connection, ResponseHead* out) const {
  const Exchange& exchange = connection.exchange;
  if (exchange.download.doubtful) {
    out->Add("Cache-Control", kAskAgain);
  } else if (exchange.name != nullptr) {
    out->Add("Cache-Control", NameCacheControl(shared_->options, exchange.seconds_left));
  } else if (exchange.seconds_left) {
    out->Add("Cache-Control", CacheControl(shared_->options, exchange.seconds_left));
  } else {
    out->Add("Cache-Control", shared_->cache_control);
  }
}

// What the client's form of the file is called, and that another client may get another one.
void GatewayWorker::AddForm(const Exchange& exchange, const NeedleHead& head, ResponseHead* out) {
  if (!IsZstd(head)) {
    out->Add("ETag", exchange.etag_text());
    return;
  }
  const bool as_zstd = exchange.download.as_zstd;
  out->Add("ETag", as_zstd ? exchange.zstd_etag() : exchange.etag_text());
  out->Add("Vary", "Accept-Encoding");
}

void GatewayWorker::SendNotModified(HttpConnection* connection, const NeedleHead& head) {
  shared_->metrics.revalidated_total.Add();
  ResponseHead out = connection->Head(304);
  AddForm(connection->exchange, head, &out);
  out.Add("X-Cache", connection->exchange.download.cache);
  AddCacheControl(*connection, &out);
  out.End();
  connection->SendAll();
}

void GatewayWorker::AnswerUnsatisfiable(HttpConnection* connection, uint64_t size) {
  const std::string range = "bytes */" + std::to_string(size);
  AnswerError(connection, {.status = 416,
                           .message = "The range lies outside of the file.",
                           .field = {"Content-Range", range}});
}

void GatewayWorker::SendFile(HttpConnection* connection, const NeedleHead& head, Buffer payload) {
  const DownloadState& download = connection->exchange.download;
  const Result<Metadata> metadata = ParseMetadata(head.metadata);
  if (!metadata.ok()) return OnGetFailed(connection, metadata.err());
  const std::string_view type = TypeOf(*metadata);
  const auto modified = FormatHttpDate(head.header.created_ms / 1'000);
  shared_->metrics.reads_total.Add();
  ResponseHead out = connection->Head(download.ranges.empty() ? 200 : 206);
  if (download.parts != nullptr) {
    out.Add("Content-Type", download.parts->ContentType());
    out.Add("Content-Length", download.parts->Length());
  } else {
    out.Add("Content-Type", type);
    out.Add("Content-Length", download.end_offset - download.next_offset);
    if (!download.ranges.empty()) {
      std::string range;
      AppendContentRange(
          {.offset = download.next_offset, .length = download.end_offset - download.next_offset},
          SentSize(download, head), &range);
      out.Add("Content-Range", range);
    }
  }
  if (download.as_zstd) out.Add("Content-Encoding", "zstd");
  AddForm(connection->exchange, head, &out);
  // A name may be given to an older file: by its date what was read before would look fresh.
  if (connection->exchange.name == nullptr) {
    out.Add("Last-Modified", {modified.data(), modified.size()});
  }
  out.Add("Accept-Ranges", "bytes").Add("X-Cache", download.cache);
  AddCacheControl(*connection, &out);
  AddFileFields(*metadata, &out);
  if (download.save_as) {
    const std::string own = std::string(connection->exchange.id()).append(ExtensionOf(type));
    out.Add("Content-Disposition",
            AttachmentNamed(download.save_as->empty() ? own : *download.save_as));
  }
  out.End();
  if (download.head_only) return connection->SendAll();
  SendPayload(connection, std::move(payload));
}

void GatewayWorker::SendPayload(HttpConnection* connection, Buffer payload) {
  DownloadState& download = connection->exchange.download;
  shared_->metrics.read_bytes_total.Add(payload.size());
  bool more = false;
  if (download.parts != nullptr) {
    more = !download.parts->done();
  } else {
    download.next_offset += payload.size();
    ASSERT(download.next_offset <= download.end_offset);
    more = download.next_offset < download.end_offset;
  }
  connection->Send(std::move(payload),
                   more ? HttpConnection::Rest::kMoreFollows : HttpConnection::Rest::kComplete);
}

void GatewayWorker::OnSent(HttpConnection* connection) {
  connection->exchange.download.step = DownloadState::Step::kNextRun;
  ReadNextRun(connection);
}

void GatewayWorker::ReadNextRun(HttpConnection* connection) {
  DownloadState& download = connection->exchange.download;
  if (download.parts != nullptr) {
    download.run = download.parts->NextRead(RunBytes());
  } else {
    ASSERT(download.next_offset < download.end_offset);
    download.run = {.offset = download.next_offset,
                    .length = std::min(download.end_offset - download.next_offset, RunBytes())};
  }
  if (!connection->ReserveUnsent(download.run.length)) {
    return starved_.push_back(connection->id);
  }
  GetRequest request;
  request.address = connection->exchange.address;
  request.offset = download.run.offset;
  request.length = download.run.length;
  reads_.Begin();
  Get(connection, std::move(request));
}

void GatewayWorker::SendRun(HttpConnection* connection, GetDone&& done) {
  DownloadState& download = connection->exchange.download;
  Result<Buffer> cut = CutRun(std::move(done), download.run);
  if (cut.ok() && download.parts != nullptr) {
    cut = download.parts->Take(download.run, cut->bytes());
  }
  if (!cut.ok()) {
    shared_->metrics.read_failures_total.Add();
    LOG_WARN("read_broken_off", "err=%s file=%s offset=%llu action=reset",
             ErrName(cut.err()).data(), LogText(connection->exchange.id()).c_str(),
             static_cast<unsigned long long>(download.run.offset));
    return connection->Reset();
  }
  SendPayload(connection, std::move(*cut));
}

}  // namespace hayloft
