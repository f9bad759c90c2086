#include "cache/cached_reads.h"

#include <algorithm>
#include <utility>

#include "cache/rendezvous.h"
#include "common/check.h"
#include "common/mutant.h"

namespace hayloft {

namespace {

FileRead ReadOfGet(GetDone&& done) {
  FileRead read;
  read.err = done.err;
  read.head = std::move(done.head);
  read.stored = std::move(done.payload);
  read.doubtful = done.doubtful;
  read.block_open = done.block_open;
  read.dsp = std::move(done.dsp);
  return read;
}

FileRead ReadOfKept(const CachedFile& file) {
  FileRead read;
  read.head = std::string(AsText(file.head()));
  read.stored = file.stored();
  read.from = ReadFrom::kMemory;
  return read;
}

bool IsAbsent(Err err) { return err == Err::kNotFound || err == Err::kGone; }

// What failed is the way to the other gateway, or that one itself: not what it said of the file.
bool IsUnreached(Err err) { return err == Err::kUnavailable || err == Err::kTimeout; }

}  // namespace

RpcReply ReplyToPeer(ReplyToken token, const FileRead& read) {
  RpcReply reply{.token = token, .type = MessageType::kRead, .err = read.err};
  // What its dsps could not do is no fault of this gateway's, and is not to look like one.
  if (read.err != Err::kOk && !IsAbsent(read.err)) reply.err = Err::kNotServing;
  if (read.err == Err::kOk) {
    pb::ReadReply message;
    message.set_head(read.head);
    message.set_doubtful(read.doubtful);
    message.set_block_open(read.block_open ? 1 : 0);
    reply.message = message.SerializeAsString();
    reply.payload = read.stored.Share();
  }
  return reply;
}

Result<FileRead> ReadOfPeer(const FileAddress& address, CallDone&& done) {
  FileRead read;
  read.err = done.err;
  read.from = ReadFrom::kPeer;
  if (IsAbsent(read.err)) return read;
  TRY(read.err);
  pb::ReadReply reply;
  if (!reply.ParseFromString(done.message)) return Err::kCorrupt;
  TRY_ASSIGN(const NeedleHead head, ParseNeedleHead(AsBytes(reply.head())));
  if (head.header.block_id != address.block_id || head.file_id() != address.file_id) {
    return Err::kCorrupt;
  }
  // All of it, or of a longer file the beginning.
  const uint64_t whole = head.header.stored_size;
  const bool fits = done.payload.size() == whole ||
                    (whole > kCachedFileBytesMax && done.payload.size() == kCachedFileBytesMax);
  if (!fits) return Err::kCorrupt;
  read.head = std::move(*reply.mutable_head());
  read.stored = std::move(done.payload);
  read.doubtful = reply.doubtful();
  read.block_open = reply.block_open() != 0;
  return read;
}

size_t CacheTier::OwnerOf(const FileAddress& address) const {
  return addresses.size() < 2 ? self : hayloft::OwnerOf(hashes, address);
}

CachedReads::CachedReads(CachedReadsOptions options, SharedCache* cache, FeedTable* feeds)
    : options_(std::move(options)), cache_(cache), feeds_(feeds) {}

void CachedReads::Begin(const FileAddress& address, const ReadTerms& terms, uint64_t reader,
                        Now now, ReadsOutbox* out) {
  // One of another loop may have fetched it since the look.
  const CacheAnswer found = cache_->FindAgain(address, *feeds_, now.mono_ms);
  Fetch fetch{.address = address, .terms = terms, .reader = reader, .began_ms = now.mono_ms};
  fetch.keep = Owns(address);
  const bool whole = found.found == Found::kHit && !found.file.too_large;
  const bool others = !fetch.keep && !terms.from_peer;
  if (whole || found.found == Found::kAbsent || (terms.cached_only && !others)) {
    FileRead read;
    if (whole) read = ReadOfKept(found.file);
    if (!whole) read.err = found.found == Found::kAbsent ? found.err : Err::kNotServing;
    read.from = ReadFrom::kMemory;
    return DeliverTo(fetch, std::move(read), {}, out);
  }
  // Who has changed it here sees that at once; its owner may not have heard of it yet.
  const bool asks = others && !cache_->ChangedSince(address, now.mono_ms - kFeedTrustMs);
  if (terms.cached_only) {
    if (asks) return AskPeer(std::move(fetch), now, out);
    return DeliverNothing(fetch, out);
  }
  if (!cache_->Join(address, {.loop = options_.loop, .id = reader}, now.mono_ms)) return;
  if (found.found == Found::kAsk) return Ask(std::move(fetch), now, out);
  if (asks) return AskPeer(std::move(fetch), now, out);
  Get(std::move(fetch), now, out);
}

void CachedReads::Ask(Fetch&& fetch, Now now, ReadsOutbox* out) {
  const auto vain = asked_in_vain_.find(fetch.address);
  if (vain != asked_in_vain_.end() && now.mono_ms < vain->second) {
    GetDone nobody;
    nobody.err = Err::kUnavailable;
    return OnAsked(std::move(fetch), std::move(nobody), now, out);
  }
  fetch.kind = Fetch::Kind::kAsk;
  GetRequest request;
  request.live_only = true;
  request.timeout_ms = options_.ask_timeout_ms;
  Send(std::move(fetch), std::move(request), now, out);
}

void CachedReads::AskPeer(Fetch&& fetch, Now now, ReadsOutbox* out) {
  const size_t owner = tier_->OwnerOf(fetch.address);
  const std::string& peer = tier_->addresses[owner];
  if (now.mono_ms < peers_[peer].rests_until_ms) {
    return fetch.terms.cached_only ? DeliverNothing(fetch, out) : Get(std::move(fetch), now, out);
  }
  fetch.kind = Fetch::Kind::kPeer;
  fetch.peer = peer;
  fetch.began_ms = now.mono_ms;
  pb::ReadRequest message;
  message.set_block_id(fetch.address.block_id);
  message.set_file_id(fetch.address.file_id.value);
  message.set_length(kCachedFileBytesMax);
  message.set_by_cdn(fetch.terms.by_cdn);
  message.set_cached_only(fetch.terms.cached_only);
  RpcCall call;
  call.call_id = next_fetch_id_++;
  call.address = peer;
  call.type = MessageType::kRead;
  call.timeout_ms = options_.peer_timeout_ms;
  call.message = message.SerializeAsString();
  fetches_.emplace(call.call_id, std::move(fetch));
  out->peer_calls.push_back(std::move(call));
}

void CachedReads::Get(Fetch&& fetch, Now now, ReadsOutbox* out) {
  fetch.kind = Fetch::Kind::kGet;
  GetRequest request;
  request.length = kCachedFileBytesMax;
  request.timeout_ms = options_.read_timeout_ms;
  Send(std::move(fetch), std::move(request), now, out);
}

void CachedReads::Send(Fetch&& fetch, GetRequest&& request, Now now, ReadsOutbox* out) {
  fetch.began_ms = now.mono_ms;
  request.address = fetch.address;
  const uint64_t id = next_fetch_id_++;
  out->gets.push_back({.fetch_id = id, .request = std::move(request)});
  fetches_.emplace(id, std::move(fetch));
}

void CachedReads::OnGot(uint64_t fetch_id, GetDone&& done, Now now, ReadsOutbox* out) {
  auto found = fetches_.extract(fetch_id);
  ASSERT(!found.empty());
  Fetch& fetch = found.mapped();
  if (fetch.kind == Fetch::Kind::kAsk) {
    if (IsUnreached(done.err)) NoteInVain(fetch.address, now.mono_ms);  // it really was asked
    return OnAsked(std::move(fetch), std::move(done), now, out);
  }
  FileRead read = ReadOfGet(std::move(done));
  const bool sure = !read.doubtful || IsMutant(Mutant::kCacheDoubtKept);
  if (read.err == Err::kOk && sure) {
    (void)Keep(fetch, {.head = read.head,
                       .bytes = read.stored.bytes(),
                       .dsp = read.dsp,
                       .open = read.block_open});  // who waits gets it in any case
  }
  Deliver(fetch, std::move(read), out);
}

void CachedReads::OnAsked(Fetch&& fetch, GetDone&& done, Now now, ReadsOutbox* out) {
  const bool knows = !done.doubtful || IsMutant(Mutant::kCacheDoubtKept);
  const bool sure = done.err == Err::kOk && knows;
  if (sure) {
    cache_->Renew(fetch.address, feeds_->AnchorFor(done.dsp, fetch.began_ms), fetch.began_ms);
  }
  // Who was reached and could not say may know of a delete: then it is as without a cache.
  if (done.err != Err::kOk && !IsUnreached(done.err)) {
    return Deliver(fetch, ReadOfGet(std::move(done)), out);
  }
  const CacheAnswer found = cache_->FindAgain(fetch.address, *feeds_, now.mono_ms);
  const bool there = found.found == Found::kHit || found.found == Found::kAsk;
  // It was evicted meanwhile, or a change came.
  if (!there || found.file.too_large) return Get(std::move(fetch), now, out);
  FileRead read = ReadOfKept(found.file);
  read.doubtful = !sure;
  Deliver(fetch, std::move(read), out);
}

void CachedReads::OnPeerDone(CallDone&& done, Now now, ReadsOutbox* out) {
  auto found = fetches_.extract(done.call_id);
  ASSERT(!found.empty());
  Fetch& fetch = found.mapped();
  Result<FileRead> read = ReadOfPeer(fetch.address, std::move(done));
  Peer& peer = peers_[fetch.peer];
  if (!read.ok() && IsUnreached(read.err())) {
    // Slow with this one file, it has answered others meanwhile.
    if (peer.heard_ms < fetch.began_ms) peer.rests_until_ms = now.mono_ms + kPeerRestMs;
  } else {
    peer.heard_ms = now.mono_ms;
  }
  // In doubt is what it reaches; this one may reach a replica that knows.
  if (read.ok() && !read->doubtful) return Deliver(fetch, std::move(*read), out);
  if (fetch.terms.cached_only) return DeliverNothing(fetch, out);
  if (!read.ok() && options_.peer_failures != nullptr) options_.peer_failures->Add();
  Get(std::move(fetch), now, out);
}

void CachedReads::NoteInVain(const FileAddress& address, uint64_t now_ms) {
  if (asked_in_vain_.size() >= kInVainMax) asked_in_vain_.clear();
  asked_in_vain_.insert_or_assign(address, now_ms + kAskAgainMs);
}

bool CachedReads::Admits(const ReadTerms& terms, bool block_open) const {
  if (options_.admit == CacheAdmit::kAll) return true;
  return !terms.by_cdn && (block_open || options_.admit == CacheAdmit::kUsers);
}

bool CachedReads::Keep(const Fetch& fetch, const Kept& what) {
  if (!fetch.keep || cache_->bytes_max() == 0 || !Admits(fetch.terms, what.open)) return false;
  const Result<NeedleHead> head = ParseNeedleHead(AsBytes(what.head));
  if (!head.ok()) return false;
  const bool whole = what.bytes.size() == head->header.stored_size;
  std::string lines;
  if (whole && options_.lines) lines = options_.lines(fetch.address, *head);
  return cache_->Add(
      {.address = fetch.address,
       .lines = lines,
       .head = AsBytes(what.head),
       .stored = whole ? what.bytes : Bytes(),
       .too_large = !whole,
       .anchor = what.dsp.empty() ? FeedAnchor() : feeds_->AnchorFor(what.dsp, fetch.began_ms),
       .began_ms = fetch.began_ms});
}

bool CachedReads::Stored(const StoredNeedle& stored) {
  Fetch fetch{.address = stored.address,
              .terms = {.by_cdn = stored.by_cdn},
              .keep = Owns(stored.address),
              .began_ms = stored.began_ms};
  if (stored.bytes.size() > kCachedFileBytesMax) return false;
  return Keep(fetch, {.head = stored.head, .bytes = stored.bytes, .dsp = stored.dsp, .open = true});
}

// Facts are remembered for a moment: but not what another gateway said, which remembers it itself.
void CachedReads::Deliver(const Fetch& fetch, FileRead&& read, ReadsOutbox* out) {
  if (IsAbsent(read.err) && read.from == ReadFrom::kDsp) {
    cache_->AddAbsent(fetch.address, read.err, fetch.began_ms);
  }
  const CacheWaiter fetcher{.loop = options_.loop, .id = fetch.reader};
  std::vector<CacheWaiter> waiters;  // of a read that is for its reader alone there are none
  if (!fetch.terms.cached_only) waiters = cache_->Settle(fetch.address, fetcher);
  DeliverTo(fetch, std::move(read), waiters, out);
}

void CachedReads::DeliverTo(const Fetch& fetch, FileRead&& read,
                            const std::vector<CacheWaiter>& waiters, ReadsOutbox* out) {
  read.address = fetch.address;
  const SharedRead shared = std::make_shared<FileRead>(std::move(read));
  out->deliveries.push_back({.to = {.loop = options_.loop, .id = fetch.reader}, .read = shared});
  for (const CacheWaiter& waiter : waiters) {
    out->deliveries.push_back({.to = waiter, .read = shared});
  }
}

void CachedReads::DeliverNothing(const Fetch& fetch, ReadsOutbox* out) {
  FileRead none;
  none.err = Err::kNotServing;
  none.from = ReadFrom::kMemory;
  DeliverTo(fetch, std::move(none), {}, out);
}

}  // namespace hayloft
