// Names: GET, HEAD, PUT, DELETE /v1/names/<name>, and the list of them.
//
//   read    name -> file --> BeginDownload
//   write   [body] -> name as it is now: may it be written? -> upload, or a reference to the file
//           that was named -> write the name, if its version is still the one that was read
//   delete  name as it is now: may it be deleted? -> delete it, likewise
//
// A name holds a reference of its own, taken before it is written and given back when it was not.
// When nobody can say whether it was written the reference stays: that costs space, and the
// opposite would cost the file.
#include <algorithm>

#include "common/content.h"
#include "common/limits.h"
#include "common/log.h"
#include "gateway/answers.h"
#include "gateway/worker_shell.h"

namespace hayloft {

namespace {

constexpr const char* kNoDirectory = "Names need the directory, which this gateway does not use.";
constexpr const char* kNoName = "A name has 1 to 1,024 bytes of UTF-8, percent-encoded.";
constexpr const char* kChanged = "The name was changed meanwhile; look at it and try again.";
constexpr const char* kCondition = "A condition of the request does not hold.";

void FillName(const FileAddress& file, pb::FileName* name) {
  name->set_block_id(file.block_id);
  name->set_file_id(file.file_id.value);
}

}  // namespace

// False: it was answered. Notes the name and what its request depends on.
bool GatewayWorker::TakeName(HttpConnection* connection, const HttpRequest& request,
                             const Route& route) {
  Exchange& exchange = connection->exchange;
  std::optional<std::string> name = DecodeName(route.name);
  if (!name) {
    AnswerError(connection, {.status = 400, .message = kNoName});
    return false;
  }
  if (client_.shards() == 0) {
    AnswerError(connection, {.status = 501, .message = kNoDirectory});
    return false;
  }
  exchange.name = std::make_unique<NameState>();
  exchange.name->name = std::move(*name);
  exchange.name->head = KeptHead(request);
  exchange.name->token = request.Value(HttpField::kNameToken);
  return true;
}

void GatewayWorker::BeginPutName(HttpConnection* connection, const HttpRequest& request,
                                 const Route& route) {
  if (!TakeName(connection, request, route)) return;
  NameState& state = *connection->exchange.name;
  const auto refuse = [&](int status, std::string_view message) {
    AnswerError(connection, {.status = status, .message = message});
  };
  if (request.Count(HttpField::kIdempotencyKey) > 0) {
    return refuse(400, "An Idempotency-Key is for uploads without a name.");
  }
  if (IsMultipart(request.Value(HttpField::kContentType))) {
    return refuse(415, "A name takes one file, as raw body.");
  }
  if (request.Count(HttpField::kFileId) == 0) return BeginUpload(connection, request);
  const std::optional<FileAddress> file = ParseFileAddress(request.Value(HttpField::kFileId));
  if (!file || request.Count(HttpField::kFileId) > 1) {
    return refuse(400, "Hayloft-Id is the id of one file: 18 characters.");
  }
  if (request.HasBody()) return refuse(400, "Either a body or Hayloft-Id, not both.");
  state.of_file = true;
  state.address = *file;
  Admit(connection, Work::kPutName);
}

// --- The directory is asked ---

// `next` goes on when it has answered with kOk or one of `also`, `refused` when it did nothing;
// else the request is answered here.
void GatewayWorker::AskDirectory(HttpConnection* connection, DirectoryCall&& call) {
  AskRequest request{.shard = call.shard,
                     .type = call.type,
                     .message = std::move(call.message),
                     .timeout_ms = call.lane == &reads_ ? shared_->options.read_timeout_ms
                                                        : shared_->options.upload_timeout_ms};
  client_.Ask(std::move(request), [this, id = connection->id, call = std::move(call),
                                   asked_ms = loop_.now().mono_ms](AskDone&& done) {
    WorkEnded(call.lane, asked_ms);
    HttpConnection* waiting = Find(id);
    if (waiting == nullptr) return;
    ASSERT(waiting->answering());
    waiting->NoteStore({}, {});
    const auto also = std::find(call.also.begin(), call.also.end(), done.err);
    if (done.err == Err::kOk || also != call.also.end()) {
      NoteSuccess();
      return call.next(waiting, done);
    }
    if (call.refused && !done.unsure) return call.refused(waiting, done.err);
    EndUpload(waiting);
    AnswerErr(waiting, done.err);
  });
}

uint32_t GatewayWorker::ShardOfOwnName(const HttpConnection* connection) const {
  return ShardOfName(connection->exchange.name->name, client_.shards());
}

// The name as it is now.
void GatewayWorker::LookUpName(HttpConnection* connection) {
  const Work work = connection->exchange.work;
  pb::DirNameGetRequest message;
  message.set_name(connection->exchange.name->name);
  AskDirectory(connection, {.shard = ShardOfOwnName(connection),
                            .type = MessageType::kDirNameGet,
                            .message = message.SerializeAsString(),
                            .lane = &LaneOf(work),
                            .also = {Err::kNotFound},
                            .next = [this, work](HttpConnection* waiting, const AskDone& done) {
                              OnName(waiting, work, done);
                            }});
}

void GatewayWorker::OnName(HttpConnection* connection, Work work, const AskDone& done) {
  Exchange& exchange = connection->exchange;
  NameState& state = *exchange.name;
  pb::DirNameGetReply reply;
  const bool parses = reply.ParseFromString(done.message);
  state.there = done.err == Err::kOk;
  state.version = reply.version();
  if (!parses || (state.there && reply.token_nonce().size() != sizeof(Nonce))) {
    EndUpload(connection);
    return AnswerErr(connection, Err::kCorrupt);
  }
  if (!state.there && work != Work::kStore && work != Work::kPutName) {
    return AnswerError(connection, {.status = 404, .message = "There is no such name."});
  }
  FileAddress now;
  if (state.there) {
    now = {reply.file().block_id(), FileId{reply.file().file_id()}};
    std::copy(reply.token_nonce().begin(), reply.token_nonce().end(), state.token_nonce.begin());
    const std::string id = ToText(now);
    exchange.etag.front() = exchange.etag.back() = '"';
    id.copy(&exchange.etag[1], kAddressTextLength);
  } else {
    random_.Fill(state.token_nonce);
  }
  const HttpParsed parsed = ParseHttpRequest(state.head, 0, &request_);
  ASSERT(parsed.kind == HttpParsed::Kind::kRequest);
  if (work == Work::kReadName) {
    exchange.address = now;
    return BeginDownload(connection, request_);
  }
  if (!MayWriteName(connection)) return;
  writes_.Begin();
  if (work == Work::kDeleteName) return DeleteName(connection);
  if (work == Work::kPutName) return LookAtFile(connection);
  const Err err = StoreUpload(connection, exchange.upload.get(), 0);
  if (err == Err::kOk) return;
  writes_.Dropped();
  EndUpload(connection);
  AnswerErr(connection, err);
}

// False: it was answered. What is there is written over by who has its token, or an upload key.
bool GatewayWorker::MayWriteName(HttpConnection* connection) {
  const Exchange& exchange = connection->exchange;
  const NameState& state = *exchange.name;
  if (state.there && exchange.uploader.empty()) {
    if (state.token.empty()) {
      shared_->metrics.denied_total.Add();
      EndUpload(connection);
      AnswerError(connection,
                  {.status = 401,
                   .message = "The name is there: Hayloft-Name-Token is needed, or an upload key.",
                   .field = {"WWW-Authenticate", "Hayloft-Name-Token realm=\"hayloft\""}});
      return false;
    }
    if (!CheckNameToken(shared_->key, state.name, state.token_nonce, state.token)) {
      shared_->metrics.denied_total.Add();
      EndUpload(connection);
      AnswerError(connection, {.status = 403, .message = "This is not the token of this name."});
      return false;
    }
  }
  const std::string_view etag = state.there ? exchange.etag_text() : std::string_view();
  if (WriteMayProceed(request_, etag)) return true;
  EndUpload(connection);
  AnswerError(connection, {.status = 412, .message = kCondition});
  return false;
}

// --- A reference to a file that is there already ---

void GatewayWorker::LookAtFile(HttpConnection* connection) {
  GetRequest request;
  request.address = connection->exchange.name->address;
  request.head_only = true;
  request.timeout_ms = shared_->options.upload_timeout_ms;
  client_.Get(std::move(request),
              [this, id = connection->id, asked_ms = loop_.now().mono_ms](GetDone&& done) {
                WorkEnded(&writes_, asked_ms);
                HttpConnection* waiting = Find(id);
                if (waiting == nullptr) return;
                const Err err = done.err == Err::kOk ? NoteFile(waiting, done) : done.err;
                if (err != Err::kOk) return AnswerErr(waiting, err);
                writes_.Begin();
                TakeReference(waiting);
              });
}

Err GatewayWorker::NoteFile(HttpConnection* connection, const GetDone& done) {
  NameState& state = *connection->exchange.name;
  TRY_ASSIGN(const NeedleHead head, ParseNeedleHead(AsBytes(done.head)));
  TRY_ASSIGN(const Metadata metadata, ParseMetadata(head.metadata));
  TRY_ASSIGN(state.content, ContentOf(head));
  random_.Fill(state.file.nonce);
  state.file.size = head.header.raw_size;
  state.file.content_type = metadata.content_type;
  state.file.sha1 = metadata.sha1;
  state.file.duplicate = true;
  return Err::kOk;
}

// Under the epoch that is known. If the shard has begun another one since, nothing is added, and
// its epoch is asked for once the file is seen to have a record.
void GatewayWorker::TakeReference(HttpConnection* connection) {
  epochs_.resize(client_.shards());
  const uint32_t shard = ShardOf(connection->exchange.name->content.sha1, client_.shards());
  if (epochs_[shard] == 0) return AskEpoch(connection, /*adopted=*/false);
  AddReference(connection, epochs_[shard], /*adopted=*/false);
}

// A look-up tells the epoch under which the reference can be added.
void GatewayWorker::AskEpoch(HttpConnection* connection, bool adopted) {
  const NameState& state = *connection->exchange.name;
  pb::DirLookupRequest message;
  FillContent(state.content, message.add_contents());
  const uint32_t shard = ShardOf(state.content.sha1, client_.shards());
  AskDirectory(connection,
               {.shard = shard,
                .type = MessageType::kDirLookup,
                .message = message.SerializeAsString(),
                .lane = &writes_,
                .next = [this, shard, adopted](HttpConnection* waiting, const AskDone& done) {
                  pb::DirLookupReply reply;
                  if (!reply.ParseFromString(done.message))
                    return AnswerErr(waiting, Err::kCorrupt);
                  writes_.Begin();
                  epochs_[shard] = reply.epoch();
                  AddReference(waiting, reply.epoch(), adopted);
                }});
}

void GatewayWorker::AddReference(HttpConnection* connection, uint64_t epoch, bool adopted) {
  const NameState& state = *connection->exchange.name;
  pb::DirUploadRequest message;
  pb::DirUpload* upload = message.add_uploads();
  FillContent(state.content, upload->mutable_content());
  upload->set_nonce(std::string(AsText(state.file.nonce)));
  upload->set_epoch(epoch);
  FillName(state.address, upload->mutable_file());
  AskDirectory(connection,
               {.shard = ShardOf(state.content.sha1, client_.shards()),
                .type = MessageType::kDirUpload,
                .message = message.SerializeAsString(),
                .lane = &writes_,
                .next = [this, adopted](HttpConnection* waiting, const AskDone& done) {
                  pb::DirUploadReply reply;
                  if (!reply.ParseFromString(done.message) || reply.uploads_size() != 1) {
                    return AnswerErr(waiting, Err::kCorrupt);
                  }
                  if (reply.uploads(0).verdict() == pb::DIR_RECORDED) return WriteName(waiting);
                  // Deleted meanwhile, or a new active: for a moment.
                  if (adopted) return AnswerErr(waiting, Err::kUnavailable);
                  writes_.Begin();
                  AdoptFile(waiting);
                }});
}

// The directory does not know the file: it was stored past it.
void GatewayWorker::AdoptFile(HttpConnection* connection) {
  const NameState& state = *connection->exchange.name;
  pb::DirAdoptRequest message;
  FillName(state.address, message.add_files());
  FillContent(state.content, message.add_contents());
  AskDirectory(connection, {.shard = ShardOf(state.content.sha1, client_.shards()),
                            .type = MessageType::kDirAdopt,
                            .message = message.SerializeAsString(),
                            .lane = &writes_,
                            .next = [this](HttpConnection* waiting, const AskDone& done) {
                              pb::DirAdoptReply reply;
                              if (!reply.ParseFromString(done.message) || reply.files_size() != 1) {
                                return AnswerErr(waiting, Err::kCorrupt);
                              }
                              const pb::DirFileStatus& file = reply.files(0);
                              if (file.state() == pb::DIR_FILE_DEAD)
                                return AnswerErr(waiting, Err::kGone);
                              const Err err = ErrFromWire(static_cast<uint16_t>(file.err()));
                              if (err != Err::kOk) return AnswerErr(waiting, err);
                              writes_.Begin();
                              AskEpoch(waiting, /*adopted=*/true);
                            }});
}

// --- The name is written ---

// The upload has its reference: it becomes the name's.
void GatewayWorker::OnNameStored(HttpConnection* connection, const PutDone& done) {
  NameState& state = *connection->exchange.name;
  state.file = connection->exchange.upload->file;
  state.address = done.address;
  EndUpload(connection);
  WriteName(connection);
}

void GatewayWorker::WriteName(HttpConnection* connection) {
  const NameState& state = *connection->exchange.name;
  pb::DirNamePutRequest message;
  message.set_name(state.name);
  FillName(state.address, message.mutable_file());
  FillContent(state.content, message.mutable_content());
  message.set_nonce(std::string(AsText(state.file.nonce)));
  message.set_version(state.version);
  message.set_token_nonce(std::string(AsText(state.token_nonce)));
  writes_.Begin();
  AskDirectory(connection, {.shard = ShardOfOwnName(connection),
                            .type = MessageType::kDirNamePut,
                            .message = message.SerializeAsString(),
                            .lane = &writes_,
                            .also = {Err::kExists},
                            .next =
                                [this](HttpConnection* waiting, const AskDone& done) {
                                  if (done.err == Err::kOk) return AnswerName(waiting);
                                  GiveReferenceBack(waiting, done.err);
                                },
                            .refused = [this](HttpConnection* waiting,
                                              Err err) { GiveReferenceBack(waiting, err); }});
}

// The name was not written, because of `why`.
void GatewayWorker::GiveReferenceBack(HttpConnection* connection, Err why) {
  const NameState& state = *connection->exchange.name;
  SetDeleteRequest operation{.address = state.address,
                             .timeout_ms = shared_->options.upload_timeout_ms,
                             .nonce = state.file.nonce};
  writes_.Begin();
  client_.SetDelete(std::move(operation), [this, id = connection->id, why,
                                           asked_ms = loop_.now().mono_ms](SetDeleteDone&& done) {
    WorkEnded(&writes_, asked_ms);
    if (done.err != Err::kOk) {
      LOG_WARN("reference_left", "err=%s action=file_stays", ErrName(done.err).data());
    }
    HttpConnection* waiting = Find(id);
    if (waiting == nullptr) return;
    why == Err::kExists ? AnswerConflict(waiting) : AnswerErr(waiting, why);
  });
}

void GatewayWorker::AnswerConflict(HttpConnection* connection) {
  AnswerError(connection, {.status = 409, .message = kChanged});
}

void GatewayWorker::AnswerName(HttpConnection* connection) {
  const NameState& state = *connection->exchange.name;
  const std::string id = ToText(state.address);
  const std::string json =
      NameJson({.name = state.name,
                .file = {.id = id,
                         .url = shared_->urls.Url(id, state.file.content_type),
                         .size = state.file.size,
                         .sha1_hex = ToHex(state.file.sha1),
                         .content_type = state.file.content_type,
                         .duplicate = state.file.duplicate,
                         .delete_token = {}},
                .token = MakeNameToken(shared_->key, state.name, state.token_nonce)});
  shared_->metrics.names_written_total.Add();
  connection->Head(state.there ? 200 : 201)
      .Add("Location", NamePath(state.name))
      .Add("Content-Type", "application/json")
      .Add("Content-Length", json.size())
      .Add("Cache-Control", "no-store")
      .End();
  connection->out()->append(json);
  connection->SendAll();
}

void GatewayWorker::DeleteName(HttpConnection* connection) {
  const NameState& state = *connection->exchange.name;
  pb::DirNameDeleteRequest message;
  message.set_name(state.name);
  message.set_version(state.version);
  AskDirectory(connection, {.shard = ShardOfOwnName(connection),
                            .type = MessageType::kDirNameDelete,
                            .message = message.SerializeAsString(),
                            .lane = &writes_,
                            // Not found: an earlier copy of this request has deleted it.
                            .also = {Err::kExists, Err::kNotFound},
                            .next = [this](HttpConnection* waiting, const AskDone& done) {
                              if (done.err == Err::kExists) return AnswerConflict(waiting);
                              shared_->metrics.names_deleted_total.Add();
                              waiting->Head(204).Add("Cache-Control", "no-store").End();
                              waiting->SendAll();
                            }});
}

// --- The list ---

void GatewayWorker::BeginListNames(HttpConnection* connection, const HttpRequest& request) {
  std::optional<NamesQuery> query = ParseNamesQuery(request.query);
  if (!query) {
    return AnswerError(connection, {.status = 400,
                                    .message = "prefix and after are UTF-8 of up to 1,024 bytes, "
                                               "percent-encoded; limit is 1 to 1,000."});
  }
  if (client_.shards() == 0) {
    return AnswerError(connection, {.status = 501, .message = kNoDirectory});
  }
  connection->exchange.name = std::make_unique<NameState>();
  connection->exchange.name->query = std::move(*query);
  Admit(connection, Work::kListNames);
}

// All shards are asked at once; one that does not answer leaves a gap, so there is no list then.
// Names lie evenly: twice its share of the page is asked of each, which bounds what all of them
// answer, and a page that ends early for that says that there is more.
void GatewayWorker::ListNames(HttpConnection* connection) {
  NameState& state = *connection->exchange.name;
  pb::DirNameListRequest message;
  message.set_prefix(state.query.prefix);
  message.set_after(state.query.after);
  message.set_limit(NamesOfShard(state.query.limit, client_.shards()));
  state.shards_left = client_.shards();
  state.shards.resize(state.shards_left);
  for (uint32_t shard = 0; shard < client_.shards(); ++shard) {
    AskRequest request{.shard = shard,
                       .type = MessageType::kDirNameList,
                       .message = message.SerializeAsString(),
                       .timeout_ms = shared_->options.read_timeout_ms};
    if (shard > 0) reads_.Begin();
    client_.Ask(std::move(request),
                [this, id = connection->id, shard, asked_ms = loop_.now().mono_ms](AskDone&& done) {
                  WorkEnded(&reads_, asked_ms);
                  if (HttpConnection* waiting = Find(id)) OnNamesOfShard(waiting, shard, done);
                });
  }
}

void GatewayWorker::OnNamesOfShard(HttpConnection* connection, uint32_t shard,
                                   const AskDone& done) {
  NameState& state = *connection->exchange.name;
  ASSERT(state.shards_left > 0);
  const bool parses = done.err == Err::kOk && state.shards[shard].ParseFromString(done.message);
  if (!parses && state.err == Err::kOk) state.err = done.err == Err::kOk ? Err::kCorrupt : done.err;
  if (--state.shards_left > 0) return;
  connection->NoteStore({}, {});
  if (state.err != Err::kOk) return AnswerErr(connection, state.err);
  NoteSuccess();
  const NamesPage page = MergeNames(std::move(state.shards), state.query.limit);
  AnswerJson(connection, 200, NamesJson(page, shared_->urls));
}

}  // namespace hayloft
