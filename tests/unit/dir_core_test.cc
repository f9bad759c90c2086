// A directory shard and the gateway's part of it, step by step. What orders of events can do to
// them is left to random walks (tests/sim/dir_walk.h), of which some run here.
#include <doctest/doctest.h>

#include "directory/dir_messages.h"
#include "tests/sim/dir_walk.h"
#include "tests/unit/dir_bench.h"

namespace hayloft {
namespace {

TEST_CASE("directory: the same image uploaded twice is stored once, with two references") {
  DirBench bench;
  const BenchImage image(2);
  const PutDone first = bench.Upload(image);
  CHECK_EQ(first.err, Err::kOk);
  CHECK_FALSE(first.duplicate);
  const PutDone second = bench.Upload(image);
  CHECK(second.duplicate);
  CHECK_EQ(second.address, first.address);
  CHECK_NE(second.nonce, first.nonce);
  CHECK_EQ(bench.files.files().size(), 1);
  // Each token removes its own reference, once; the last one deletes the file.
  CHECK_EQ(bench.Delete(first), Err::kOk);
  CHECK_EQ(bench.Delete(first), Err::kOk);
  CHECK(bench.Live(first.address));
  CHECK_EQ(bench.Delete(second), Err::kOk);
  CHECK_FALSE(bench.Live(first.address));
  CHECK_EQ(bench.shard.core().pending(), 0);
}

TEST_CASE("directory: a forged pair, and another type, are files of their own (S09)") {
  DirBench bench;
  const PutDone one = bench.Upload(BenchImage(0));
  const PutDone other = bench.Upload(BenchImage(1));
  const PutDone typed = bench.Upload(BenchImage(0, "image/gif"));
  CHECK_FALSE(other.duplicate);
  CHECK_FALSE(typed.duplicate);
  CHECK_EQ(bench.files.files().size(), 3);
  CHECK_EQ(bench.Upload(BenchImage(1)).address, other.address);
  CHECK_EQ(bench.Upload(BenchImage(0)).address, one.address);
  CHECK_EQ(bench.Upload(BenchImage(0, "image/gif")).address, typed.address);
}

TEST_CASE("directory: many uploads of a new image at once end as one file") {
  DirBench bench;
  const BenchImage image(2);
  std::vector<uint64_t> op_ids;
  for (int i = 0; i < 20; ++i) op_ids.push_back(bench.Begin(image));
  bench.Settle();
  std::set<FileAddress> addresses;
  for (const uint64_t op_id : op_ids) addresses.insert(bench.End(op_id).address);
  CHECK_EQ(addresses.size(), 1);
  bench.Pass(100);
  size_t live = 0;
  for (const auto& [address, file] : bench.files.files()) live += file.Live();
  CHECK_EQ(live, 1);
  CHECK_EQ(bench.shard.core().pending(), 0);
}

TEST_CASE("directory: uploads of one turn are looked up by one message") {
  DirBench bench;
  bench.held = MessageType::kDirLookup;
  const std::vector<uint64_t> op_ids =
      bench.BeginInOneTurn({BenchImage(2), BenchImage(3), BenchImage(4)});
  bench.Settle();
  CHECK_EQ(bench.held_now(), 1);
  bench.Release();
  for (const uint64_t op_id : op_ids) CHECK_EQ(bench.End(op_id).err, Err::kOk);
  for (const int number : {2, 3, 4}) CHECK(bench.Upload(BenchImage(number)).duplicate);
}

TEST_CASE("directory: whose file is gone from the disks is not shared (trust nothing)") {
  DirBench bench;
  const BenchImage image(2);
  const PutDone first = bench.Upload(image);
  bench.files.Remove(first.address);
  const PutDone second = bench.Upload(image);
  CHECK_FALSE(second.duplicate);
  CHECK_NE(second.address, first.address);
  CHECK(bench.Live(second.address));
  CHECK_EQ(bench.Upload(image).address, second.address);
}

TEST_CASE("directory: copies of deletes and undeletes that come late change nothing (F44, F71)") {
  DirBench bench;
  const PutDone done = bench.Upload(BenchImage(2));
  CHECK_EQ(bench.Delete(done), Err::kOk);
  CHECK_EQ(bench.Undelete(done), Err::kOk);
  CHECK(bench.Live(done.address));
  CHECK_EQ(bench.Undelete(done), Err::kOk);  // repeated
  pb::DirDeleteRequest late;                 // the value that the first delete sent
  FillContent(BenchImage(2).content, late.mutable_content());
  late.mutable_file()->set_block_id(done.address.block_id);
  late.mutable_file()->set_file_id(done.address.file_id.value);
  late.set_nonce(std::string(AsText(done.nonce)));
  late.set_counter(1);
  CHECK_EQ(bench.Ask(MessageType::kDirDelete, late).err, Err::kOk);
  CHECK(bench.Live(done.address));
  CHECK_EQ(bench.Delete(done), Err::kOk);
  late.set_counter(2);  // what the first undelete sent
  CHECK_EQ(bench.Ask(MessageType::kDirUndelete, late).err, Err::kOk);
  CHECK_FALSE(bench.Live(done.address));
  CHECK_EQ(bench.shard.core().pending(), 0);
  CHECK_FALSE(bench.Upload(BenchImage(2)).duplicate);
}

TEST_CASE("directory: a delete of a file that there never was is not found (F44)") {
  DirBench bench;
  PutDone never = bench.Upload(BenchImage(2));
  never.address.file_id.value += 1'000;
  CHECK_EQ(bench.Delete(never), Err::kNotFound);
  CHECK_EQ(bench.Undelete(never), Err::kNotFound);
}

TEST_CASE("directory: an undelete that comes after the purge is taken back") {
  DirBench bench;
  const PutDone done = bench.Upload(BenchImage(2));
  CHECK_EQ(bench.Delete(done), Err::kOk);
  bench.files.files().at(done.address).purged = true;
  pb::DirUndeleteRequest undelete;
  FillContent(BenchImage(2).content, undelete.mutable_content());
  undelete.mutable_file()->set_block_id(done.address.block_id);
  undelete.mutable_file()->set_file_id(done.address.file_id.value);
  undelete.set_nonce(std::string(AsText(done.nonce)));
  undelete.set_counter(2);
  CHECK_EQ(bench.Ask(MessageType::kDirUndelete, undelete).err, Err::kGone);
  CHECK_EQ(bench.shard.core().pending(), 0);
  CHECK_FALSE(bench.Upload(BenchImage(2)).duplicate);
}

TEST_CASE("directory: a crash takes an insert that was answered: the file is adopted (F11, F46)") {
  DirBench bench;
  const BenchImage image(2);
  bench.commits = false;
  const PutDone done = bench.Upload(image);
  CHECK_EQ(done.err, Err::kOk);  // it did not wait for the log
  bench.Restart();
  bench.commits = true;
  CHECK_FALSE(bench.shard.Look(image.content, done.address).present);
  pb::DirAdoptRequest adopt;
  adopt.add_files()->set_block_id(done.address.block_id);
  adopt.mutable_files(0)->set_file_id(done.address.file_id.value);
  FillContent(image.content, adopt.add_contents());
  const auto reply = bench.AskFor<pb::DirAdoptReply>(MessageType::kDirAdopt, adopt);
  CHECK(reply.files(0).adopted());
  CHECK_FALSE(reply.files(0).pinned());
  CHECK_EQ(bench.Upload(image).address, done.address);
  CHECK_EQ(bench.Delete(done), Err::kOk);
  CHECK(bench.Live(done.address));  // the second upload has it
}

TEST_CASE("directory: a right token of a file without a record deletes it") {
  DirBench bench;
  bench.commits = false;
  const PutDone done = bench.Upload(BenchImage(2));
  bench.Restart();
  bench.commits = true;
  CHECK_EQ(bench.Delete(done), Err::kOk);
  CHECK_FALSE(bench.Live(done.address));
  CHECK_EQ(bench.Undelete(done), Err::kOk);
  CHECK(bench.Live(done.address));
}

TEST_CASE("directory: an insert waits for company, what an answer rests on is in a hurry") {
  DirBench bench;
  bench.Settle();
  bench.commits = false;
  const BenchImage image(2);
  const PutDone first = bench.Upload(image);
  CHECK_EQ(first.err, Err::kOk);
  CHECK_GT(bench.shard.logged(), bench.shard.committed());
  CHECK_FALSE(bench.shard.hurried());
  // It rests on the insert, too.
  const uint64_t second = bench.Begin(image);
  bench.Settle();
  CHECK(bench.shard.hurried());
  CHECK_FALSE(bench.puts.contains(second));
  bench.commits = true;
  CHECK_EQ(bench.End(second).address, first.address);
  CHECK_FALSE(bench.shard.hurried());
}

TEST_CASE("directory: a hit is answered when its record is safe, not before") {
  DirBench bench;
  const BenchImage image(2);
  (void)bench.Upload(image);
  bench.commits = false;
  const uint64_t op_id = bench.Begin(image);
  bench.Settle();
  CHECK_FALSE(bench.puts.contains(op_id));
  bench.commits = true;
  CHECK(bench.End(op_id).duplicate);
}

// A delete or undelete whose record is safe when the shard crashes, and of which the dsps have
// heard nothing.
void CrashAmid(DirBench* bench, const PutDone& done, uint32_t counter) {
  pb::DirDeleteRequest message;  // an undelete has the same fields
  FillContent(BenchImage(2).content, message.mutable_content());
  message.mutable_file()->set_block_id(done.address.block_id);
  message.mutable_file()->set_file_id(done.address.file_id.value);
  message.set_nonce(std::string(AsText(done.nonce)));
  message.set_counter(counter);
  bench->commits = false;
  RpcRequest request;
  request.type = IsRemoved(counter) ? MessageType::kDirDelete : MessageType::kDirUndelete;
  request.message = message.SerializeAsString();
  bench->shard.OnRequest(std::move(request), bench->now);
  bench->Settle();
  REQUIRE_EQ(bench->shard.core().pending(), 1);
  CHECK_EQ(bench->Live(done.address), IsRemoved(counter));
  bench->Restart(/*with_tail=*/true);
  bench->commits = true;
  bench->Pass(100);
  bench->Pass(100);
  CHECK_EQ(bench->shard.core().pending(), 0);
}

TEST_CASE("directory: what was dying when the shard crashed dies after it (F11)") {
  DirBench bench;
  const PutDone done = bench.Upload(BenchImage(2));
  CrashAmid(&bench, done, 1);
  CHECK_FALSE(bench.Live(done.address));
  CHECK_FALSE(bench.Upload(BenchImage(2)).duplicate);
}

TEST_CASE("directory: what was reviving when the shard crashed lives after it (F72)") {
  DirBench bench;
  const PutDone done = bench.Upload(BenchImage(2));
  REQUIRE_EQ(bench.Delete(done), Err::kOk);
  CrashAmid(&bench, done, 2);
  CHECK(bench.Live(done.address));
  CHECK_EQ(bench.Upload(BenchImage(2)).address, done.address);
}

TEST_CASE("directory: uploads go on unchecked while the shard is down, deletes don't") {
  DirBench bench;
  const PutDone before = bench.Upload(BenchImage(2));
  bench.Crash();
  const PutDone alone = bench.Upload(BenchImage(2));
  CHECK_EQ(alone.err, Err::kOk);
  CHECK(alone.unchecked);
  CHECK_FALSE(alone.duplicate);
  CHECK_EQ(bench.Upload(BenchImage(3), "a key of sixteen").err, Err::kUnavailable);
  CHECK_EQ(bench.Delete(before), Err::kUnavailable);
  CHECK(bench.Live(before.address));
  bench.Restart();
  bench.Pass(2'000);
  CHECK(bench.Upload(BenchImage(2)).duplicate);
  CHECK_EQ(bench.Delete(alone), Err::kOk);
  CHECK_FALSE(bench.Live(alone.address));
}

TEST_CASE("directory: a shard that was down is asked again though uploads never cease") {
  DirBench bench;
  (void)bench.Upload(BenchImage(2));
  bench.Crash();
  CHECK(bench.Upload(BenchImage(2)).unchecked);
  bench.Restart();
  int unchecked = 0;
  for (int i = 0; i < 30; ++i) {
    unchecked += bench.Upload(BenchImage(2)).unchecked ? 1 : 0;
    bench.Pass(100);
  }
  CHECK_LE(unchecked, 10);  // those of the first second
  CHECK(bench.Upload(BenchImage(2)).duplicate);
}

// A client has better things to do than to wait for what is not going to come.
TEST_CASE("directory: deletes and names wait a second for a shard that is gone, or three") {
  DirBench bench;
  const PutDone done = bench.Upload(BenchImage(2));
  pb::DirNameGetRequest get;
  get.set_name("logo");
  const auto refused_after_ms = [&](const auto& ask, Err wanted) {
    const uint64_t begun_ms = bench.now.mono_ms;
    CHECK_EQ(ask(), wanted);
    return bench.now.mono_ms - begun_ms;
  };
  const auto remove = [&] { return bench.Delete(done); };
  const auto name = [&] { return bench.Ask(MessageType::kDirNameGet, get).err; };
  bench.refusal = Err::kNotActive;  // the standby of a dead one: it may take over any moment
  CHECK_EQ(refused_after_ms(remove, Err::kNotActive), doctest::Approx(3'000).epsilon(0.05));
  CHECK_EQ(refused_after_ms(name, Err::kNotActive), doctest::Approx(3'000).epsilon(0.05));
  bench.refusal = Err::kOk;
  bench.Crash();
  CHECK_EQ(refused_after_ms(remove, Err::kUnavailable), doctest::Approx(1'000).epsilon(0.1));
  CHECK_EQ(refused_after_ms(name, Err::kUnavailable), doctest::Approx(1'000).epsilon(0.1));
  bench.Restart();
  bench.lost = MessageType::kDirNameGet;  // it hangs
  CHECK_EQ(refused_after_ms(name, Err::kTimeout), doctest::Approx(1'000).epsilon(0.1));
  bench.lost = MessageType::kPing;
  CHECK_EQ(bench.Ask(MessageType::kDirNameGet, get).err, Err::kNotFound);
  CHECK_EQ(bench.Delete(done), Err::kOk);
}

TEST_CASE("directory: a shard that is slow holds an upload up for half a second") {
  DirBench bench;
  bench.lost = MessageType::kDirLookup;
  const uint64_t begun_ms = bench.now.mono_ms;
  const PutDone slow = bench.Upload(BenchImage(2));
  CHECK(slow.unchecked);
  CHECK_GE(bench.now.mono_ms - begun_ms, 500);
  CHECK_LE(bench.now.mono_ms - begun_ms, 600);
  const uint64_t next_ms = bench.now.mono_ms;
  CHECK(bench.Upload(BenchImage(2)).unchecked);  // the next one is not held up
  CHECK_LE(bench.now.mono_ms - next_ms, 20);
}

TEST_CASE("directory: an insert without an answer: another file, under another nonce (F71)") {
  DirBench bench;
  const BenchImage image(2);
  bench.lost = MessageType::kDirUpload;
  const PutDone done = bench.Upload(image);
  CHECK_EQ(done.err, Err::kOk);
  CHECK(done.unchecked);
  CHECK_EQ(bench.files.files().size(), 2);
  const SimFile* file = bench.files.Find(done.address);
  REQUIRE(file != nullptr);
  CHECK_EQ(file->nonce, done.nonce);
  // The insert arrives after all. What it records nobody has a token of, and nothing more.
  bench.lost = MessageType::kPing;
  bench.DeliverLost();
  CHECK_EQ(bench.shard.core().metrics().inserts_total.value(), 1);
  CHECK(bench.Live(done.address));
  CHECK_EQ(bench.Delete(done), Err::kOk);
  CHECK_FALSE(bench.Live(done.address));
  bench.Pass(2'000);  // then the gateway asks again
  const PutDone next = bench.Upload(image);
  CHECK(next.duplicate);
  CHECK(bench.Live(next.address));
}

TEST_CASE("directory: an insert that arrives in another epoch records nothing (F71)") {
  DirBench bench;
  bench.lost = MessageType::kDirUpload;
  const PutDone done = bench.Upload(BenchImage(2));
  bench.lost = MessageType::kPing;
  bench.Restart();
  bench.DeliverLost();
  CHECK_EQ(bench.shard.core().metrics().inserts_total.value(), 0);
  bench.Pass(2'000);
  CHECK_FALSE(bench.Upload(BenchImage(2)).duplicate);
  CHECK(bench.Live(done.address));
}

TEST_CASE("directory: an upload that is sent again with its key gets the same answer") {
  DirBench bench;
  const BenchImage image(2);
  const PutDone first = bench.Upload(image, "a key of sixteen");
  const PutDone again = bench.Upload(image, "a key of sixteen");
  CHECK_EQ(again.address, first.address);
  CHECK_EQ(again.nonce, first.nonce);
  CHECK_EQ(bench.Delete(first), Err::kOk);
  CHECK_FALSE(bench.Live(first.address));
  // That reference is gone, so the key means nothing any more.
  CHECK_NE(bench.Upload(image, "a key of sixteen").nonce, first.nonce);
  const PutDone other = bench.Upload(BenchImage(3), "a key of sixteen");
  CHECK_EQ(other.err, Err::kOk);
  bench.now.wall_ms += 25 * 3'600'000;
  CHECK_NE(bench.Upload(BenchImage(3), "a key of sixteen").nonce, other.nonce);
}

TEST_CASE("directory: a key's answer stands though no dsp is sure of its file") {
  DirBench bench;
  const BenchImage image(2);
  const PutDone first = bench.Upload(image, "a key of sixteen");
  bench.files.doubtful = true;
  const PutDone again = bench.Upload(image, "a key of sixteen");
  CHECK_EQ(again.err, Err::kOk);
  CHECK_EQ(again.address, first.address);
  CHECK_EQ(again.nonce, first.nonce);
}

TEST_CASE("directory: dsps that are slow hold a hit up for half a second, as a slow shard would") {
  DirBench bench;
  const BenchImage image(2);
  const PutDone first = bench.Upload(image);
  bench.lost = MessageType::kRead;
  const uint64_t begun_ms = bench.now.mono_ms;
  const PutDone slow = bench.Upload(image);
  CHECK_EQ(slow.err, Err::kOk);
  CHECK_NE(slow.address, first.address);
  CHECK_GE(bench.now.mono_ms - begun_ms, 400);
  CHECK_LE(bench.now.mono_ms - begun_ms, 600);
}

TEST_CASE("directory: contents with the same SHA-1 and the same nonce have a reference each") {
  DirBench bench;
  const PutDone one = bench.Upload(BenchImage(0));
  const PutDone second = bench.Upload(BenchImage(0));  // its reference has a row of its own
  CHECK(second.duplicate);
  pb::DirUploadRequest message;
  pb::DirUpload* upload = message.add_uploads();
  FillContent(BenchImage(1).content, upload->mutable_content());
  upload->set_nonce(std::string(AsText(second.nonce)));
  upload->set_epoch(1);
  const FileAddress other{one.address.block_id, FileId::Of(4'000, 1)};
  FillFile(other, upload->mutable_own());
  const auto reply = bench.AskFor<pb::DirUploadReply>(MessageType::kDirUpload, message);
  CHECK_EQ(reply.uploads(0).verdict(), pb::DIR_RECORDED);
  CHECK_EQ(bench.Delete(second), Err::kOk);
  CHECK_EQ(bench.shard.Look(BenchImage(0).content, one.address).references.at(second.nonce), 1);
  CHECK_EQ(bench.shard.Look(BenchImage(1).content, other).references.at(second.nonce), 0);
  CHECK_EQ(bench.shard.exit(), "");
  CHECK(bench.Upload(BenchImage(0)).duplicate);
}

TEST_CASE("directory: pending entries are finished one after the other, not some a tick") {
  DirBench bench;
  const BenchImage image(2);
  const PutDone done = bench.Upload(image);
  pb::DirUploadRequest message;
  for (uint32_t i = 0; i < 200; ++i) {  // of files that are not there: there is nothing to delete
    pb::DirUpload* upload = message.add_uploads();
    FillContent(image.content, upload->mutable_content());
    upload->set_nonce(std::string(12, 'n') + std::to_string(1'000 + i));
    upload->set_epoch(1);
    FillFile(done.address, upload->mutable_file());
    FillFile({done.address.block_id, FileId::Of(4'000 + i, 1)}, upload->mutable_own());
  }
  CHECK_EQ(bench.Ask(MessageType::kDirUpload, message).err, Err::kOk);
  REQUIRE_EQ(bench.shard.core().pending(), 200);
  bench.Pass(10);
  CHECK_EQ(bench.shard.core().pending(), 0);
}

TEST_CASE("directory: a takedown deletes whoever refers to it; only an administrator undoes it") {
  DirBench bench;
  const BenchImage image(2);
  const PutDone first = bench.Upload(image);
  (void)bench.Upload(image);
  pb::DirDeleteRequest message;
  FillContent(image.content, message.mutable_content());
  message.mutable_file()->set_block_id(first.address.block_id);
  message.mutable_file()->set_file_id(first.address.file_id.value);
  message.set_takedown(true);
  CHECK_EQ(bench.Ask(MessageType::kDirDelete, message).err, Err::kOk);
  CHECK_FALSE(bench.Live(first.address));
  CHECK_EQ(bench.Undelete(first), Err::kGone);
  CHECK_FALSE(bench.Upload(image).duplicate);
  CHECK_EQ(bench.Ask(MessageType::kDirUndelete, message).err, Err::kOk);
  CHECK(bench.Live(first.address));
}

// The dsps were asked before the file lost against another one: what they said is not so any more.
TEST_CASE("directory: an undelete rests on no look at the file from before it was to die") {
  DirBench bench;
  const BenchImage image(2);
  bench.commits = false;
  const PutDone loser = bench.Upload(image);
  bench.Restart();
  bench.commits = true;
  REQUIRE_FALSE(bench.shard.Look(image.content, loser.address).present);
  const PutDone winner = bench.Upload(image);
  REQUIRE_NE(winner.address, loser.address);
  pb::DirUndeleteRequest undelete;
  FillContent(image.content, undelete.mutable_content());
  FillFile(loser.address, undelete.mutable_file());
  undelete.set_nonce(std::string(AsText(loser.nonce)));
  undelete.set_counter(2);
  bench.held = MessageType::kStat;
  bench.Tell(MessageType::kDirUndelete, undelete);
  pb::DirUploadRequest message;
  pb::DirUpload* lose = message.add_uploads();
  FillContent(image.content, lose->mutable_content());
  lose->set_nonce(std::string(16, 'n'));
  lose->set_epoch(2);
  FillFile(winner.address, lose->mutable_file());
  FillFile(loser.address, lose->mutable_own());
  const auto reply = bench.AskFor<pb::DirUploadReply>(MessageType::kDirUpload, message);
  REQUIRE_EQ(reply.uploads(0).verdict(), pb::DIR_RECORDED);
  bench.Release();
  bench.Pass(100);
  CHECK(bench.shard.Look(image.content, loser.address).present);
  CHECK(bench.Live(loser.address));  // the undelete was the last word
}

TEST_CASE("directory: a takedown that comes to nothing takes nothing from the owners") {
  DirBench bench;
  const BenchImage image(2);
  const PutDone done = bench.Upload(image);
  pb::DirDeleteRequest message;
  FillContent(image.content, message.mutable_content());
  FillFile(done.address, message.mutable_file());
  message.set_takedown(true);
  bench.files.down = true;
  bench.Tell(MessageType::kDirDelete, message);
  for (int i = 0; i < 600; ++i) bench.Pass(10);  // longer than the shard tries
  bench.files.down = false;
  CHECK(bench.Live(done.address));
  CHECK_EQ(bench.Delete(done), Err::kOk);
  CHECK_EQ(bench.Undelete(done), Err::kOk);
  CHECK(bench.Live(done.address));
}

TEST_CASE("directory: a takedown of a deleted file without a record keeps its owner from it") {
  DirBench bench;
  const BenchImage image(2);
  bench.commits = false;
  const PutDone done = bench.Upload(image);
  bench.Restart();
  bench.commits = true;
  bench.files.files().at(done.address).counter = 1;
  pb::DirDeleteRequest message;
  FillContent(image.content, message.mutable_content());
  FillFile(done.address, message.mutable_file());
  message.set_takedown(true);
  CHECK_EQ(bench.Ask(MessageType::kDirDelete, message).err, Err::kOk);
  CHECK_EQ(bench.Undelete(done), Err::kGone);
  CHECK_FALSE(bench.Live(done.address));
}

TEST_CASE("directory: a shard that lost records pins; unpinned, a file goes with its last token") {
  DirBench bench;
  const BenchImage image(2);
  const PutDone done = bench.Upload(image);
  const PutDone second = bench.Upload(image);
  bench.Crash();
  bench.shard.Rebuild(bench.now);
  bench.Settle();
  pb::DirAdoptRequest adopt;
  adopt.add_files()->set_block_id(done.address.block_id);
  adopt.mutable_files(0)->set_file_id(done.address.file_id.value);
  FillContent(image.content, adopt.add_contents());
  const auto reply = bench.AskFor<pb::DirAdoptReply>(MessageType::kDirAdopt, adopt);
  CHECK(reply.files(0).pinned());
  const auto count_pinned = [&] {
    for (int i = 0; i < 10; ++i) bench.Pass(50);
    return bench.shard.core().pinned();
  };
  CHECK_EQ(count_pinned(), 1);
  CHECK_EQ(bench.Delete(done), Err::kOk);
  CHECK_EQ(bench.Delete(second), Err::kOk);  // a right token, of a reference that was lost
  CHECK(bench.Live(done.address));
  pb::DirPinRequest unpin;
  *unpin.mutable_files() = adopt.files();
  *unpin.mutable_contents() = adopt.contents();
  const auto unpinned = bench.AskFor<pb::DirPinReply>(MessageType::kDirPin, unpin);
  CHECK_EQ(unpinned.changed(), 1);
  CHECK_EQ(count_pinned(), 0);
  CHECK_FALSE(bench.Live(done.address));
}

TEST_CASE("directory: a name is written by version, and lets go of the file before") {
  DirBench bench;
  const PutDone one = bench.Upload(BenchImage(2));
  const PutDone two = bench.Upload(BenchImage(3));
  pb::DirNamePutRequest put;
  put.set_name("logo");
  const auto refer = [&](const PutDone& done, int image) {
    put.mutable_file()->set_block_id(done.address.block_id);
    put.mutable_file()->set_file_id(done.address.file_id.value);
    FillContent(BenchImage(image).content, put.mutable_content());
    put.set_nonce(std::string(AsText(done.nonce)));
    put.set_token_nonce(std::string(16, 't'));
  };
  refer(one, 2);
  const auto first = bench.AskFor<pb::DirNamePutReply>(MessageType::kDirNamePut, put);
  CHECK_EQ(bench.AskFor<pb::DirNamePutReply>(MessageType::kDirNamePut, put).version(),
           first.version());  // sent again
  refer(two, 3);
  CHECK_EQ(bench.Ask(MessageType::kDirNamePut, put).err, Err::kExists);  // it is there now
  put.set_version(first.version());
  CHECK_EQ(bench.Ask(MessageType::kDirNamePut, put).err, Err::kOk);
  bench.Pass(100);
  bench.Pass(100);
  CHECK_EQ(bench.shard.core().drops(), 0);
  CHECK_FALSE(bench.Live(one.address));
  pb::DirNameListRequest list;
  list.set_prefix("lo");
  list.set_limit(10);
  const auto listed = bench.AskFor<pb::DirNameListReply>(MessageType::kDirNameList, list);
  REQUIRE_EQ(listed.names_size(), 1);
  CHECK_EQ(listed.names(0).file().file_id(), two.address.file_id.value);
  pb::DirNameGetRequest get;
  get.set_name("logo");
  const auto got = bench.AskFor<pb::DirNameGetReply>(MessageType::kDirNameGet, get);
  pb::DirNameDeleteRequest remove;
  remove.set_name("logo");
  remove.set_version(first.version());
  CHECK_EQ(bench.Ask(MessageType::kDirNameDelete, remove).err, Err::kExists);
  remove.set_version(got.version());
  CHECK_EQ(bench.Ask(MessageType::kDirNameDelete, remove).err, Err::kOk);
  CHECK_EQ(bench.Ask(MessageType::kDirNameGet, get).err, Err::kNotFound);
  put.set_version(got.version());  // a late write of it
  CHECK_EQ(bench.Ask(MessageType::kDirNamePut, put).err, Err::kExists);
  bench.Pass(100);
  CHECK_FALSE(bench.Live(two.address));
}

// The name is another file's, and the shard crashes before the old one's reference is gone.
TEST_CASE("directory: what a name let go of is removed after a crash, too (F72)") {
  DirBench bench;
  const PutDone one = bench.Upload(BenchImage(2));
  const PutDone two = bench.Upload(BenchImage(3));
  pb::DirNamePutRequest put;
  put.set_name("logo");
  put.set_token_nonce(std::string(16, 't'));
  const auto refer = [&](const PutDone& done, int image) {
    put.mutable_file()->set_block_id(done.address.block_id);
    put.mutable_file()->set_file_id(done.address.file_id.value);
    FillContent(BenchImage(image).content, put.mutable_content());
    put.set_nonce(std::string(AsText(done.nonce)));
  };
  refer(one, 2);
  put.set_version(bench.AskFor<pb::DirNamePutReply>(MessageType::kDirNamePut, put).version());
  refer(two, 3);
  REQUIRE_EQ(bench.Ask(MessageType::kDirNamePut, put).err, Err::kOk);
  REQUIRE_EQ(bench.shard.core().drops(), 1);
  bench.Restart();
  CHECK_EQ(bench.shard.core().drops(), 1);
  CHECK(bench.Live(one.address));
  bench.Pass(100);
  bench.Pass(100);
  CHECK_EQ(bench.shard.core().drops(), 0);
  CHECK_FALSE(bench.Live(one.address));
  CHECK(bench.Live(two.address));
}

TEST_CASE("directory: malformed requests are refused whole") {
  DirBench bench;
  pb::DirLookupRequest lookup;
  lookup.add_contents()->set_sha1("short");
  CHECK_EQ(bench.Ask(MessageType::kDirLookup, lookup).err, Err::kInvalid);
  pb::DirUploadRequest upload;
  FillContent(BenchImage(2).content, upload.add_uploads()->mutable_content());
  CHECK_EQ(bench.Ask(MessageType::kDirUpload, upload).err, Err::kInvalid);
  upload.mutable_uploads(0)->set_nonce(std::string(16, 'n'));
  CHECK_EQ(bench.Ask(MessageType::kDirUpload, upload).err, Err::kInvalid);  // neither file nor own
  pb::DirNameGetRequest name;
  name.set_name(std::string(kNameBytesMax + 1, 'x'));
  CHECK_EQ(bench.Ask(MessageType::kDirNameGet, name).err, Err::kInvalid);
  pb::DirDeleteRequest even;
  FillContent(BenchImage(2).content, even.mutable_content());
  even.mutable_file()->set_block_id(7);
  even.set_nonce(std::string(16, 'n'));
  even.set_counter(2);
  CHECK_EQ(bench.Ask(MessageType::kDirDelete, even).err, Err::kInvalid);
}

TEST_CASE("directory: random walks, the same seed twice") {
  DirWalkResult all;
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    SimTrace trace(false);
    const DirWalkResult one = WalkDirectory(seed, &trace);
    REQUIRE_MESSAGE(!trace.failed(), trace.failures()[0]);
    all.stored += one.stored;
    all.duplicates += one.duplicates;
    all.deletes += one.deletes;
    all.unchecked += one.unchecked;
    all.purges += one.purges;
    if (seed > 10) continue;
    SimTrace again(false);
    (void)WalkDirectory(seed, &again);
    CHECK_EQ(again.digest(), trace.digest());
  }
  CHECK_GT(all.stored, 500);
  CHECK_GT(all.duplicates, 300);
  CHECK_GT(all.deletes, 100);
  CHECK_GT(all.unchecked, 50);
  CHECK_GT(all.purges, 100);
}

}  // namespace
}  // namespace hayloft
