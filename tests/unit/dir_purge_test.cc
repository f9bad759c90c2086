// What a CDN is told of deletes, and when; what orders of events can do to that is left to the
// walks (tests/sim/dir_walk.h, I9).
#include <doctest/doctest.h>

#include "directory/dir_messages.h"
#include "directory/dir_purges.h"
#include "tests/unit/dir_bench.h"

namespace hayloft {
namespace {

constexpr uint64_t kDelayMs = 1'200;
constexpr uint64_t kDayMs = 24 * 3'600'000;

PurgeOptions Options() { return {.url = "http://192.0.2.1:6081/i/{id}"}; }

BenchImage Tagged() {
  BenchImage image(2);
  image.metadata.fields["surrogate-key"] = "cats pets";
  image.metadata.fields["cache-tag"] = "cats,big dogs";
  image.content = ContentOf(image.metadata, static_cast<uint32_t>(image.bytes.size()));
  return image;
}

void PassAll(DirBench* bench, uint64_t ms) {
  for (uint64_t passed = 0; passed < ms; passed += 50) bench->Pass(50);
}

TEST_CASE("purge: PURGE says the url with the id, and the tags as they were given") {
  const std::vector<std::string> tags = PurgeTags(Tagged().metadata);
  CHECK_EQ(PurgeRequest(Options(), "abc", tags),
           "PURGE /i/abc HTTP/1.1\r\nHost: 192.0.2.1:6081\r\nUser-Agent: hayloft\r\n"
           "Connection: close\r\nSurrogate-Key: cats pets\r\nCache-Tag: cats,big dogs\r\n"
           "Content-Length: 0\r\n\r\n");
  PurgeOptions options{.url = "http://192.0.2.1", .method = "POST", .host = "img.example.com"};
  CHECK_EQ(PurgeAddress(Options()), "192.0.2.1:6081");
  CHECK_EQ(PurgeAddress(options), "192.0.2.1:80");
  options.file_url = "https://img.example.com/{id}?x={id}";
  const std::string body =
      R"({"id":"abc","url":"https://img.example.com/abc?x=abc","tags":["cats","pets","big dogs"]})";
  CHECK_EQ(PurgeRequest(options, "abc", tags),
           "POST / HTTP/1.1\r\nHost: img.example.com\r\nUser-Agent: hayloft\r\n"
           "Connection: close\r\nContent-Type: application/json\r\nContent-Length: " +
               std::to_string(body.size()) + "\r\n\r\n" + body);
  CHECK_EQ(PurgeTags(BenchImage(2).metadata).size(), 0);
}

TEST_CASE("purge: no tag of a forged needle ends a line or a JSON string") {
  const std::vector<std::string> forged = {"a\r\nX-Evil: 1", "say \"hi\\\""};
  const std::string request = PurgeRequest(Options(), "abc", forged);
  CHECK_EQ(request.find("Evil"), request.npos);
  CHECK_NE(request.find("Cache-Tag: say \"hi\\\"\r\n"), request.npos);
  PurgeOptions post = Options();
  post.method = "POST";
  CHECK_NE(PurgeRequest(post, "abc", forged).find(R"("tags":["say \"hi\\\""]})"), request.npos);
}

TEST_CASE("purge: what is wrong with the options is said") {
  const auto fault = [](PurgeOptions options) { return PurgeFault(options); };
  CHECK_EQ(fault({}), "");
  CHECK_EQ(fault(Options()), "");
  CHECK_EQ(fault({.url = "http://192.0.2.1/api", .method = "POST"}), "");
  CHECK_NE(fault({.url = "https://cdn/{id}"}).find("a proxy"), std::string::npos);
  CHECK_NE(fault({.url = "192.0.2.1/{id}"}), "");
  CHECK_NE(fault({.url = "http:///{id}"}), "");
  CHECK_NE(fault({.url = "http://{id}/"}), "");
  CHECK_NE(fault({.url = "http://192.0.2.1/all"}), "");
  CHECK_NE(fault({.url = "http://192.0.2.1/{id} HTTP/1.1\r\nX: y"}), "");
  CHECK_NE(fault({.url = "http://192.0.2.1/{id}", .method = "GET"}), "");
  CHECK_NE(fault({.url = "http://192.0.2.1/{id}", .host = "a\r\nb"}), "");
}

TEST_CASE("purge: a delete's answer doesn't wait for a CDN that says nothing") {
  DirBench bench(1, 1, Options());
  bench.cdn_status.clear();
  const PutDone done = bench.Upload(Tagged());
  CHECK_EQ(bench.Delete(done), Err::kOk);
  CHECK(bench.purged.empty());
  PassAll(&bench, kDelayMs - 100);
  CHECK(bench.purged.empty());  // a gateway may serve it still, and a CDN fetch it
  PassAll(&bench, 200);
  REQUIRE_EQ(bench.purged.size(), 1);
  CHECK(bench.purged[0].starts_with("PURGE /i/" + ToText(done.address) + " HTTP/1.1\r\n"));
  CHECK_NE(bench.purged[0].find("Surrogate-Key: cats pets\r\n"), std::string::npos);
  CHECK_EQ(bench.shard.core().purges().pending(), 1);
  bench.AnswerPurge(bench.unanswered_purge, "204");
  PassAll(&bench, 100);
  CHECK_EQ(bench.shard.core().purges().pending(), 0);
  CHECK_EQ(bench.shard.core().purges().metrics().purges_total.value(), 1);
  PassAll(&bench, 5'000);
  CHECK_EQ(bench.purged.size(), 1);
}

TEST_CASE("purge: none before the dsps have the delete") {
  DirBench bench(1, 1, Options());
  const PutDone done = bench.Upload(Tagged());
  bench.held = MessageType::kSetDelete;
  pb::DirDeleteRequest message;
  FillContent(Tagged().content, message.mutable_content());
  FillFile(done.address, message.mutable_file());
  message.set_nonce(std::string(AsText(done.nonce)));
  message.set_counter(1);
  bench.Tell(MessageType::kDirDelete, message);
  PassAll(&bench, 3'000);
  CHECK_EQ(bench.shard.core().pending(), 1);
  CHECK(bench.purged.empty());
  bench.Release();
  PassAll(&bench, kDelayMs + 100);
  CHECK_EQ(bench.purged.size(), 1);
}

TEST_CASE("purge: a CDN that fails is asked again, after pauses of 1 s to 60 s") {
  DirBench bench(1, 1, Options());
  const PutDone done = bench.Upload(Tagged());
  bench.cdn_status = "500";
  CHECK_EQ(bench.Delete(done), Err::kOk);
  uint64_t last_ms = 0;
  std::vector<uint64_t> pauses_s;
  for (int i = 0; i < 5'000 && pauses_s.size() < 8; ++i) {
    const size_t before = bench.purged.size();
    bench.Pass(50);
    if (bench.purged.size() == before) continue;
    if (last_ms != 0) pauses_s.push_back((bench.now.mono_ms - last_ms) / 1'000);
    last_ms = bench.now.mono_ms;
  }
  CHECK_EQ(pauses_s, std::vector<uint64_t>{1, 2, 4, 8, 16, 32, 60, 60});
  CHECK_EQ(bench.shard.core().purges().pending(), 1);
  CHECK_GE(bench.shard.core().purges().metrics().purge_failures_total.value(), 9);
  bench.cdn_status = "404";  // it has no copy: as good as done
  PassAll(&bench, 61'000);
  CHECK_EQ(bench.shard.core().purges().pending(), 0);
}

TEST_CASE("purge: after 7 days it is given up, and counted") {
  DirBench bench(1, 1, Options());
  const PutDone done = bench.Upload(Tagged());
  bench.cdn_status = "301";
  CHECK_EQ(bench.Delete(done), Err::kOk);
  PassAll(&bench, 5'000);
  bench.Pass(7 * kDayMs);
  PassAll(&bench, 200);
  CHECK_EQ(bench.shard.core().purges().metrics().purges_given_up_total.value(), 1);
  CHECK_EQ(bench.shard.core().purges().pending(), 0);
  const size_t sent = bench.purged.size();
  PassAll(&bench, 100'000);
  CHECK_EQ(bench.purged.size(), sent);
}

TEST_CASE("purge: what a crash interrupts is sent after it, with its tags (F11)") {
  DirBench bench(1, 1, Options());
  const PutDone done = bench.Upload(Tagged());
  SUBCASE("between the record and the dsps") {
    bench.held = MessageType::kSetDelete;
    pb::DirDeleteRequest message;
    FillContent(Tagged().content, message.mutable_content());
    FillFile(done.address, message.mutable_file());
    message.set_nonce(std::string(AsText(done.nonce)));
    message.set_counter(1);
    bench.Tell(MessageType::kDirDelete, message);
    REQUIRE(bench.Live(done.address));
    bench.held = MessageType::kPing;
  }
  SUBCASE("between the dsps and the purge") { CHECK_EQ(bench.Delete(done), Err::kOk); }
  SUBCASE("before the CDN has answered") {
    bench.cdn_status.clear();
    CHECK_EQ(bench.Delete(done), Err::kOk);
    PassAll(&bench, kDelayMs + 100);
    REQUIRE_EQ(bench.purged.size(), 1);
    bench.purged.clear();
    bench.cdn_status = "204";
  }
  SUBCASE("before the record of its answer is safe") {
    CHECK_EQ(bench.Delete(done), Err::kOk);
    bench.commits = false;
    PassAll(&bench, kDelayMs + 100);
    REQUIRE_EQ(bench.purged.size(), 1);
    bench.purged.clear();
  }
  bench.Restart();
  bench.commits = true;
  PassAll(&bench, kDelayMs + 1'000);
  CHECK_FALSE(bench.Live(done.address));
  REQUIRE_EQ(bench.purged.size(), 1);
  CHECK_NE(bench.purged[0].find("Surrogate-Key: cats pets\r\n"), std::string::npos);
  CHECK_EQ(bench.shard.core().purges().pending(), 0);
}

TEST_CASE("purge: an undelete is not held up, and a second delete has a purge of its own") {
  DirBench bench(1, 1, Options());
  bench.cdn_status.clear();
  const PutDone done = bench.Upload(Tagged());
  CHECK_EQ(bench.Delete(done), Err::kOk);
  PassAll(&bench, kDelayMs + 100);
  REQUIRE_EQ(bench.purged.size(), 1);
  CHECK_EQ(bench.Undelete(done), Err::kOk);
  CHECK(bench.Live(done.address));
  CHECK_EQ(bench.Delete(done), Err::kOk);
  // The answer to the first one says nothing of what the CDN fetched in between.
  bench.cdn_status = "204";
  bench.AnswerPurge(bench.unanswered_purge, "204");
  CHECK_EQ(bench.shard.core().purges().pending(), 1);
  PassAll(&bench, kDelayMs + 100);
  CHECK_EQ(bench.purged.size(), 2);
  CHECK_EQ(bench.shard.core().purges().pending(), 0);
}

TEST_CASE("purge: a takedown is one of all; a repeated one is told to the CDN again") {
  DirBench bench(1, 1, Options());
  const PutDone done = bench.Upload(Tagged());
  (void)bench.Upload(Tagged());
  CHECK_EQ(bench.Delete(done), Err::kOk);  // another has it still
  PassAll(&bench, 3'000);
  CHECK(bench.purged.empty());
  pb::DirDeleteRequest takedown;
  FillContent(Tagged().content, takedown.mutable_content());
  FillFile(done.address, takedown.mutable_file());
  takedown.set_takedown(true);
  for (size_t times = 1; times <= 2; ++times) {
    CHECK_EQ(bench.Ask(MessageType::kDirDelete, takedown).err, Err::kOk);
    PassAll(&bench, kDelayMs + 100);
    CHECK_EQ(bench.purged.size(), times);
  }
}

TEST_CASE("purge: a name that lets go of its file, and a file that is unpinned") {
  DirBench bench(1, 1, Options());
  const PutDone named = bench.Upload(BenchImage(3));
  pb::DirNamePutRequest put;
  put.set_name("logo");
  FillFile(named.address, put.mutable_file());
  FillContent(BenchImage(3).content, put.mutable_content());
  put.set_nonce(std::string(AsText(named.nonce)));
  put.set_token_nonce(std::string(16, 't'));
  pb::DirNameDeleteRequest remove;
  remove.set_name("logo");
  remove.set_version(bench.AskFor<pb::DirNamePutReply>(MessageType::kDirNamePut, put).version());
  CHECK_EQ(bench.Ask(MessageType::kDirNameDelete, remove).err, Err::kOk);
  PassAll(&bench, kDelayMs + 200);
  REQUIRE_EQ(bench.purged.size(), 1);
  CHECK_NE(bench.purged[0].find(ToText(named.address)), std::string::npos);
  const PutDone pinned = bench.Upload(Tagged());
  pb::DirPinRequest pin;
  FillFile(pinned.address, pin.add_files());
  FillContent(Tagged().content, pin.add_contents());
  for (const bool pins : {true, false}) {
    pin.set_pinned(pins);
    const auto reply = bench.AskFor<pb::DirPinReply>(MessageType::kDirPin, pin);
    CHECK_EQ(reply.changed(), 1);
    if (pins) CHECK_EQ(bench.Delete(pinned), Err::kOk);  // it stays
    PassAll(&bench, kDelayMs + 200);
    CHECK_EQ(bench.purged.size(), pins ? 1 : 2);
  }
  CHECK_NE(bench.purged[1].find(ToText(pinned.address)), std::string::npos);
}

// A shard that was restored knows nothing of a delete, and may have lost its purge.
TEST_CASE("purge: a delete of what is deleted already, and not known, is told; once at a time") {
  DirBench bench(1, 1, Options());
  bench.commits = false;
  const PutDone done = bench.Upload(Tagged());
  bench.Restart();
  bench.commits = true;
  bench.files.files().at(done.address).counter = 1;
  for (int i = 0; i < 30; ++i) {  // who repeats it puts nothing off
    CHECK_EQ(bench.Delete(done), Err::kOk);
    PassAll(&bench, 50);
  }
  REQUIRE_EQ(bench.purged.size(), 1);
  CHECK_NE(bench.purged[0].find("Surrogate-Key: cats pets\r\n"), std::string::npos);
}

TEST_CASE("purge: its key names the file, and no other key does") {
  const FileAddress file{7, FileId{0x0123456789abcdef}};
  const Result<FileAddress> parsed = ParsePurgeKey(PurgeKey(file));
  REQUIRE(parsed.ok());
  CHECK_EQ(*parsed, file);
  for (const std::string& key :
       {std::string(), std::string("u"), PurgeKey(file) + "x", "v" + PurgeKey(file).substr(1)}) {
    CHECK_EQ(ParsePurgeKey(key).err(), Err::kCorrupt);
  }
}

TEST_CASE("purge: a file that lost was nobody's, and none is sent; nor without a url") {
  DirBench bench(1, 1, Options());
  std::vector<uint64_t> op_ids;
  for (int i = 0; i < 5; ++i) op_ids.push_back(bench.Begin(BenchImage(2)));
  for (const uint64_t op_id : op_ids) (void)bench.End(op_id);
  PassAll(&bench, 3'000);
  CHECK_EQ(bench.shard.core().metrics().losers_total.value(), 4);
  CHECK(bench.purged.empty());
  CHECK_EQ(bench.shard.core().purges().pending(), 0);
  DirBench off;
  CHECK_EQ(off.Delete(off.Upload(Tagged())), Err::kOk);
  PassAll(&off, 3'000);
  CHECK(off.purged.empty());
  CHECK_EQ(off.shard.kv().Get(PurgeKey({1, FileId{1}})).err(), Err::kNotFound);
}

// More rows than the window holds, without a shard around them.
struct Alone {
  Alone() : rows(&kv), purges(Options(), &rows) {}

  void Tick() {
    now.mono_ms += 50;
    now.wall_ms += 50;
    std::vector<WebCall> out;
    REQUIRE_EQ(purges.OnTick([](const FileAddress&) { return false; }, now, &out), Err::kOk);
    Take(&out);
  }
  void Take(std::vector<WebCall>* out) {
    for (WebCall& call : *out) flight.push_back(std::move(call));
    most_in_flight = std::max(most_in_flight, flight.size());
  }
  // All that are under way: those whose number is below `poison` fail.
  void AnswerAll(uint64_t poison) {
    std::vector<WebCall> calls = std::exchange(flight, {});
    for (const WebCall& call : calls) {
      const size_t at = call.request.find("/i/") + 3;
      const FileAddress file = *ParseFileAddress(call.request.substr(at, 18));
      CallDone done;
      done.call_id = call.call_id;
      done.message = file.file_id.value < poison ? "500" : "200";
      if (file.file_id.value >= poison) ++told;
      std::vector<WebCall> out;
      REQUIRE_EQ(purges.OnDone(done, now, &out), Err::kOk);
      Take(&out);
    }
  }

  MemKv kv{1};
  DirRows rows;
  DirPurges purges;
  Now now{.mono_ms = 1'000'000, .wall_ms = 1'600'000'000'000};
  std::vector<WebCall> flight;
  size_t most_in_flight = 0;
  size_t told = 0;
};

TEST_CASE("purge: more than fit in memory come in turn, though as many fail for ever") {
  Alone alone;
  constexpr uint64_t kPoison = DirPurges::kWindowMax + 100;  // they alone fill the window
  constexpr uint64_t kFiles = kPoison + 5'000;
  for (uint64_t i = 0; i < kFiles; ++i) alone.purges.Enter({7, FileId{i}}, {"tag"}, alone.now);
  for (int i = 0; i < 40'000 && alone.told < kFiles - kPoison; ++i) {
    alone.Tick();
    alone.AnswerAll(kPoison);
    REQUIRE_LE(alone.purges.pending(), kFiles);
  }
  CHECK_EQ(alone.told, kFiles - kPoison);
  CHECK_LE(alone.most_in_flight, DirPurges::kFlightMax);
  // The CDN is well again: what failed is told at last.
  for (int i = 0; i < 10'000 && alone.purges.pending() > 0; ++i) {
    alone.Tick();
    alone.AnswerAll(0);
  }
  CHECK_EQ(alone.purges.pending(), 0);
}

}  // namespace
}  // namespace hayloft
