// What becomes of a shard's records in the long run: pinned, unpinned, adopted, forgotten.
#include <doctest/doctest.h>

#include "directory/dir_messages.h"
#include "tests/unit/dir_bench.h"

namespace hayloft {
namespace {

// What was pinned, and referred to by nobody any more.
struct PinnedBench : DirBench {
  BenchImage image{2};
  PutDone done;
  pb::DirPinRequest unpin;
  PinnedBench() {
    done = Upload(image);
    Crash();
    shard.Rebuild(now);
    Settle();
    pb::DirAdoptRequest adopt;
    FillFile(done.address, adopt.add_files());
    FillContent(image.content, adopt.add_contents());
    CHECK(AskFor<pb::DirAdoptReply>(MessageType::kDirAdopt, adopt).files(0).pinned());
    CHECK_EQ(Delete(done), Err::kOk);
    CHECK(Live(done.address));
    *unpin.mutable_files() = adopt.files();
    *unpin.mutable_contents() = adopt.contents();
  }
};

TEST_CASE("directory: an unpin is answered once what nobody refers to is deleted") {
  PinnedBench bench;
  bench.files.down = true;
  auto reply = bench.AskFor<pb::DirPinReply>(MessageType::kDirPin, bench.unpin);
  CHECK_EQ(reply.changed(), 0);
  CHECK_EQ(reply.failed(), 1);
  CHECK(bench.Live(bench.done.address));
  bench.files.down = false;
  reply = bench.AskFor<pb::DirPinReply>(MessageType::kDirPin, bench.unpin);
  CHECK_EQ(reply.changed(), 1);
  CHECK_EQ(reply.failed(), 0);
  CHECK_FALSE(bench.Live(bench.done.address));
  CHECK_EQ(bench.AskFor<pb::DirPinReply>(MessageType::kDirPin, bench.unpin).changed(), 0);
}

TEST_CASE("directory: a crash after an unpin was recorded loses nothing of its delete") {
  PinnedBench bench;
  bench.held = MessageType::kSetDelete;  // the dsps have not heard of it
  bench.Tell(MessageType::kDirPin, bench.unpin);
  REQUIRE_EQ(bench.shard.core().pending(), 1);
  bench.Restart();
  bench.held = MessageType::kPing;
  bench.Pass(100);
  CHECK_FALSE(bench.Live(bench.done.address));
  CHECK_EQ(bench.shard.core().pending(), 0);
}

TEST_CASE("directory: all that is pinned is found page by page, whatever block it lies in") {
  DirBench bench;
  for (int i = 2; i < 302; ++i) CHECK_EQ(bench.Upload(BenchImage(i)).err, Err::kOk);
  bench.Crash();
  pb::DirAdoptRequest adopt;
  for (int i = 2; i < 6; ++i) {  // second files of some contents
    const PutDone done = bench.Upload(BenchImage(i));
    REQUIRE(done.unchecked);
    FillFile(done.address, adopt.add_files());
    FillContent(BenchImage(i).content, adopt.add_contents());
  }
  bench.shard.Start(bench.shard.committed(), /*forced=*/true, bench.now);
  bench.Pass(2'000);
  CHECK(bench.AskFor<pb::DirAdoptReply>(MessageType::kDirAdopt, adopt).files(3).adopted());
  pb::DirPinRequest unpin;
  uint64_t unpinned = 0, pages = 0;
  do {
    const auto reply = bench.AskFor<pb::DirPinReply>(MessageType::kDirPin, unpin);
    CHECK_EQ(reply.failed(), 0);
    unpinned += reply.changed();
    unpin.set_from(reply.next());
    REQUIRE_LT(++pages, 10);
  } while (!unpin.from().empty());
  CHECK_EQ(unpinned, 304);
  CHECK_EQ(bench.AskFor<pb::DirPinReply>(MessageType::kDirPin, unpin).changed(), 0);
  for (const auto& [file, stored] : bench.files.files()) CHECK(stored.Live());  // all are held
  unpin.set_from("x");
  CHECK_EQ(bench.Ask(MessageType::kDirPin, unpin).err, Err::kInvalid);
}

// A look-up of the epoch before, so that the insert is an adoption.
TEST_CASE("directory: an adoption writes the upload's Idempotency-Key, too") {
  DirBench bench;
  const BenchImage image(2);
  const std::string key = "a key of sixteen";
  bench.held = MessageType::kDirUpload;
  const uint64_t op_id = bench.Begin(image, key);
  bench.Settle();
  bench.Restart();
  SUBCASE("its answer was lost: it is the one of the next upload under the key") {
    bench.Release();
    const PutDone first = bench.End(op_id);
    REQUIRE_EQ(first.err, Err::kOk);
    const PutDone again = bench.Upload(image, key);
    CHECK_EQ(again.address, first.address);
    CHECK_EQ(again.nonce, first.nonce);
  }
  SUBCASE("the key has been answered with another file: that is the answer") {
    bench.Release(MessageType::kDirAdopt);
    const PutDone other = bench.Upload(image, key);
    REQUIRE_EQ(other.err, Err::kOk);
    bench.Release();
    const PutDone first = bench.End(op_id);
    CHECK_EQ(first.address, other.address);
    CHECK_EQ(first.nonce, other.nonce);
    for (const auto& [file, stored] : bench.files.files()) {
      CHECK_EQ(bench.shard.Look(image.content, file).present, file == other.address);
    }
  }
}

// Rows of files and references.
size_t RowsOf(const DirBench& bench) {
  size_t rows = 0;
  for (const std::string prefix : {"c", "f", "a"}) {
    const Err err = bench.shard.kv().Scan(prefix, [&](auto, auto) { return ++rows > 0; });
    CHECK_EQ(err, Err::kOk);
  }
  return rows;
}

void PassDays(DirBench* bench, uint64_t days) {
  bench->Pass(days * 24 * 3'600'000);
  for (int i = 0; i < 20; ++i) bench->Pass(50);
}

TEST_CASE("directory: what has been deleted for longer than the trash time is forgotten") {
  DirBench bench;
  const BenchImage image(2);
  PutDone last;
  for (int i = 0; i < 10; ++i) {
    const PutDone first = bench.Upload(image);
    last = bench.Upload(image);
    REQUIRE_EQ(last.address, first.address);
    CHECK_EQ(bench.Delete(first), Err::kOk);
    CHECK_EQ(bench.Delete(last), Err::kOk);
  }
  PassDays(&bench, 1);
  CHECK_EQ(RowsOf(bench), 29);  // 10 files, 20 references, of which one is in its file's row
  PassDays(&bench, 8);
  PassDays(&bench, 1);  // the content's row is the last to go
  PassDays(&bench, 8);
  CHECK_EQ(RowsOf(bench), 0);
  // To those who have its tokens it is what it was.
  CHECK_EQ(bench.Delete(last), Err::kOk);
  CHECK_EQ(bench.Undelete(last), Err::kOk);
  CHECK(bench.Live(last.address));
  CHECK_EQ(bench.Delete(last), Err::kOk);
  CHECK_FALSE(bench.Live(last.address));
  CHECK_FALSE(bench.Upload(image).duplicate);
}

TEST_CASE("directory: removed references of a file that lives are forgotten, it is not") {
  DirBench bench;
  const BenchImage image(2);
  const PutDone kept = bench.Upload(image);
  for (int i = 0; i < 10; ++i) CHECK_EQ(bench.Delete(bench.Upload(image)), Err::kOk);
  const PutDone back = bench.Upload(image);
  CHECK_EQ(bench.Delete(back), Err::kOk);
  PassDays(&bench, 5);
  CHECK_EQ(bench.Undelete(back), Err::kOk);
  PassDays(&bench, 8);
  CHECK_EQ(RowsOf(bench), 2);  // the file with its first reference, and the one that came back
  CHECK_EQ(bench.Delete(kept), Err::kOk);
  CHECK(bench.Live(kept.address));
  CHECK_EQ(bench.Delete(back), Err::kOk);
  CHECK_FALSE(bench.Live(kept.address));
}

TEST_CASE("directory: neither a takedown nor a file that was dead before is forgotten early") {
  DirBench bench;
  const PutDone down = bench.Upload(BenchImage(2));
  const PutDone done = bench.Upload(BenchImage(3));
  pb::DirDeleteRequest message;
  FillContent(BenchImage(2).content, message.mutable_content());
  FillFile(down.address, message.mutable_file());
  message.set_takedown(true);
  CHECK_EQ(bench.Ask(MessageType::kDirDelete, message).err, Err::kOk);
  CHECK_EQ(bench.Delete(done), Err::kOk);
  PassDays(&bench, 6);
  CHECK_EQ(bench.Undelete(done), Err::kOk);
  CHECK_EQ(bench.Delete(done), Err::kOk);
  PassDays(&bench, 6);
  CHECK(bench.shard.Look(BenchImage(3).content, done.address).present);
  PassDays(&bench, 30);
  CHECK_FALSE(bench.shard.Look(BenchImage(3).content, done.address).present);
  CHECK_EQ(bench.Undelete(down), Err::kGone);
}

TEST_CASE(
    "directory: what is another shard's is no malformed request, but a wrong list of shards") {
  DirBench bench(1, /*shards=*/2);
  const BenchImage image(200);
  const PutDone done = bench.Upload(image);
  CHECK(done.unchecked);
  CHECK_EQ(bench.Delete(done), Err::kConfig);
  pb::DirPinRequest unpin;
  FillFile(done.address, unpin.add_files());
  FillContent(image.content, unpin.add_contents());
  CHECK_EQ(bench.Ask(MessageType::kDirPin, unpin).err, Err::kConfig);
  pb::DirNameGetRequest name;
  name.set_name("a");
  const bool elsewhere = ShardOfName("a", 2) != 0;
  CHECK_EQ(bench.Ask(MessageType::kDirNameGet, name).err,
           elsewhere ? Err::kConfig : Err::kNotFound);
  bench.Pass(2'000);
  CHECK_FALSE(bench.Upload(BenchImage(3)).unchecked);
}

}  // namespace
}  // namespace hayloft
