// What a directory shard is made of: contents, keys of rows, rows over a Kv, files and references.
#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <map>

#include "directory/dir_files.h"
#include "tests/sim/mem_kv.h"
#include "tests/unit/dir_bench.h"

namespace hayloft {
namespace {

constexpr char kNode[] = "0123456789abcdef";

bool HasRows(const MemKv& kv, std::string_view prefix) {
  const auto first = kv.contents().lower_bound(prefix);
  return first != kv.contents().end() && first->first.starts_with(prefix);
}

FileAddress At(uint32_t sequence) { return {7, FileId::Of(sequence, 5)}; }

Nonce NonceOf(uint8_t number) {
  Nonce nonce{};
  nonce.fill(number);
  return nonce;
}

TEST_CASE("content: equal are uploads of which a reader gets the same") {
  Metadata metadata;
  metadata.content_type = "image/png";
  metadata.sha1.fill(1);
  metadata.sha256.fill(2);
  metadata.fields["surrogate-key"] = "a b";
  const ContentId content = ContentOf(metadata, 100);
  CHECK_EQ(content.sha1, metadata.sha1);
  metadata.nonce.fill(9);
  CHECK_EQ(ContentOf(metadata, 100), content);  // whose upload it was makes no difference
  const auto differs = [&](auto&& change) {
    Metadata other = metadata;
    change(&other);
    return ContentOf(other, 100) != content;
  };
  CHECK(differs([](Metadata* one) { one->content_type = "image/gif"; }));
  CHECK(differs([](Metadata* one) { one->sha256[31] = 3; }));
  CHECK(differs([](Metadata* one) { one->fields["surrogate-key"] = "a c"; }));
  CHECK(differs([](Metadata* one) { one->fields.clear(); }));
  CHECK_NE(ContentOf(metadata, 101), content);
}

TEST_CASE("content: shards are ranges of the first byte, and use all of it") {
  for (const uint32_t shards : {1u, 2u, 3u, 16u, 255u, 256u}) {
    uint32_t last = 0;
    std::map<uint32_t, int> sizes;
    for (int byte = 0; byte < 256; ++byte) {
      Sha1 sha1{};
      sha1[0] = static_cast<uint8_t>(byte);
      const uint32_t shard = ShardOf(sha1, shards);
      CHECK_GE(shard, last);
      CHECK_LT(shard, shards);
      last = shard;
      ++sizes[shard];
    }
    CHECK_EQ(sizes.size(), shards);
    CHECK_LE(sizes.rbegin()->second, static_cast<int>(256 / shards) + 1);
  }
}

TEST_CASE("content: a user's key counts with its uploader and the content") {
  const ContentId content = BenchImage(2).content;
  const Sha256 hash = IdempotencyHash("key-1", "a key of sixteen", content);
  CHECK_EQ(IdempotencyHash("key-1", "a key of sixteen", content), hash);
  CHECK_NE(IdempotencyHash("key-2", "a key of sixteen", content), hash);
  CHECK_NE(IdempotencyHash("key-1a", " key of sixteen", content),
           hash);  // no part runs into another
  CHECK_NE(IdempotencyHash("key-1", "a key of sixteen", BenchImage(3).content), hash);
}

TEST_CASE("dir_store: keys name what they were made of, and nothing else is one") {
  const ContentId content = BenchImage(2).content;
  const FileAddress file{kBlockIdMax, FileId::Of(kSequenceMax, kCookieMax)};
  const Result<PendingName> pending = ParsePendingKey(PendingKey(content, file));
  REQUIRE(pending.ok());
  CHECK_EQ(pending->content, content);
  CHECK_EQ(pending->file, file);
  const Result<DropName> drop = ParseDropKey(DropKey(file, NonceOf(3)));
  REQUIRE(drop.ok());
  CHECK_EQ(drop->file, file);
  CHECK_EQ(drop->nonce, NonceOf(3));
  CHECK_EQ(ContentKey(content).size(), 53);
  for (const std::string& key : {std::string(), PendingKey(content, file) + "x",
                                 PendingKey(content, file).substr(1), ContentKey(content)}) {
    CHECK_EQ(ParsePendingKey(key).err(), Err::kCorrupt);
    CHECK_EQ(ParseDropKey(key).err(), Err::kCorrupt);
  }
}

// Key and value; LevelDB adds some 12 bytes, and leaves out what neighbours share.
TEST_CASE("dir_store: an image that was uploaded once is one small row") {
  MemKv kv(1);
  DirRows rows(&kv);
  DirFiles files(&rows);
  const Nonce nonce = NonceOf(1);
  REQUIRE(files.Add(BenchImage(2).content, {100'000, FileId::Of(3'000, 5)}, &nonce, {}, true).ok());
  const pb::DirRecord record = rows.Take(1);
  REQUIRE_EQ(record.rows_size(), 1);
  CHECK_LE(record.rows(0).key().size() + record.rows(0).value().size(), 53 + 31);
}

TEST_CASE("dir_store: a store is initialised once, and refuses other formats and damage") {
  MemKv kv(1);
  CHECK_EQ(DirStore(&kv).Load().err(), Err::kNotFound);
  pb::DirSettings settings;
  settings.set_shards(2);
  settings.set_shard(1);
  REQUIRE_EQ(DirStore(&kv).Init(kNode, settings), Err::kOk);
  CHECK_EQ(DirStore(&kv).Init(kNode, settings), Err::kExists);
  const Result<DirState> state = DirStore(&kv).Load();
  REQUIRE(state.ok());
  CHECK_EQ(state->node, kNode);
  CHECK_EQ(state->head.settings().shard(), 1);
  const auto put_head = [&](const std::string& value) {
    const Kv::Change change{.key = "head", .value = value};
    REQUIRE_EQ(kv.Write({&change, 1}, true), Err::kOk);
  };
  pb::DirHead head = state->head;
  for (const uint32_t other : {kDirStoreFormat - 1, kDirStoreFormat + 1}) {
    head.set_format(other);
    put_head(head.SerializeAsString());
    CHECK_EQ(DirStore(&kv).Load().err(), Err::kUnsupported);
  }
  head.set_format(kDirStoreFormat);
  head.mutable_settings()->set_shard(2);  // of two
  put_head(head.SerializeAsString());
  CHECK_EQ(DirStore(&kv).Load().err(), Err::kCorrupt);
  put_head("\xff\xff");
  CHECK_EQ(DirStore(&kv).Load().err(), Err::kCorrupt);
}

TEST_CASE("dir_store: records are applied in their order, or not at all") {
  MemKv kv(1);
  DirStore store(&kv);
  pb::DirSettings settings;
  settings.set_shards(1);
  REQUIRE_EQ(store.Init(kNode, settings), Err::kOk);
  const auto record_of = [](uint64_t index, uint64_t epoch) {
    pb::DirRecord record;
    record.set_index(index);
    record.set_epoch(epoch);
    pb::DirRow* row = record.add_rows();
    row->set_key("kkey");
    row->set_value("value " + std::to_string(index));
    pb::HaRecord body;
    body.set_index(index);
    body.set_body(record.SerializeAsString());
    return body;
  };
  const pb::HaRecord first = record_of(1, 4);
  CHECK_EQ(store.Apply({&first, 1}, true), Err::kOk);
  CHECK_EQ(*kv.Get("kkey"), "value 1");
  const pb::HaRecord gap = record_of(3, 0);
  CHECK_EQ(store.Apply({&gap, 1}, true), Err::kCorrupt);
  DirStore again(&kv);
  const Result<DirState> state = again.Load();
  REQUIRE(state.ok());
  CHECK_EQ(state->head.last_index(), 1);
  CHECK_EQ(state->head.epoch(), 4);
  const pb::HaRecord older = record_of(2, 4);  // an epoch is begun once
  CHECK_EQ(again.Apply({&older, 1}, true), Err::kCorrupt);
}

// Rows that were decided hide those of the Kv until it has them, also in a scan.
TEST_CASE("dir_rows: as a map, with records on their way to the Kv") {
  SimRandom random(5);
  MemKv kv(2);
  DirRows rows(&kv);
  std::map<std::string, uint64_t> model;
  std::deque<pb::DirRecord> on_the_way;
  uint64_t index = 0;
  const auto apply = [&] {
    std::vector<Kv::Change> changes;
    for (const pb::DirRow& row : on_the_way.front().rows()) {
      changes.push_back({.key = row.key(), .value = row.value(), .remove = row.removed()});
    }
    REQUIRE_EQ(kv.Write(changes, false), Err::kOk);
    rows.Applied(on_the_way.front().index());
    on_the_way.pop_front();
  };
  for (uint64_t step = 1; step <= 3'000; ++step) {
    const std::string key = "k" + std::string(1, static_cast<char>('a' + random.Below(20)));
    pb::DirKey row;
    row.set_until_ms(step);
    if (random.Chance(60)) {
      rows.Put(key, row);
      model[key] = step;
    } else {
      rows.Remove(key);
      model.erase(key);
    }
    if (random.Chance(50)) on_the_way.push_back(rows.Take(++index));
    if (!on_the_way.empty() && random.Chance(45)) apply();
    const auto got = rows.Get<pb::DirKey>(key);
    REQUIRE(got.ok());
    CHECK_EQ(got->has_value(), model.contains(key));
    if (step % 20 != 0) continue;
    std::map<std::string, uint64_t> scanned;
    const Err err = rows.Scan("k", [&](std::string_view name, std::string_view value) {
      pb::DirKey parsed;
      REQUIRE(parsed.ParseFromString(std::string(value)));
      scanned[std::string(name)] = parsed.until_ms();
      return true;
    });
    CHECK_EQ(err, Err::kOk);
    CHECK(scanned == model);
  }
  if (rows.changed()) on_the_way.push_back(rows.Take(++index));
  while (!on_the_way.empty()) apply();
  CHECK_EQ(rows.overlaid(), 0);
}

TEST_CASE("dir_files: who takes the shared place, and whose references are counted") {
  MemKv kv(1);
  DirRows rows(&kv);
  DirFiles files(&rows);
  const ContentId content = BenchImage(2).content;
  const Nonce one = NonceOf(1), two = NonceOf(2), three = NonceOf(3);
  FileRecord first = *files.Add(content, At(1), &one, {}, true);
  REQUIRE_EQ(files.SetReference(content, two, 0, &first), Err::kOk);
  CHECK_EQ(*files.References(content, first, two), 1);
  CHECK_EQ(*files.References(content, first, three), 2);
  // Another one takes its place: what refers to the first one still does.
  REQUIRE(files.Add(content, At(2), &three, {}, true).ok());
  CHECK_EQ((*files.Shared(content))->file, At(2));
  FileRecord aside = **files.Find(content, At(1));
  CHECK_FALSE(aside.shared);
  CHECK_EQ((*files.FindReference(content, one))->file, At(1));
  CHECK_EQ(*files.References(content, aside, one), 1);
  REQUIRE_EQ(files.SetReference(content, one, 1, &aside), Err::kOk);
  REQUIRE_EQ(files.SetReference(content, one, 1, &aside), Err::kOk);
  CHECK_EQ(*files.References(content, aside, three), 1);
  REQUIRE_EQ(files.SetReference(content, one, 2, &aside), Err::kOk);
  CHECK_EQ(*files.References(content, aside, three), 2);
  // One that is adopted takes no place; its reference has a row.
  const Nonce four = NonceOf(4);
  const FileRecord adopted = *files.Add(content, At(3), &four, {}, false);
  CHECK_FALSE(adopted.shared);
  CHECK_EQ((*files.Shared(content))->file, At(2));
  CHECK_EQ((*files.FindReference(content, four))->file, At(3));
  CHECK_EQ(*files.References(content, **files.Find(content, At(3)), four), 0);
  CHECK_FALSE((*files.Find(content, At(9))).has_value());
}

// The nameserver's answer to the declaration that must be under way.
void Declare(DirCore* core, ServiceOutbox* out, uint32_t shards, Now now, Err err = Err::kOk) {
  REQUIRE_EQ(out->calls.size(), 1);
  CHECK(out->calls[0].type == MessageType::kDeclareDirectory);
  pb::DeclareDirectoryReply reply;
  reply.set_shards(shards);
  CallDone done;
  done.call_id = out->calls[0].call_id;
  done.err = err;
  done.message = reply.SerializeAsString();
  out->calls.clear();
  core->OnCallDone(std::move(done), now, out);
}

// A core whose calls and replies the test looks at.
struct LoneCore {
  MemKv kv{1};
  SimRandom random{3};
  std::unique_ptr<DirStore> store;
  std::unique_ptr<DirCore> core;
  std::vector<pb::HaRecord> log;
  ServiceOutbox out;
  Now now{.mono_ms = 1'000'000, .wall_ms = 1'600'000'000'000};

