#include "tests/sim/dir_walk.h"

#include <algorithm>
#include <cinttypes>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/dir_walk_world.h"

namespace hayloft {

using namespace dir_walk;

namespace {

constexpr char kKey[] = "a-user's-key-0001";
constexpr char kName[] = "logo";
constexpr int kContents = 4;

class Walk : World {
 public:
  Walk(uint64_t seed, SimTrace* trace) : World(seed, trace) {
    for (int i = 0; i < kContents; ++i) images_.push_back(MakeImage(i));
    Choose();
  }

  DirWalkResult Run() {
    for (uint64_t i = 0; i < steps_ && !trace_->failed(); ++i) Step();
    if (!trace_->failed()) Drain();
    return result_;
  }

 private:
  // Each walk has its own likes: some seldom crash, some only delete and undelete.
  void Choose() {
    const auto some = [&] { return std::array<uint64_t, 4>{0, 1, 3, 10}[random_.Below(4)]; };
    const auto much = [&] { return std::array<uint64_t, 3>{10, 30, 90}[random_.Below(3)]; };
    few_ = random_.Chance(50);
    removes_left_ = random_.Chance(15) ? 1 : 0;
    dsp_errors_ = random_.Chance(30) ? random_.Between(1, 30) : 0;
    cdn_errors_ = random_.Chance(30) ? random_.Between(1, 60) : 0;
    takedowns_left_ = random_.Chance(20) ? 1 : 0;
    images_used_ = few_ ? 1 : std::array<int, 5>{1, 2, 3, 4, 4}[random_.Below(5)];
    requests_left_ = 2 + random_.Below(8);
    weights_ = {.start = much(),
                .deliver = 4 * much(),
                .time = much(),
                .commit = much(),
                .crash = some(),
                .gateway = some() / 3,
                .purge = some(),
                .adopt = some(),
                .remove = removes_left_ > 0 ? some() : 0,
                .admin = some(),
                .repeat = some(),
                .lose = some() / 3};
    crashes_left_ = random_.Below(3);
    gateway_crashes_left_ = random_.Below(2);
    losses_left_ = random_.Chance(25) ? 1 : 0;
    keyed_ = random_.Chance(25);
    names_ = random_.Chance(25);
    purges_left_ = random_.Chance(40) ? 1 : 0;
    leaps_ = random_.Chance(30);
    steps_ = 100 + random_.Below(500);
    // Uploads of one image while the shard fails again and again: old messages meet new epochs, and
    // records that were made anew from the needles.
    storm_ = random_.Chance(40);
    if (!storm_) return;
    images_used_ = 1;
    removes_left_ = 0;
    takedowns_left_ = dsp_errors_ = weights_.admin = 0;
    crashes_left_ = 2 + random_.Below(3);
    losses_left_ = 1;
    weights_.lose = 8;
    weights_.crash = 5;
    weights_.commit = 5;
    weights_.repeat = weights_.deliver / 3;
    leaps_ = true;
  }

  // --- Users ---

  void Take(int number, ClientOutbox* outbox) override {
    Gateway& gateway = gateways_[number];
    gateway.core->EndTurn(outbox);
    for (RpcCall& call : outbox->calls) Send(number, std::move(call));
    const auto request_of = [&](uint64_t op_id) {
      const Request request = gateway.requests.at(op_id);
      gateway.requests.erase(op_id);
      return request;
    };
    for (const PutDone& done : outbox->puts) OnUploaded(request_of(done.op_id), done);
    for (const SetDeleteDone& done : outbox->set_deletes) {
      const Request request = request_of(done.op_id);
      request.want == Want::kTakedown ? OnTakenDown(request, done.err)
                                      : OnChanged(request, done.err);
    }
    for (const AskDone& done : outbox->asks) OnAsked(request_of(done.op_id), done);
  }

