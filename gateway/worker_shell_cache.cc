// Reads from the gateway's memory, and the fetches that fill it.
//
//   BeginDownload --kept, and all of it is wanted--> SendKept: lines and bytes as they are kept
//        |        --kept, a part of it or a condition--> AnswerKept --> AnswerFile
//         \------ not kept --> ... ReadFirstRun --> ReadThroughCache --> OnRead --> AnswerFile
//
// A hit costs the store nothing, so it is not admitted to it and never waits. What asks for parts,
// or only about a file that is not kept, reads what it needs and fills nothing.
#include <utility>

#include "gateway/file_lines.h"
#include "gateway/worker_shell.h"

namespace hayloft {

namespace {

// Nothing but the file's bytes can be the answer, in the form in which they are kept.
bool WantsAllOfIt(const HttpRequest& request) {
  return request.method == HttpMethod::kGet && request.Count(HttpField::kIfNoneMatch) == 0 &&
         request.Count(HttpField::kRange) == 0 && request.Count(HttpField::kIfMatch) == 0 &&
         request.Count(HttpField::kIfModifiedSince) == 0 &&
         request.Count(HttpField::kIfUnmodifiedSince) == 0 && request.query.empty();
}

const char* CacheText(ReadFrom from) {
  switch (from) {
    case ReadFrom::kMemory:
      return "hit";
    case ReadFrom::kPeer:
      return "peer";
    case ReadFrom::kDsp:
      break;
  }
  return "miss";
}

}  // namespace

CachedReadsOptions CachedReadsOptionsOf(GatewayShared* shared, uint32_t loop) {
  const GatewayOptions& options = shared->options;
  CachedReadsOptions reads;
  reads.admit = options.admit == "all"     ? CacheAdmit::kAll
                : options.admit == "users" ? CacheAdmit::kUsers
                                           : CacheAdmit::kHaystack;
  reads.loop = loop;
  reads.read_timeout_ms = options.read_timeout_ms;
  reads.peer_timeout_ms = options.peer_timeout_ms;
  reads.peer_failures = &shared->metrics.peer_failures_total;
  reads.lines = [shared](const FileAddress& address, const NeedleHead& head) {
    return WholeFileLines(address, head, shared->cache_control);
  };
  return reads;
}

void GatewayWorker::UseTier(std::shared_ptr<const CacheTier> tier) {
  loop_.Post([this, tier = std::move(tier)] { cached_.UseTier(tier); });
}

void GatewayWorker::Deliver(ReadDelivery&& delivery) {
  loop_.Post([this, delivery = std::move(delivery)] { OnRead(delivery); });
}

// By what its operator says of CDNs: a header that they send, or where they come from.
bool GatewayWorker::IsByCdn(const HttpConnection& connection, const HttpRequest& request) const {
  const PeerAddress client = shared_->trusted_proxies.ClientOf(connection.peer, request);
  if (shared_->cdn_networks.Trusts(client)) return true;
  const std::string& name = shared_->cdn_header;
  if (name.empty()) return false;
  for (const HttpHeader& header : request.headers()) {
    if (EqualsNoCase(header.name, name)) return true;
  }
  return false;
}

// True: it was answered from memory, or is known not to be there.
bool GatewayWorker::AnswerAtOnce(HttpConnection* connection, const HttpRequest& request,
                                 const CacheAnswer& found) {
  Exchange& exchange = connection->exchange;
  if (found.found == Found::kAbsent) {
    connection->NoteStore({}, "hit");
    OnGetFailed(connection, found.err);
    return true;
  }
  exchange.download.by_cdn = IsByCdn(*connection, request);
  if (found.found != Found::kHit) return false;
  const bool plain = exchange.name == nullptr && !exchange.seconds_left.has_value();
  if (!plain || found.file.lines_bytes == 0 || !WantsAllOfIt(request)) return false;
  SendKept(connection, found.file);
  return true;
}

// The hot path: nothing is formatted, copied or allocated.
void GatewayWorker::SendKept(HttpConnection* connection, const CachedFile& kept) {
  connection->NoteStore({}, "hit");
  Buffer bytes = kept.stored();
  shared_->metrics.reads_total.Add();
  shared_->metrics.read_bytes_total.Add(bytes.size());
  (void)connection->Head(200);
  connection->out()->append(kept.lines());
  connection->Send(std::move(bytes), HttpConnection::Rest::kComplete);
}

// As if its head had been read first, and all of its bytes with it.
void GatewayWorker::AnswerKept(HttpConnection* connection, const CachedFile& kept) {
  DownloadState& download = connection->exchange.download;
  download.step = DownloadState::Step::kHeadFirst;
  download.cache = "hit";
  download.from_cache = true;
  connection->NoteStore({}, download.cache);
  GetDone done;
  done.head = std::string(AsText(kept.head()));
  done.payload = kept.stored();
  AnswerFile(connection, std::move(done));
}

// What was just uploaded is asked for soon: it need not be read for that. Its uploader has his
// answer. The head is that of the needle on the disks, but for its place there.
void GatewayWorker::KeepUploaded(const UploadedNeedle& needle, const PutDone& done,
                                 uint64_t began_ms) {
  if (!cached_.Owns(done.address)) return;
  NeedleHeader header{};
  header.block_id = done.address.block_id;
  header.file_id = done.address.file_id.value;
  header.created_ms = done.created_ms;
  header.stored_size = static_cast<uint32_t>(needle.stored.size());
  header.raw_size = needle.raw_size;
  header.encoding = static_cast<uint8_t>(needle.encoding);
  const std::string head =
      EncodeNeedleHead(header, PieceCrcs(needle.stored.bytes()), AsBytes(needle.metadata), {});
  (void)cached_.Stored({.address = done.address,
                        .head = head,
                        .bytes = needle.stored.bytes(),
                        .dsp = done.dsp,
                        .began_ms = began_ms});  // its upload is answered in any case
}

// All of a file, or the first run of a long one.
void GatewayWorker::ReadThroughCache(HttpConnection* connection) {
  const DownloadState& download = connection->exchange.download;
  connection->exchange.store_asked_ms = loop_.now().mono_ms;
  cached_.Read(connection->exchange.address,
               {.by_cdn = download.by_cdn, .cached_only = download.memory_only}, connection->id);
}

void GatewayWorker::OnRead(const ReadDelivery& delivery) {
  HttpConnection* waiting = Find(delivery.to.id);
  ReadEnded(waiting);
  if (waiting == nullptr) return;
  if (waiting->exchange.warm != nullptr) return OnWarmed(waiting, delivery);
  const FileRead& read = *delivery.read;
  DownloadState& download = waiting->exchange.download;
  if (std::exchange(download.memory_only, false) && read.err == Err::kNotServing) {
    reads_.Begin();
    waiting->exchange.work = waiting->exchange.work_on_disk;
    return BeginWork(waiting);
  }
  download.cache = CacheText(read.from);
  download.run = {.offset = 0, .length = kRunBytes};
  if (waiting->exchange.work == Work::kReadKept) {
    download.step = DownloadState::Step::kHeadFirst;
    download.from_cache = true;
  }
  GetDone done;
  done.err = read.err;
  done.head = read.head;
  done.payload = read.stored.Share();
  done.doubtful = read.doubtful;
  done.dsp = read.dsp;
  OnGot(waiting, std::move(done));
}

}  // namespace hayloft
