// Downloads: GET and HEAD /<id>.
//
//   BeginDownload --first run: head and up to 1 MiB--> AnswerFile --> SendFile -- more? --> SendRun
//        \-- what is asked depends on the size or the date: head first --> ReadRange --^
//
// A file's tag is known from its address, so a client that has the bytes costs no payload: the dsp
// is only asked whether the file still exists. A long file is read in runs, the next one when the
// client has taken the last: what one reader holds is bounded. A run that fails breaks the
// connection off: a short body must not look whole.
#include <algorithm>

#include "client/sniff.h"
#include "common/log.h"
#include "gateway/worker_shell.h"

namespace hayloft {

namespace {

constexpr std::string_view kSandbox = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

bool IsZstd(const NeedleHead& head) {
  return head.header.encoding == static_cast<uint8_t>(Encoding::kZstd);
}

// The raw bytes [offset, offset + length) out of a reply's payload, which holds at least them; a
// file that is stored encoded comes whole.
Result<Buffer> CutPayload(const NeedleHead& head, GetDone&& done, uint64_t offset,
                          uint64_t length) {
  if (IsZstd(head)) {
    TRY_ASSIGN(Buffer raw, Decompress(done.payload.bytes(), head.header.raw_size));
    raw.Narrow(offset, length);
    return raw;
  }
  if (done.offset > offset || offset - done.offset > done.payload.size()) return Err::kCorrupt;
  const uint64_t skip = offset - done.offset;
  if (length > done.payload.size() - skip) return Err::kCorrupt;
  done.payload.Narrow(skip, length);
  return std::move(done.payload);
}

Buffer CopyOf(Bytes bytes) {
  Buffer copy(bytes.size());
  std::copy(bytes.begin(), bytes.end(), copy.mutable_bytes().begin());
  return copy;
}

Result<Buffer> CutRun(GetDone&& done, uint64_t offset, uint64_t length) {
  if (done.err != Err::kOk) return done.err;
  const std::string head_bytes = std::move(done.head);
  TRY_ASSIGN(const NeedleHead head, ParseNeedleHead(AsBytes(head_bytes)));
  return CutPayload(head, std::move(done), offset, length);
}

// A range whose answer takes nothing but the range itself to ask for.
bool CanAskAtOnce(const DownloadState& download) {
  if (download.conditions.if_range_date) return false;
  return download.range.kind != RangeSpec::Kind::kSuffix || download.range.suffix <= kRunBytes;
}

}  // namespace

void GatewayWorker::BeginDownload(HttpConnection* connection, const HttpRequest& request) {
  if (!shared_->download_memory.HasRoom(1)) return AnswerErr(connection, Err::kBusy);
  DownloadState& download = connection->exchange.download;
  download = DownloadState();
  download.conditions = ParseConditions(request, connection->exchange.etag_text());
  download.head_only = connection->is_head();
  if (request.method == HttpMethod::kGet) download.range = ParseRange(request);
  using Tag = Conditions::Tag;
  const Conditions& conditions = download.conditions;
  if (conditions.if_range == Tag::kDiffers && !conditions.if_range_date) download.range = {};
  const bool ranged = download.range.kind != RangeSpec::Kind::kWhole;
  if (download.head_only || conditions.if_none_match == Tag::kMatches ||
      conditions.if_match == Tag::kDiffers) {
    download.head_only = true;
    return ReadHead(connection, DownloadState::Step::kFirstRun);
  }
  if (ranged && !CanAskAtOnce(download))
    return ReadHead(connection, DownloadState::Step::kHeadFirst);
  ReadRange(connection);
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
void GatewayWorker::ReadRange(HttpConnection* connection) {
  DownloadState& download = connection->exchange.download;
  download.step = DownloadState::Step::kFirstRun;
  GetRequest request;
  request.address = connection->exchange.address;
  download.run_bytes = RunBytes();
  request.length = download.run_bytes;
  const RangeSpec& range = download.range;
  if (range.kind == RangeSpec::Kind::kSuffix) {
    if (range.suffix == 0) return ReadHead(connection, DownloadState::Step::kHeadForSize);
    ASSERT(range.suffix <= kRunBytes);
    download.run_bytes = kRunBytes;
    request.length = 0;
    request.suffix = range.suffix;
  } else if (range.kind != RangeSpec::Kind::kWhole) {
    request.offset = range.first;
    if (range.kind == RangeSpec::Kind::kFromTo) {
      request.length = std::min(range.last - range.first, download.run_bytes - 1) + 1;
    }
  }
  Get(connection, std::move(request));
}

void GatewayWorker::Get(HttpConnection* connection, GetRequest&& request) {
  request.timeout_ms = shared_->options.read_timeout_ms;
  client_.Get(std::move(request), [this, id = connection->id](GetDone&& done) {
    HttpConnection* waiting = Find(id);
    if (waiting != nullptr) OnGot(waiting, std::move(done));
  });
}

void GatewayWorker::OnGot(HttpConnection* connection, GetDone&& done) {
  DownloadState& download = connection->exchange.download;
  connection->NoteStore(done.dsp, "miss");
  if (download.step == DownloadState::Step::kNextRun) return SendRun(connection, std::move(done));
  ASSERT(connection->answering());
  if (done.err == Err::kRange && download.step == DownloadState::Step::kFirstRun) {
    return ReadHead(connection, DownloadState::Step::kHeadForSize);
  }
  if (done.err != Err::kOk) return OnGetFailed(connection, done.err);
  NoteSuccess();
  AnswerFile(connection, std::move(done));
}

void GatewayWorker::OnGetFailed(HttpConnection* connection, Err err) {
  if (err == Err::kNotFound || err == Err::kGone) {
    return AnswerError(connection, {.status = ErrHttpStatus(err),
                                    .code = ErrName(err),
                                    .message = ErrMeaning(err),
                                    .cache_control = shared_->not_found_cache_control});
  }
  if (ErrHttpStatus(err) >= 500) shared_->metrics.read_failures_total.Add();
  AnswerErr(connection, err);
}

void GatewayWorker::AnswerFile(HttpConnection* connection, GetDone&& done) {
  DownloadState& download = connection->exchange.download;
  download.doubtful |= done.doubtful;
  const std::string head_bytes = std::move(done.head);
  const Result<NeedleHead> head = ParseNeedleHead(AsBytes(head_bytes));
  if (!head.ok()) return OnGetFailed(connection, head.err());
  const uint64_t size = head->header.raw_size;
  const uint64_t modified_s = head->header.created_ms / 1'000;
  switch (Evaluate(download.conditions, modified_s)) {
    case Verdict::kFailed:
      return AnswerError(connection,
                         {.status = 412, .message = "A condition of the request does not hold."});
    case Verdict::kNotModified:
      return SendNotModified(connection);
    case Verdict::kProceed:
      break;
  }
  if (!RangeAllowed(download.conditions, modified_s)) download.range = {};
  const bool partial = download.range.kind != RangeSpec::Kind::kWhole;
  ByteRange range{.satisfiable = true, .offset = 0, .length = size};
  if (partial) range = ResolveRange(download.range, size);
  if (!range.satisfiable) return AnswerUnsatisfiable(connection, size);
  if (download.step == DownloadState::Step::kHeadForSize)
    return OnGetFailed(connection, Err::kCorrupt);
  if (download.step == DownloadState::Step::kHeadFirst) {
    // Now it is known what to ask for, in words that need no size.
    download.conditions.if_range = Conditions::Tag::kAbsent;
    download.conditions.if_range_date.reset();
    if (partial) {
      download.range = {.kind = RangeSpec::Kind::kFromTo,
                        .first = range.offset,
                        .last = range.offset + range.length - 1};
    }
    return ReadRange(connection);
  }
  download.next_offset = range.offset;
  download.end_offset = range.offset + range.length;
  Buffer payload;
  if (!download.head_only) {
    // Many may have begun since it was asked for: what this one does not take is not kept for it.
    const uint64_t run_max = std::min(download.run_bytes, RunBytes());
    const uint64_t bytes = IsZstd(*head) ? size : std::min(range.length, run_max);
    if (!shared_->download_memory.HasRoom(bytes)) return OnGetFailed(connection, Err::kBusy);
    const uint64_t run = IsZstd(*head) ? range.length : bytes;
    Result<Buffer> cut = CutPayload(*head, std::move(done), range.offset, run);
    if (!cut.ok()) return OnGetFailed(connection, cut.err());
    payload = std::move(*cut);
    if (run_max < download.run_bytes) payload = CopyOf(payload.bytes());
  }
  SendFile(connection, *head, std::move(payload), partial);
}

void GatewayWorker::AddCacheControl(const HttpConnection& connection, ResponseHead* out) const {
  const Exchange& exchange = connection.exchange;
  if (exchange.download.doubtful) {
    out->Add("Cache-Control", kAskAgain);
  } else if (exchange.seconds_left) {
    out->Add("Cache-Control", CacheControl(shared_->options, exchange.seconds_left));
  } else {
    out->Add("Cache-Control", shared_->cache_control);
  }
}

void GatewayWorker::SendNotModified(HttpConnection* connection) {
  shared_->metrics.revalidated_total.Add();
  ResponseHead out = connection->Head(304);
  out.Add("ETag", connection->exchange.etag_text()).Add("X-Cache", "miss");
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

void GatewayWorker::SendFile(HttpConnection* connection, const NeedleHead& head, Buffer payload,
                             bool partial) {
  const DownloadState& download = connection->exchange.download;
  const Result<Metadata> metadata = ParseMetadata(head.metadata);
  if (!metadata.ok()) return OnGetFailed(connection, metadata.err());
  // Checked when it was stored; a header must not be forged by a block that was tampered with.
  const std::string_view type =
      IsValidType(metadata->content_type) ? metadata->content_type : kUnknownType;
  const auto modified = FormatHttpDate(head.header.created_ms / 1'000);
  const uint64_t length = download.end_offset - download.next_offset;
  GatewayMetrics& metrics = shared_->metrics;
  metrics.reads_total.Add();
  ResponseHead out = connection->Head(partial ? 206 : 200);
  out.Add("Content-Type", type).Add("Content-Length", length);
  if (partial) {
    std::string range = "bytes ";
    AppendDecimal(download.next_offset, &range);
    AppendDecimal(download.end_offset - 1, &range.append("-"));
    AppendDecimal(head.header.raw_size, &range.append("/"));
    out.Add("Content-Range", range);
  }
  out.Add("ETag", connection->exchange.etag_text())
      .Add("Last-Modified", {modified.data(), modified.size()})
      .Add("Accept-Ranges", "bytes")
      .Add("X-Cache", "miss");
  AddCacheControl(*connection, &out);
  if (IsActiveType(type)) out.Add("Content-Security-Policy", kSandbox);
  out.End();
  if (download.head_only) return connection->SendAll();
  SendPayload(connection, std::move(payload));
}

void GatewayWorker::SendPayload(HttpConnection* connection, Buffer payload) {
  DownloadState& download = connection->exchange.download;
  download.next_offset += payload.size();
  ASSERT(download.next_offset <= download.end_offset);
  shared_->metrics.read_bytes_total.Add(payload.size());
  const bool more = download.next_offset < download.end_offset;
  connection->Send(std::move(payload),
                   more ? HttpConnection::Rest::kMoreFollows : HttpConnection::Rest::kComplete);
}

void GatewayWorker::OnSent(HttpConnection* connection) {
  connection->exchange.download.step = DownloadState::Step::kNextRun;
  ReadNextRun(connection);
}

void GatewayWorker::ReadNextRun(HttpConnection* connection) {
  DownloadState& download = connection->exchange.download;
  const uint64_t left = download.end_offset - download.next_offset;
  ASSERT(left > 0);
  download.run_bytes = std::min(left, RunBytes());
  if (!connection->ReserveUnsent(download.run_bytes)) {
    return starved_.push_back(connection->id);
  }
  GetRequest request;
  request.address = connection->exchange.address;
  request.offset = download.next_offset;
  request.length = download.run_bytes;
  Get(connection, std::move(request));
}

void GatewayWorker::SendRun(HttpConnection* connection, GetDone&& done) {
  const DownloadState& download = connection->exchange.download;
  Result<Buffer> cut = CutRun(std::move(done), download.next_offset, download.run_bytes);
  if (!cut.ok()) {
    shared_->metrics.read_failures_total.Add();
    LOG_WARN("read_broken_off", "err=%s file=%s offset=%llu action=reset",
             ErrName(cut.err()).data(), LogText(connection->exchange.id()).c_str(),
             static_cast<unsigned long long>(download.next_offset));
    return connection->Reset();
  }
  SendPayload(connection, std::move(*cut));
}

}  // namespace hayloft