  void Upload(const Request& request) {
    const Image& image = images_[static_cast<size_t>(request.image)];
    PutRequest put;
    Metadata metadata = image.metadata;
    random_.Fill(metadata.nonce);
    put.stored = Buffer::CopyOf(AsBytes(image.bytes));
    put.raw_size = static_cast<uint32_t>(image.bytes.size());
    put.metadata = EncodeMetadata(metadata);
    if (request.keyed) put.idempotency_key = kKey;
    trace_->Note("gateway %d uploads image %d%s%s", request.gateway, request.image,
                 request.keyed ? " keyed" : "", request.named ? " for the name" : "");
    ClientOutbox outbox;
    Gateway& gateway = gateways_[request.gateway];
    const uint64_t op_id = gateway.core->Put(std::move(put), now_, &outbox);
    gateway.requests[op_id] = request;
    gateway.requests[op_id].number = ++uploads_;
    Take(request.gateway, &outbox);
  }

  void Ask(const Request& request, MessageType type, std::string message) {
    ClientOutbox outbox;
    Gateway& gateway = gateways_[request.gateway];
    AskRequest ask;
    ask.type = type;
    ask.message = std::move(message);
    const uint64_t op_id = gateway.core->Ask(std::move(ask), now_, &outbox);
    gateway.requests[op_id] = request;
    Take(request.gateway, &outbox);
  }

  void Change(size_t number, bool undelete) {
    Handle& handle = handles_[number];
    handle.busy = true;
    handle.changed = true;
    handle.state = State::kMaybe;
    handle.deleted_losses = shard_.losses();  // what is lost after this may be the answered removal
    Request request{.want = undelete ? Want::kUndelete : Want::kDelete,
                    .gateway = static_cast<int>(random_.Below(2)),
                    .handle = number};
    trace_->Note("gateway %d %s handle %zu file %s", request.gateway,
                 undelete ? "undeletes" : "deletes", number, ToText(handle.file).c_str());
    SetDeleteRequest change;
    change.address = handle.file;
    change.undelete = undelete;
    change.nonce = handle.nonce;
    ClientOutbox outbox;
    Gateway& gateway = gateways_[request.gateway];
    const uint64_t op_id = gateway.core->SetDelete(std::move(change), now_, &outbox);
    gateway.requests[op_id] = request;
    Take(request.gateway, &outbox);
  }

  void OnUploaded(const Request& request, const PutDone& done) {
    trace_->Note("upload of image %d: err %d file %s%s%s", request.image,
                 static_cast<int>(done.err), ToText(done.address).c_str(),
                 done.duplicate ? " duplicate" : "", done.unchecked ? " unchecked" : "");
    if (done.err != Err::kOk) return;
    (done.duplicate ? result_.duplicates : result_.stored) += 1;
    result_.unchecked += done.unchecked;
    const SimFile* file = files_.Find(done.address);
    const Image& image = images_[static_cast<size_t>(request.image)];
    // It may have looked at the file just before, or could not: the key's answer stands then.
    const bool before = request.number <= removed_uploads_ || request.keyed;
    if (removed_ == done.address && before) return;
    if (file == nullptr || file->content != image.content || file->bytes != image.bytes) {
      return trace_->Fail("I2 an upload was answered with another file");
    }
    const auto same = [&](const Handle& handle) {
      return handle.nonce == done.nonce && handle.file == done.address;
    };
    if (std::any_of(handles_.begin(), handles_.end(), same)) {
      if (!request.keyed) trace_->Fail("two uploads have one reference");
      return;  // the answer of before, once more
    }
    handles_.push_back({.image = request.image, .file = done.address, .nonce = done.nonce});
    if (takedowns_.contains(done.address)) handles_.back().state = State::kMaybe;
    if (request.keyed) CheckKey(request, done);
    if (!request.named) return;
    handles_.back().named = true;
    handles_.back().state = State::kMaybe;
    Request put = request;
    put.want = Want::kPutName;
    put.handle = handles_.size() - 1;
    pb::DirNamePutRequest message;
    message.set_name(kName);
    message.mutable_file()->set_block_id(done.address.block_id);
    message.mutable_file()->set_file_id(done.address.file_id.value);
    FillContent(image.content, message.mutable_content());
    message.set_nonce(std::string(AsText(done.nonce)));
    message.set_version(request.version);
    message.set_token_nonce(std::string(16, 't'));
    Ask(put, MessageType::kDirNamePut, message.SerializeAsString());
  }