  explicit LoneCore(uint32_t shards = 1, uint64_t applied_late = 0) {
    store = std::make_unique<DirStore>(&kv);
    pb::DirSettings settings;
    settings.set_shards(shards);
    REQUIRE_EQ(store->Init(kNode, settings), Err::kOk);
    DirOptions options;
    options.dsps.nameservers = {"ns"};
    for (uint32_t i = 0; i < shards; ++i) {
      options.shards.push_back(
          {"node-" + std::to_string(2 * i), "node-" + std::to_string(2 * i + 1)});
    }
    DirState state = *store->Load();
    state.head.set_last_index(applied_late);
    core = std::make_unique<DirCore>(options, std::move(state), &kv, &random);
    core->Promote({.epoch = 1, .forced = false}, {}, now, &out);
    Declare(core.get(), &out, shards, now);
    if (applied_late == 0) Commit();
  }
  void Ask(MessageType type, const google::protobuf::MessageLite& message) {
    RpcRequest request;
    request.type = type;
    request.message = message.SerializeAsString();
    core->OnRequest(std::move(request), now, &out);
  }
  void Tick(uint64_t ms) {
    now.mono_ms += ms;
    now.wall_ms += ms;
    core->OnTick(now, &out);
  }
  void Commit() {
    for (std::string& body : std::exchange(out.records, {})) {
      pb::HaRecord record;
      record.set_index(log.size() + 1);
      record.set_body(std::move(body));
      log.push_back(std::move(record));
      REQUIRE_EQ(store->Apply({&log.back(), 1}, false), Err::kOk);
    }
    core->OnCommitted(log.size(), now, &out);
    core->OnApplied(log.size(), now, &out);
  }
  RpcReply Reply() {
    REQUIRE_EQ(out.replies.size(), 1);
    RpcReply reply = std::move(out.replies[0]);
    out.replies.clear();
    return reply;
  }
  RpcCall Call() {
    REQUIRE_EQ(out.calls.size(), 1);
    RpcCall call = std::move(out.calls[0]);
    out.calls.clear();
    return call;
  }
  void Done(const RpcCall& call, Err err) {
    CallDone done;
    done.call_id = call.call_id;
    done.err = err;
    core->OnCallDone(std::move(done), now, &out);
  }
};

TEST_CASE("directory: who was promoted answers when its rows have all that was committed before") {
  LoneCore lone(1, /*applied_late=*/5);
  pb::DirLookupRequest lookup;
  FillContent(BenchImage(2).content, lookup.add_contents());
  lone.Ask(MessageType::kDirLookup, lookup);
  CHECK_EQ(lone.Reply().err, Err::kNotServing);
  lone.core->OnApplied(4, lone.now, &lone.out);
  CHECK_FALSE(lone.core->ready());
  lone.core->OnApplied(5, lone.now, &lone.out);
  lone.Ask(MessageType::kDirLookup, lookup);
  CHECK_EQ(lone.Reply().err, Err::kOk);
}

TEST_CASE(
    "directory: what a name let go of is removed in the shard of its file, until that is done") {
  LoneCore lone(2);
  const std::string name = ShardOfName("a", 2) == 0 ? "a" : "b";
  REQUIRE_EQ(ShardOfName(name, 2), 0);
  ContentId content = BenchImage(2).content;
  content.sha1.fill(0xff);  // of the other shard
  pb::DirNamePutRequest put;
  put.set_name(name);
  put.mutable_file()->set_block_id(7);
  put.mutable_file()->set_file_id(At(1).file_id.value);
  FillContent(content, put.mutable_content());
  put.set_nonce(std::string(16, 'n'));
  put.set_token_nonce(std::string(16, 't'));
  lone.Ask(MessageType::kDirNamePut, put);
  CHECK(lone.out.replies.empty());  // not committed yet
  lone.Commit();
  pb::DirNamePutReply written;
  REQUIRE(written.ParseFromString(lone.Reply().message));
  pb::DirNameDeleteRequest remove;
  remove.set_name(name);
  remove.set_version(written.version());
  lone.Ask(MessageType::kDirNameDelete, remove);
  lone.Tick(50);
  CHECK(lone.out.calls.empty());  // what a crash could take back is not acted on
  lone.Commit();
  CHECK_EQ(lone.Reply().err, Err::kOk);
  lone.Tick(50);
  const RpcCall first = lone.Call();
  CHECK_EQ(first.address, "node-2");
  CHECK(first.type == MessageType::kDirDelete);
  pb::DirDeleteRequest asked;
  REQUIRE(asked.ParseFromString(first.message));
  CHECK_EQ(asked.nonce(), put.nonce());
  CHECK_EQ(asked.counter(), 1);
  lone.Tick(50);
  CHECK(lone.out.calls.empty());  // one at a time
  lone.Done(first, Err::kNotActive);
  CHECK_EQ(lone.core->drops(), 1);
  lone.Tick(DirCore::kReplayFirstMs);
  const RpcCall second = lone.Call();
  CHECK_EQ(second.address, "node-3");
  lone.Done(second, Err::kOk);
  CHECK_EQ(lone.core->drops(), 0);
  lone.Commit();
  CHECK_FALSE(HasRows(lone.kv, "x"));
}

TEST_CASE("directory: users' keys and deleted names go when they are old") {
  DirBench bench;
  for (int i = 2; i < 150; ++i) (void)bench.Upload(BenchImage(i), "a key of sixteen");
  pb::DirNamePutRequest put;
  put.set_name("logo");
  const PutDone done = bench.Upload(BenchImage(2));
  put.mutable_file()->set_block_id(done.address.block_id);
  put.mutable_file()->set_file_id(done.address.file_id.value);
  FillContent(BenchImage(2).content, put.mutable_content());
  put.set_nonce(std::string(AsText(done.nonce)));
  put.set_token_nonce(std::string(16, 't'));
  const auto written = bench.AskFor<pb::DirNamePutReply>(MessageType::kDirNamePut, put);
  pb::DirNameDeleteRequest remove;
  remove.set_name("logo");
  remove.set_version(written.version());
  CHECK_EQ(bench.Ask(MessageType::kDirNameDelete, remove).err, Err::kOk);
  for (int i = 0; i < 20; ++i) bench.Pass(50);
  CHECK(HasRows(bench.shard.kv(), "k"));
  CHECK(HasRows(bench.shard.kv(), "n"));
  bench.now.wall_ms += 25 * 3'600'000;
  for (int i = 0; i < 20; ++i) bench.Pass(50);
  CHECK_FALSE(HasRows(bench.shard.kv(), "k"));
  CHECK_FALSE(HasRows(bench.shard.kv(), "n"));
}

// A client chooses names and keys; whatever he chooses, each costs as any other.
TEST_CASE("dir_rows: keys that were chosen to collide cost what others do (S11)") {
  constexpr size_t kKeys = 2'000;
  constexpr size_t kBuckets = 2'357;  // that a hash table of libstdc++ has for so many
  std::vector<std::string> colliding;
  std::vector<std::string> others;
  for (size_t i = 0; colliding.size() < kKeys; ++i) {
    std::string key = NameKey("album/" + std::to_string(i));
    if (others.size() < kKeys) others.push_back(key);
    if (std::hash<std::string>()(key) % kBuckets == 0) colliding.push_back(std::move(key));
  }
  const auto fastest_us = [](const std::vector<std::string>& keys) {
    auto fastest = std::chrono::steady_clock::duration::max();
    for (int round = 0; round < 5; ++round) {
      MemKv kv(1);
      DirRows rows(&kv);
      pb::DirName row;
      const auto begun = std::chrono::steady_clock::now();
      for (const std::string& key : keys) rows.Put(key, row);
      for (const std::string& key : keys) REQUIRE(rows.Get<pb::DirName>(key)->has_value());
      fastest = std::min(fastest, std::chrono::steady_clock::now() - begun);
    }
    return std::chrono::duration<double, std::micro>(fastest).count();
  };
  CHECK_LT(fastest_us(colliding), 3 * fastest_us(others));
}

// Of an empty store, not active yet.
struct BareCore {
  BareCore(uint32_t shards, std::vector<std::string> nameservers) {
    pb::DirSettings settings;
    settings.set_shards(shards);
    REQUIRE_EQ(DirStore(&kv).Init(kNode, settings), Err::kOk);
    DirOptions options;
    options.dsps.nameservers = std::move(nameservers);
    core = std::make_unique<DirCore>(options, *DirStore(&kv).Load(), &kv, &random);
  }
  MemKv kv{1};
  SimRandom random{3};
  std::unique_ptr<DirCore> core;
};

TEST_CASE("directory: nothing is shared before a nameserver knows that there is a directory") {
  BareCore bare(4, {"ns-0", "ns-1"});
  DirCore& core = *bare.core;
  ServiceOutbox out;
  Now now{.mono_ms = 5'000, .wall_ms = 0};
  core.Promote({.epoch = 1, .forced = false}, {}, now, &out);
  CHECK_EQ(out.calls.at(0).address, "ns-0");
  Declare(&core, &out, 4, now, Err::kNotActive);
  CHECK_FALSE(core.ready());
  CHECK(out.calls.empty());
  now.mono_ms += 1'000;
  core.OnTick(now, &out);
  CHECK_EQ(out.calls.at(0).address, "ns-1");
  Declare(&core, &out, 2, now);  // the cluster's is another one
  CHECK_FALSE(core.ready());
  now.mono_ms += DirCore::kDeclareAgainMs;
  core.OnTick(now, &out);
  Declare(&core, &out, 4, now);
  CHECK(core.ready());
  now.mono_ms += DirCore::kDeclareAgainMs;  // the nameserver's store may have been made anew
  core.OnTick(now, &out);
  Declare(&core, &out, 0, now, Err::kUnavailable);
  CHECK(core.ready());
}

TEST_CASE("directory: by force, it waits for what the last active one told the dsps") {
  BareCore bare(1, {"ns"});
  DirCore& core = *bare.core;
  ServiceOutbox out;
  Now now{.mono_ms = 5'000, .wall_ms = 0};
  core.Promote({.epoch = 1, .forced = true}, {}, now, &out);
  Declare(&core, &out, 1, now);
  CHECK_FALSE(core.ready());
  now.mono_ms += DirOptions().forced_wait_ms - 1'000;
  core.OnTick(now, &out);
  CHECK_FALSE(core.ready());
  now.mono_ms += 1'000;
  core.OnTick(now, &out);
  CHECK(core.ready());
}

TEST_CASE("directory: rows of an epoch that nobody has won yet end the process, F28") {
  BareCore bare(1, {"ns"});
  pb::DirHead head;
  REQUIRE(head.ParseFromString(bare.kv.contents().at("head")));
  head.set_epoch(5);
  const Kv::Change change{.key = "head", .value = head.SerializeAsString()};
  REQUIRE_EQ(bare.kv.Write({&change, 1}, true), Err::kOk);
  for (const uint64_t epoch : {5, 6}) {
    DirOptions options;
    options.dsps.nameservers = {"ns"};
    DirCore core(options, *DirStore(&bare.kv).Load(), &bare.kv, &bare.random);
    ServiceOutbox out;
    core.Promote({.epoch = epoch, .forced = false}, {}, {}, &out);
    CHECK_EQ(out.exit.empty(), epoch == 6);
    if (epoch == 6) continue;
    CHECK_EQ(out.exit, "its rows are of epoch 5, and the one that was won is 5");
    CHECK_EQ(out.exit_err, Err::kCorrupt);
  }
}

// FAULTS F28: nothing of a damaged store is answered.
TEST_CASE("directory: a store that can't be read ends the process") {
  for (const Err err : {Err::kCorrupt, Err::kIo, Err::kBusy}) {
    BareCore bare(1, {"ns"});
    DirCore& core = *bare.core;
    ServiceOutbox out;
    core.Promote({.epoch = 1, .forced = false}, {}, {}, &out);
    REQUIRE(out.exit.empty());
    Declare(&core, &out, 1, {});
    REQUIRE(core.ready());
    bare.kv.Break(err);
    pb::DirLookupRequest lookup;
    FillContent(BenchImage(2).content, lookup.add_contents());
    RpcRequest request;
    request.type = MessageType::kDirLookup;
    request.message = lookup.SerializeAsString();
    ServiceOutbox answer;
    core.OnRequest(std::move(request), {}, &answer);
    CHECK_FALSE(answer.exit.empty());
    CHECK_EQ(answer.exit_err, err);  // a sound store whose disk fails once is never set aside
    CHECK(answer.replies.empty());
  }
}

}  // namespace
}  // namespace hayloft