  // Its user removed it, and then the key gave a new one; now he wants the old one back.
  bool Revived(const Nonce& nonce) const {
    return std::any_of(handles_.begin(), handles_.end(), [&](const Handle& handle) {
      return handle.nonce == nonce && handle.changed;
    });
  }

  // While the shard was never down every reference under the key is the one that was answered.
  void CheckKey(const Request& request, const PutDone& done) {
    if (!shard_.running() || shard_was_down_ || removed_.has_value()) return;
    const Image& image = images_[static_cast<size_t>(request.image)];
    for (const auto& [address, file] : files_.files()) {
      if (file.content != image.content || takedowns_.contains(address)) continue;
      const SimShard::View view = shard_.Look(image.content, address);
      for (const auto& [nonce, counter] : view.references) {
        const bool second = nonce != done.nonce && counter % 2 == 0 && nonce != file.nonce;
        if (second && keyed_nonces_.contains(nonce) && !Revived(nonce)) {
          trace_->Fail("I7 two references under one Idempotency-Key");
        }
      }
    }
  }

  void OnChanged(const Request& request, Err err) {
    Handle& handle = handles_[request.handle];
    const bool undelete = request.want == Want::kUndelete;
    trace_->Note("%s of handle %zu: err %d", undelete ? "undelete" : "delete", request.handle,
                 static_cast<int>(err));
    handle.busy = false;
    if (undelete && err == Err::kGone) {
      handle.unknown_undelete = false;
      return;
    }
    if (err != Err::kOk) {
      (undelete ? handle.unknown_undelete : handle.unknown_delete) = true;
      return;
    }
    if (undelete) {
      handle.unknown_undelete = false;
      const bool sure =
          !handle.unknown_delete && handle.file != removed_ && !takedowns_.contains(handle.file);
      handle.state = sure ? State::kHeld : State::kMaybe;
      return;
    }
    ++result_.deletes;
    handle.unknown_delete = false;
    if (handle.unknown_undelete) return;
    handle.state = State::kDeleted;
    CheckDeleted(request.handle, /*end=*/false);
  }

  void OnTakenDown(const Request& request, Err err) {
    trace_->Note("takedown of file %s: err %d", ToText(request.file).c_str(),
                 static_cast<int>(err));
    if (err == Err::kOk) taken_down_.insert(request.file);
  }

  void OnAsked(const Request& request, const AskDone& done) {
    if (request.want == Want::kAdopt) return;
    if (request.want == Want::kUnpin) return OnUnpinned(request, done);
    if (request.want == Want::kReadName) {
      pb::DirNameGetReply reply;
      const bool known = done.err == Err::kOk || done.err == Err::kNotFound;
      if (!known || !reply.ParseFromString(done.message)) return;
      Request upload = request;
      upload.want = Want::kUpload;
      upload.named = true;
      upload.version = reply.version();
      return Upload(upload);
    }
    trace_->Note("the name is written: err %d", static_cast<int>(done.err));
    Handle& handle = handles_[request.handle];
    if (done.err == Err::kExists) {  // the gateway gives the reference back
      handle.named = false;
      return Change(request.handle, /*undelete=*/false);
    }
    const bool sure = done.err == Err::kOk && handle.state == State::kMaybe && handle.named &&
                      shard_.losses() == 0 && !removed_.has_value() &&
                      !takedowns_.contains(handle.file);
    const bool newest = !name_history_.empty() && AsText(handle.nonce) == name_history_.back();
    if (sure && newest) handle.state = State::kHeld;
    // Else it was overwritten already, or the reference stays for good: nobody has its token.
  }

  void OnUnpinned(const Request& request, const AskDone& done) {
    pb::DirPinReply reply;
    trace_->Note("unpin of file %s: err %d", ToText(request.file).c_str(),
                 static_cast<int>(done.err));
    if (done.err != Err::kOk || !reply.ParseFromString(done.message) || reply.failed() > 0) return;
    for (size_t i = 0; i < handles_.size(); ++i) {
      if (handles_[i].file == request.file && handles_[i].state == State::kDeleted) {
        CheckDeleted(i, /*end=*/false);
      }
    }
  }

  // --- What must hold ---

  // Records were lost since this one was made: what it says need not be all.
  bool Doubted(const pb::DirFile& row) const {
    return row.pinned() || row.losses() < shard_.losses();
  }

  // Does anybody refer to this file, besides this handle and those that are deleted? The shard's
  // rows say so; it also has references of uploads that were not answered.
  bool OthersHold(size_t number, const SimShard::View& view, bool end) {
    const Handle& asked = handles_[number];
    std::set<Nonce> gone;  // known to be: a removal that was lost is done again by its token only
    if (asked.deleted_losses == shard_.losses()) gone.insert(asked.nonce);
    for (size_t i = 0; i < handles_.size(); ++i) {
      const Handle& handle = handles_[i];
      if (handle.file != asked.file || i == number) continue;
      if (handle.state == State::kHeld) return true;
      const bool known = handle.deleted_losses == shard_.losses();
      if (handle.state == State::kDeleted && known) gone.insert(handle.nonce);
      // Nobody knows; or it held the file when this one went, and goes itself now.
      const bool maybe = handle.state == State::kMaybe || handle.state == State::kDropping;
      if (maybe && (!view.present || (view.row.dead() && !end))) return true;
    }
    return std::any_of(view.references.begin(), view.references.end(), [&](const auto& one) {
      return one.second % 2 == 0 && !gone.contains(one.first);
    });
  }

  void CheckDeleted(size_t number, bool end) {
    const Handle& handle = handles_[number];
    const SimShard::View view =
        shard_.Look(images_[static_cast<size_t>(handle.image)].content, handle.file);
    // Pinned: it stays until an administrator unpins it; then it is dead once that is under way.
    const bool lost = shard_.losses() > 0;
    if (lost && (!view.present || Doubted(view.row) || (view.row.dead() && !end))) return;
    const SimFile* file = files_.Find(handle.file);
    if (file == nullptr || !file->Live() || OthersHold(number, view, end)) return;
    trace_->Fail(end ? "I3 a last delete never takes effect" : "I3 204, but the file answers");
  }

  void Check() {
    if (!shard_.exit().empty()) return trace_->Fail("%s", shard_.exit().c_str());
    CheckName();
    CheckTakedowns();
    FillCdn();
    for (const Handle& handle : handles_) {
      if (handle.state != State::kHeld) continue;
      const SimFile* file = files_.Find(handle.file);
      if (file == nullptr || !file->Live()) return trace_->Fail("I1 a held file is gone");
      if (!shard_.running() || !shard_.core().ready() || shard_.losses() > 0) continue;
      const SimShard::View view =
          shard_.Look(images_[static_cast<size_t>(handle.image)].content, handle.file);
      if (!view.present) continue;
      const auto reference = view.references.find(handle.nonce);
      if (reference == view.references.end() || reference->second % 2 == 1) {
        return trace_->Fail("I4 a held reference is missing or removed");
      }
    }
  }

  void CheckTakedowns() {
    if (shard_.losses() > 0) return;  // the shard may not know of it any more
    for (const FileAddress& file : taken_down_) {
      const SimFile* found = files_.Find(file);
      if (found != nullptr && found->Live()) trace_->Fail("I8 a file that was taken down answers");
    }
    for (const FileAddress& file : takedowns_) {
      const SimFile* found = files_.Find(file);
      if (found == nullptr) continue;
      const SimShard::View view = shard_.Look(found->content, file);
      if (view.row.taken_down() && !view.row.dead()) {
        trace_->Fail("I8 the mark of a takedown on a live file");
      }
    }
  }

  // The name's reference is the last write's; those before it go.
  void NoteNamed(const std::string& nonce) {
    for (Handle& handle : handles_) {
      if (!handle.named || handle.state == State::kDeleted) continue;
      if (AsText(handle.nonce) != nonce && handle.state == State::kHeld) {
        handle.state = State::kDropping;
      }
    }
  }

  void CheckName() {
    if (shard_.losses() > 0 ||
        removed_.has_value()) {  // what names there were is not known any more
      for (Handle& handle : handles_) {
        if (handle.named) handle.state = State::kMaybe;
      }
    }
    if (!names_ || shard_.losses() > 0 || removed_.has_value()) return;
    const std::optional<pb::DirName> name = shard_.Name(kName, /*committed=*/true);
    if (!name.has_value() || name->deleted_ms() != 0) return;
    const SimFile* file = files_.Find({name->file().block_id(), FileId{name->file().file_id()}});
    const bool lives = file != nullptr && file->Live();
    const FileAddress named{name->file().block_id(), FileId{name->file().file_id()}};
    if (!lives && !takedowns_.contains(named)) return trace_->Fail("I5 a name's file is gone");
    if (name_history_.empty() || name_history_.back() != name->nonce()) {
      const bool before = std::find(name_history_.begin(), name_history_.end(), name->nonce()) !=
                          name_history_.end();
      if (before) return trace_->Fail("I5 an older write undid a name's newer value");
      name_history_.push_back(name->nonce());
      NoteNamed(name->nonce());
    }
  }

  void CheckEnd() {
    if (shard_.core().pending() > 0) trace_->Fail("I6 an entry is stuck");
    if (shard_.core().purges().pending() > 0) trace_->Fail("I6 a purge is stuck");
    if (shard_.core().drops() > 0) trace_->Fail("I6 a dropped name's reference is stuck");
    for (const Gateway& gateway : gateways_) {
      if (!gateway.requests.empty()) trace_->Fail("I6 an operation is stuck");
    }
    for (const auto& [address, file] : files_.files()) {
      const SimShard::View view = shard_.Look(file.content, address);
      if (view.row.taken_down() && !view.row.dead()) trace_->Fail("I8 a mark on a live file");
      if (!view.present || view.row.losses() < shard_.losses()) continue;
      if (!view.row.dead() && !file.Live() && !file.purged) {
        trace_->Fail("I6 a live record of a file that is deleted");
      }
      if (view.row.dead() && file.Live()) trace_->Fail("I3 a dead record of a file that is live");
    }
    for (size_t i = 0; i < handles_.size(); ++i) {
      const State state = handles_[i].state;
      if (state == State::kDeleted || state == State::kDropping) CheckDeleted(i, /*end=*/true);
    }
    CheckNameEnd();
    CheckCdn();
  }

  // What nobody was given the id of, nobody asked a CDN for.
  void CheckCdn() {
    if (shard_.losses() > 0) return;  // with the records went what the CDN was to be told
    for (const Handle& handle : handles_) {
      const SimFile* file = files_.Find(handle.file);
      if (file == nullptr || file->Live() || handle.file == removed_) continue;
      ++result_.purges;
      if (cdn_.contains(handle.file)) trace_->Fail("I9 a CDN serves a file that was deleted");
    }
  }

  void CheckNameEnd() {
    if (!names_ || shard_.losses() > 0) return;
    CheckName();
    for (size_t i = 0; i + 1 < name_history_.size(); ++i) {
      for (const Handle& handle : handles_) {
        if (AsText(handle.nonce) != name_history_[i]) continue;
        const SimShard::View view =
            shard_.Look(images_[static_cast<size_t>(handle.image)].content, handle.file);
        const auto reference = view.references.find(handle.nonce);
        if (reference != view.references.end() && reference->second % 2 == 0) {
          trace_->Fail("I6 an overwritten name's reference is left");
        }
      }
    }
  }

  // --- What happens ---

  void StartSomething() {
    if (requests_left_ == 0) return;
    --requests_left_;
    std::vector<size_t> free;
    for (size_t i = 0; i < handles_.size(); ++i) {
      if (!handles_[i].busy && !handles_[i].named) free.push_back(i);
    }
    Request request{.gateway = static_cast<int>(random_.Below(2)),
                    .image = static_cast<int>(random_.Below(static_cast<uint64_t>(images_used_)))};
    const uint64_t changes = storm_ ? 10 : few_ && handles_.size() > 1 ? 85 : 40;
    const bool change = !free.empty() && random_.Chance(changes);
    if (change) {
      const size_t number = free[random_.Below(free.size())];
      const bool undelete = handles_[number].state != State::kHeld && random_.Chance(60);
      return Change(number, undelete);
    }
    if (names_ && random_.Chance(50)) {
      request.want = Want::kReadName;
      pb::DirNameGetRequest get;
      get.set_name(kName);
      return Ask(request, MessageType::kDirNameGet, get.SerializeAsString());
    }
    request.keyed = keyed_ && random_.Chance(60);
    if (request.keyed) request.image = 0;
    Upload(request);
  }

  void CrashShard() {
    if (crashes_left_ == 0 || !shard_.running()) return;
    --crashes_left_;
    shard_was_down_ = true;
    trace_->Note("shard crashes");
    standby_ = std::min(standby_, shard_.committed());
    shard_.Crash();
  }

  void RestartShard() {
    if (losses_left_ > 0 && random_.Chance(60)) {
      --losses_left_;
      // An operator's act: what the old active has sent has come or is lost.
      std::erase_if(bag_, [&](const Message& message) {
        return message.from == kShardCaller && !message.reply;
      });
      if (random_.Chance(50)) {
        const size_t kept = random_.Below(shard_.committed() + 1);
        return StartShard(std::max(standby_, kept), /*forced=*/true);
      }
      ++shard_life_;
      tokens_.clear();
      ForgetCalls(kShardCaller);
      trace_->Note("shard is rebuilt");
      shard_.Rebuild(now_);
      for (const auto& [address, file] : files_.files()) {
        if (file.sealed && file.Live()) Adopt(address, file);
      }
      return;
    }
    StartShard(shard_.committed() + random_.Below(shard_.logged() - shard_.committed() + 1),
               /*forced=*/false);
  }

  void Adopt(const FileAddress& address, const SimFile& file) {
    pb::DirAdoptRequest adopt;
    adopt.add_files()->set_block_id(address.block_id);
    adopt.mutable_files(0)->set_file_id(address.file_id.value);
    FillContent(file.content, adopt.add_contents());
    const Request request{.want = Want::kAdopt, .gateway = static_cast<int>(random_.Below(2))};
    Ask(request, MessageType::kDirAdopt, adopt.SerializeAsString());
  }

  void AdoptSome() {
    for (auto& [address, file] : files_.files()) {
      if (!random_.Chance(40)) continue;
      file.sealed = true;
      trace_->Note("fsck finds file %s", ToText(address).c_str());
      return Adopt(address, file);
    }
  }

  void PurgeSome() {
    if (purges_left_ == 0) return;
    for (auto& [address, file] : files_.files()) {
      if (file.counter % 2 == 0 || file.purged) continue;
      --purges_left_;
      file.purged = true;
      return trace_->Note("file %s is purged", ToText(address).c_str());
    }
  }

  // Somebody removes all replicas of a file. What users were promised of it is gone; what comes
  // later must not rest on it.
  void RemoveSome() {
    if (removes_left_ == 0 || files_.files().empty()) return;
    --removes_left_;
    const FileAddress file = files_.files().begin()->first;
    trace_->Note("file %s is removed from the disks", ToText(file).c_str());
    files_.Remove(file);
    removed_ = file;
    removed_uploads_ = uploads_;
    for (Handle& handle : handles_) {
      if (handle.file == file) handle.state = State::kMaybe;
    }
  }

  // He takes a file down; or, once the shard has lost records, unpins one all of whose references
  // the shard knows.
  void Administer() {
    if (handles_.empty()) return;
    const Handle& chosen = handles_[random_.Below(handles_.size())];
    const FileAddress file = chosen.file;
    const ContentId& content = images_[static_cast<size_t>(chosen.image)].content;
    Request request{.gateway = static_cast<int>(random_.Below(2)), .file = file};
    if (shard_.losses() > 0) {
      if (!shard_.running() || !AllKnown(content, file)) return;
      request.want = Want::kUnpin;
      pb::DirPinRequest unpin;
      unpin.add_files()->set_block_id(file.block_id);
      unpin.mutable_files(0)->set_file_id(file.file_id.value);
      FillContent(content, unpin.add_contents());
      trace_->Note("file %s is to be unpinned", ToText(file).c_str());
      return Ask(request, MessageType::kDirPin, unpin.SerializeAsString());
    }
    if (takedowns_left_ == 0) return;
    --takedowns_left_;
    trace_->Note("file %s is to be taken down", ToText(file).c_str());
    takedowns_.insert(file);
    for (Handle& handle : handles_) {
      if (handle.file == file) handle.state = State::kMaybe;
    }
    request.want = Want::kTakedown;
    SetDeleteRequest change;
    change.address = file;
    change.takedown = true;
    ClientOutbox outbox;
    Gateway& gateway = gateways_[request.gateway];
    const uint64_t op_id = gateway.core->SetDelete(std::move(change), now_, &outbox);
    gateway.requests[op_id] = request;
    Take(request.gateway, &outbox);
  }

  bool AllKnown(const ContentId& content, const FileAddress& file) {
    const SimFile* found = files_.Find(file);
    const SimShard::View view = shard_.Look(content, file);
    if (found == nullptr || !found->Live() || !view.present || view.row.dead()) return false;
    return std::all_of(handles_.begin(), handles_.end(), [&](const Handle& handle) {
      const auto reference = view.references.find(handle.nonce);
      const bool known = reference != view.references.end() && reference->second % 2 == 0;
      return handle.file != file || handle.state != State::kHeld || known;
    });
  }

  void CrashGateway() {
    if (gateway_crashes_left_ == 0) return;
    --gateway_crashes_left_;
    Gateway& gateway = gateways_[random_.Below(2)];
    trace_->Note("a gateway crashes");
    for (const auto& [op_id, request] : gateway.requests) {
      const bool change = request.want == Want::kDelete || request.want == Want::kUndelete;
      if (!change) continue;
      Handle& handle = handles_[request.handle];
      handle.busy = false;
      (request.want == Want::kUndelete ? handle.unknown_undelete : handle.unknown_delete) = true;
    }
    gateway.requests.clear();
    StartGateway(&gateway);
  }

  void DeliverSome() {
    if (bag_.empty()) return;
    // Mostly in order, so that something comes to its end.
    const uint64_t in_order = storm_ ? 50 : 80;
    const size_t window = std::min<size_t>(bag_.size(), random_.Chance(in_order) ? 4 : bag_.size());
    const uint64_t all = weights_.deliver + weights_.repeat + weights_.lose;
    const uint64_t choice = random_.Below(all);
    const bool repeat = choice >= weights_.deliver && choice < weights_.deliver + weights_.repeat;
    Deliver(random_.Below(window), repeat, choice >= weights_.deliver + weights_.repeat);
  }

  void Step() {
    if (!shard_.running() && random_.Chance(20)) RestartShard();
    const uint64_t total = weights_.start + weights_.deliver + weights_.time + weights_.commit +
                           weights_.crash + weights_.gateway + weights_.purge + weights_.adopt +
                           weights_.remove + weights_.admin;
    uint64_t choice = random_.Below(total);
    const auto is = [&](uint64_t weight) {
      if (choice < weight) return true;
      choice -= weight;
      return false;
    };
    if (is(weights_.start)) {
      StartSomething();
    } else if (is(weights_.deliver)) {
      DeliverSome();
    } else if (is(weights_.time)) {
      PassTime(leaps_ && random_.Chance(10) ? random_.Between(200, 900) : random_.Between(1, 30));
    } else if (is(weights_.commit)) {
      if (shard_.running()) shard_.Commit(now_);
      if (random_.Chance(50)) standby_ = shard_.committed();
    } else if (is(weights_.crash)) {
      CrashShard();
    } else if (is(weights_.gateway)) {
      CrashGateway();
    } else if (is(weights_.purge)) {
      PurgeSome();
    } else if (is(weights_.remove)) {
      RemoveSome();
    } else if (is(weights_.admin)) {
      Administer();
    } else {
      AdoptSome();
    }
    Check();
  }

  // No more faults and requests: everything in flight arrives, everything begun is finished.
  void Drain() {
    trace_->Note("-- drained --");
    dsp_errors_ = cdn_errors_ = 0;
    for (int i = 0; i < 3'000 && !trace_->failed(); ++i) {
      if (!shard_.running()) StartShard(shard_.committed(), /*forced=*/false);
      while (!bag_.empty() && !trace_->failed()) {
        Deliver(random_.Below(bag_.size()), /*keep=*/false, /*lose=*/false);
        if (random_.Chance(30)) shard_.Commit(now_);
        Check();
      }
      shard_.Commit(now_);
      Check();
      PassTime(random_.Between(10, 60));
      Check();
      const bool quiet = bag_.empty() && gateways_[0].requests.empty() &&
                         gateways_[1].requests.empty() && shard_.core().ready() &&
                         shard_.core().pending() == 0 && shard_.core().drops() == 0;
      if (quiet && i > 20 && shard_.core().purges().pending() == 0) break;
      if (quiet && i > 20) PassTime(1'000);  // it waits for the CDN's next turn
    }
    if (!trace_->failed()) CheckEnd();
  }

  std::vector<Handle> handles_;
  std::vector<std::string> name_history_;  // nonces
  DirWalkResult result_;

  Weights weights_{};
  bool few_ = false;
  int images_used_ = 1;
  uint64_t requests_left_ = 0;
  uint64_t crashes_left_ = 0;
  uint64_t gateway_crashes_left_ = 0;
  uint64_t losses_left_ = 0;
  uint64_t purges_left_ = 0;
  bool keyed_ = false;
  bool names_ = false;
  bool leaps_ = false;
  bool storm_ = false;
  uint64_t steps_ = 0;
  size_t standby_ = 0;  // a standby that lags has so much of the log
  bool shard_was_down_ = false;
  uint64_t takedowns_left_ = 0;
  std::set<FileAddress> takedowns_;   // begun
  std::set<FileAddress> taken_down_;  // of them, those that are done
  uint64_t removes_left_ = 0;
  std::optional<FileAddress> removed_;
  uint64_t uploads_ = 0;          // begun
  uint64_t removed_uploads_ = 0;  // of them, before that
};

}  // namespace

DirWalkResult WalkDirectory(uint64_t seed, SimTrace* trace) { return Walk(seed, trace).Run(); }

}  // namespace hayloft
