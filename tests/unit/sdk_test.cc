#include <atomic>
#include <future>
#include <thread>

#include "common/codec.h"
#include "tests/unit/fake_directory.h"
#include "tests/unit/sdk_bench.h"

namespace hayloft {
namespace {

using Bench = SdkBench;

TEST_CASE("sdk: an image is put, got whole and in parts, deleted and undeleted") {
  Bench bench;
  const std::string bytes = Png(200'000);
  PutOptions put;
  put.fields = {{"name", "hay.png"}};
  Stored stored;
  REQUIRE(bench.client->Put(bytes, put, &stored).ok());
  CHECK_EQ(stored.id.size(), 18);
  CHECK_EQ(stored.content_type, "image/png");
  CHECK_EQ(stored.size, bytes.size());
  Image image;
  REQUIRE(bench.client->Get(stored.id, {}, &image).ok());
  CHECK_EQ(image.bytes(), bytes);
  CHECK_EQ(image.info().fields, put.fields);
  CHECK_EQ(image.info().sha1, stored.sha1);
  GetOptions range;
  range.offset = 70'001;
  range.length = 1'000;
  REQUIRE(bench.client->Get(stored.id, range, &image).ok());
  CHECK_EQ(image.bytes(), bytes.substr(70'001, 1'000));
  CHECK_EQ(image.image_size(), bytes.size());
  std::string buffer(300'000, ' ');
  Filled filled;
  REQUIRE(bench.client->GetInto(stored.id, {}, buffer.data(), buffer.size(), &filled).ok());
  CHECK_EQ(buffer.substr(0, filled.bytes), bytes);
  REQUIRE(bench.client->GetInto(stored.id, {}, buffer.data(), 10, &filled).ok());
  CHECK_EQ(filled.bytes, 10);
  CHECK_EQ(filled.image_size, bytes.size());

  REQUIRE(bench.client->Delete(stored.id, {}).ok());
  CHECK(bench.client->Get(stored.id, {}, &image).IsDeleted());
  GetOptions deleted;
  deleted.include_deleted = true;
  REQUIRE(bench.client->Get(stored.id, deleted, &image).ok());
  CHECK(image.info().deleted);
  ImageInfo info;
  REQUIRE(bench.client->Stat(stored.id, {}, &info).ok());
  CHECK(info.deleted);
  CHECK_EQ(info.sha256, ToHex(Sha256Of(AsBytes(bytes))));
  REQUIRE(bench.client->Undelete(stored.id, {}).ok());
  CHECK(bench.client->Get(stored.id, {}, &image).ok());
}

// Whoever has the cluster's key may write what this library would not.
TEST_CASE("sdk: S07: a bomb whose needle lies about its size is damaged, not inflated") {
  Bench bench;
  const std::string plain(1 << 20, 'x');
  const std::string bomb(AsText(CompressIfWorthIt(AsBytes(plain)).bytes()));
  for (const uint32_t raw_size : {100u, (1u << 20) - 1, (1u << 20) + 1, uint32_t{kFileBytesMax}}) {
    CAPTURE(raw_size);
    const FileAddress address = bench.cluster.Store(
        {.stored = bomb,
         .raw_size = raw_size,
         .encoding = Encoding::kZstd,
         .metadata = EncodeMetadata({.content_type = "text/plain", .fields = {}})});
    GetOptions options;
    options.timeout_ms = 500;
    Image image;
    CHECK_EQ(bench.client->Get(ToText(address), options, &image).code(), Code::kDamaged);
    options.offset = 50;
    options.length = 10;
    CHECK_EQ(bench.client->Get(ToText(address), options, &image).code(), Code::kDamaged);
  }
}

TEST_CASE("sdk: what is stored compressed comes as it was") {
  Bench bench;
  const std::string text = "<svg>" + std::string(100'000, 'x') + "</svg>";
  const std::string id = bench.Put(text);
  Image image;
  REQUIRE(bench.client->Get(id, {}, &image).ok());
  CHECK_EQ(image.bytes(), text);
  GetOptions range;
  range.offset = 99'995;
  REQUIRE(bench.client->Get(id, range, &image).ok());
  CHECK_EQ(image.bytes(), text.substr(99'995));
}

TEST_CASE("sdk: a delete token is made, checked, and asked for only if one is given") {
  Bench bench;
  Stored one, other;
  REQUIRE(bench.client->Put(Png(100), {}, &one).ok());
  REQUIRE(bench.client->Put(Png(100), {}, &other).ok());
  CHECK(bench.client->CheckDeleteToken(one.id, one.delete_token));
  CHECK_FALSE(bench.client->CheckDeleteToken(other.id, one.delete_token));
  DeleteOptions with_token;
  with_token.token = one.delete_token;
  CHECK_EQ(bench.client->Delete(other.id, with_token).code(), Code::kDenied);
  CHECK(bench.client->Delete(one.id, with_token).ok());
  CHECK(bench.client->Delete(other.id, {}).ok());
}

TEST_CASE("sdk: errors are typed, and say whether a retry makes sense") {
  Bench bench;
  Stored stored;
  Image image;
  const std::string id = bench.Put(Png(100));
  CHECK_EQ(bench.client->Put("", {}, &stored).code(), Code::kInvalid);
  PutOptions forged;
  forged.content_type = "image/png\r\nX: y";
  CHECK_EQ(bench.client->Put("x", forged, &stored).code(), Code::kInvalid);
  CHECK_EQ(bench.client->Put(std::string((60 << 20) + 1, 'x'), {}, &stored).code(),
           Code::kTooLarge);
  CHECK_EQ(bench.client->Get("no id", {}, &image).code(), Code::kInvalid);
  const Status missing = bench.client->Get("AAAAAAEAAP__EjRW__", {}, &image);
  CHECK_FALSE(missing.ok());
  CHECK_FALSE(missing.MayRetry());
  GetOptions behind;
  behind.offset = 100;
  CHECK_EQ(bench.client->Get(id, behind, &image).code(), Code::kRange);
  bench.cluster.read_err.store(Err::kIo);
  GetOptions hurried;
  hurried.timeout_ms = 200;
  const Status damaged = bench.client->Get(id, hurried, &image);
  CHECK_EQ(damaged.code(), Code::kDamaged);
  CHECK(damaged.MayRetry());
  CHECK_EQ(damaged.name(), "damaged");
}

TEST_CASE("sdk: wrong options are told by Open") {
  std::unique_ptr<Client> client;
  Options options;
  CHECK_EQ(Client::Open(options, &client).code(), Code::kConfig);
  options.cluster = "nowhere";
  CHECK_EQ(Client::Open(options, &client).code(), Code::kConfig);
  options.cluster = "127.0.0.1:1";
  options.key_file = "/nowhere";
  CHECK_EQ(Client::Open(options, &client).code(), Code::kConfig);
  options.key_file = "";
  REQUIRE(Client::Open(options, &client).ok());
  Stored stored;
  PutOptions hurried;
  hurried.timeout_ms = 100;
  CHECK_EQ(client->Put("x", hurried, &stored).code(), Code::kUnavailable);
}

TEST_CASE("sdk: ten thousand gets are in flight at once, on the client's one thread") {
  Bench bench;
  const std::string bytes = Png(16'384);
  const std::string id = bench.Put(bytes);
  const size_t threads = ThreadsOfProcess();
  bench.cluster.hold_reads = true;
  constexpr int kGets = 10'000;
  std::atomic<int> fine{0}, answered{0}, elsewhere{0};
  std::atomic<std::thread::id> thread{};
  std::promise<void> all;
  for (int i = 0; i < kGets; ++i) {
    bench.client->GetAsync(id, {}, [&](const Status& status, Image&& image) {
      if (status.ok() && image.bytes() == bytes) ++fine;
      if (thread.exchange(std::this_thread::get_id()) != std::this_thread::get_id()) ++elsewhere;
      if (++answered == kGets) all.set_value();
    });
  }
  WaitUntil([&] { return bench.cluster.reads_held() >= kGets; });
  CHECK_EQ(answered, 0);
  CHECK_EQ(ThreadsOfProcess(), threads);
  bench.cluster.ReleaseReads();
  all.get_future().wait();
  CHECK_EQ(fine, kGets);
  CHECK_EQ(elsewhere, 1);  // the first, before which there was none
  CHECK_NE(thread.load(), std::this_thread::get_id());
}

TEST_CASE("sdk: a callback may begin calls, but not wait for one") {
  Bench bench;
  const std::string id = bench.Put(Png(100));
  std::promise<Code> blocking, begun;
  bench.client->GetAsync(id, {}, [&](const Status&, Image&&) {
    Image image;
    blocking.set_value(bench.client->Get(id, {}, &image).code());
    bench.client->StatAsync(
        id, {}, [&](const Status& status, ImageInfo&&) { begun.set_value(status.code()); });
  });
  CHECK_EQ(blocking.get_future().get(), Code::kInvalid);
  CHECK_EQ(begun.get_future().get(), Code::kOk);
}

TEST_CASE("sdk: more than may be in flight is busy, and told by a callback") {
  Bench bench(/*in_flight_max=*/4);
  bench.cluster.hold_appends = true;
  std::atomic<int> busy{0}, stored{0};
  std::promise<void> all;
  for (int i = 0; i < 10; ++i) {
    bench.client->PutAsync("x", {}, [&](const Status& status, Stored&&) {
      status.code() == Code::kBusy ? ++busy : ++stored;
      if (busy + stored == 10) all.set_value();
    });
  }
  while (busy < 6 || bench.cluster.appends < 4) std::this_thread::yield();
  bench.cluster.ReleaseAppends();
  all.get_future().wait();
  CHECK_EQ(busy, 6);
}

TEST_CASE("sdk: the destructor cancels what is in flight, also what its callbacks begin") {
  Bench bench;
  bench.cluster.hold_appends = true;
  std::atomic<int> cancelled{0};
  for (int i = 0; i < 10; ++i) {
    bench.client->PutAsync("x", {}, [&](const Status& status, Stored&&) {
      cancelled += status.code() == Code::kCancelled ? 1 : 0;
      bench.client->PutAsync("y", {}, [&](const Status& again, Stored&&) {
        cancelled += again.code() == Code::kCancelled ? 1 : 0;
      });
    });
  }
  while (bench.cluster.appends == 0) std::this_thread::yield();
  Client* raw = bench.client.get();
  delete raw;  // callbacks reach it by bench.client until it is gone
  (void)bench.client.release();
  CHECK_EQ(cancelled, 20);
}

TEST_CASE("sdk: batches answer in order, each image for itself") {
  Bench bench;
  std::vector<std::string> images;
  for (size_t i = 0; i < 700; ++i) images.push_back(Png(100 + i));
  std::vector<std::string_view> views(images.begin(), images.end());
  views[5] = "";
  std::vector<PutResult> put;
  CHECK_EQ(bench.client->PutBatch(views, {}, &put).code(), Code::kInvalid);
  REQUIRE_EQ(put.size(), 700);
  std::vector<std::string> ids;
  for (size_t i = 0; i < put.size(); ++i) {
    CHECK_EQ(put[i].status.ok(), i != 5);
    ids.push_back(i == 5 ? "bad" : put[i].stored.id);
  }
  std::vector<GetResult> got;
  CHECK_EQ(bench.client->GetBatch(ids, {}, &got).code(), Code::kInvalid);
  REQUIRE_EQ(got.size(), 700);
  for (size_t i = 0; i < got.size(); ++i) {
    if (i != 5) CHECK_EQ(got[i].image.bytes(), images[i]);
  }
  CHECK(bench.client->PutBatch({}, {}, &put).ok());
  CHECK(put.empty());
}

TEST_CASE("sdk: large images stream in and out, and a callback may give up or throw") {
  Bench bench;
  std::string bytes = Png(5'000'000);
  for (size_t i = 8; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7919 >> 8);
  size_t at = 0;
  const Client::Reader reader = [&](char* buffer, size_t capacity, size_t* filled) {
    *filled = std::min<size_t>({capacity, bytes.size() - at, 300'001});
    bytes.copy(buffer, *filled, at);
    at += *filled;
    return true;
  };
  Stored stored;
  REQUIRE(bench.client->PutStream(reader, {}, &stored).ok());
  CHECK_EQ(stored.size, bytes.size());
  std::string got;
  size_t longest = 0;
  const Client::Writer writer = [&](std::string_view run) {
    longest = std::max(longest, run.size());
    got += run;
    return true;
  };
  REQUIRE(bench.client->GetStream(stored.id, {}, writer).ok());
  CHECK(got == bytes);
  CHECK_EQ(longest, 1 << 20);
  got.clear();
  GetOptions range;
  range.offset = 1'000'000;
  range.length = 2'500'000;
  REQUIRE(bench.client->GetStream(stored.id, range, writer).ok());
  CHECK(got == bytes.substr(1'000'000, 2'500'000));
  const Status gave_up =
      bench.client->GetStream(stored.id, {}, [](std::string_view) { return false; });
  CHECK_EQ(gave_up.code(), Code::kCancelled);
  const Status threw = bench.client->PutStream(
      [](char*, size_t, size_t*) -> bool { throw std::runtime_error("mine"); }, {}, &stored);
  CHECK_EQ(threw.code(), Code::kCancelled);
}

TEST_CASE("sdk: with a directory equal images are one, and each put has a token of its own") {
  Bench bench;
  const FakeDirectory directory(bench.key, bench.cluster.nameserver());
  bench.options.directory = {directory.address()};
  bench.Reopen();
  Client& client = *bench.client;
  Stored one, other, alone;
  REQUIRE(client.Put(Png(100), {}, &one).ok());
  REQUIRE(client.Put(Png(100), {}, &other).ok());
  CHECK_EQ(one.id, other.id);
  CHECK_FALSE(one.duplicate);
  CHECK(other.duplicate);
  CHECK_NE(one.delete_token, other.delete_token);
  CHECK_EQ(bench.cluster.files(), 1);
  PutOptions put;
  put.dedup = false;
  REQUIRE(client.Put(Png(100), put, &alone).ok());
  CHECK_NE(alone.id, one.id);
  CHECK_FALSE(alone.duplicate);
  DeleteOptions change;
  CHECK_EQ(client.Delete(one.id, change).code(), Code::kInvalid);  // whose?
  Image image;
  for (const Stored& stored : {one, other}) {
    CHECK(client.Get(one.id, {}, &image).ok());
    change.token = stored.delete_token;
    REQUIRE(client.Delete(one.id, change).ok());
  }
  CHECK(client.Get(one.id, {}, &image).IsDeleted());
  REQUIRE(client.Undelete(one.id, change).ok());
  change = DeleteOptions();
  change.takedown = true;
  REQUIRE(client.Delete(one.id, change).ok());
  CHECK(client.Get(one.id, {}, &image).IsDeleted());
}

TEST_CASE("sdk: a put that is sent again under its idempotency key has one answer") {
  Bench bench;
  PutOptions put;
  put.idempotency_key = "0123456789abcdef";
  Stored one, again;
  CHECK_EQ(bench.client->Put(Png(100), put, &one).code(), Code::kInvalid);  // no directory
  const FakeDirectory directory(bench.key, bench.cluster.nameserver());
  bench.options.directory = {directory.address()};
  bench.Reopen();
  REQUIRE(bench.client->Put(Png(100), put, &one).ok());
  REQUIRE(bench.client->Put(Png(100), put, &again).ok());
  CHECK_EQ(again.id, one.id);
  CHECK_EQ(again.delete_token, one.delete_token);
  put.idempotency_key.pop_back();
  CHECK_EQ(bench.client->Put(Png(100), put, &one).code(), Code::kInvalid);
  put = PutOptions();
  put.idempotency_key = "0123456789abcdef";
  put.dedup = false;
  CHECK_EQ(bench.client->Put(Png(100), put, &one).code(), Code::kInvalid);
}

TEST_CASE("sdk: a directory that cannot be one is refused when the client is opened") {
  Bench bench;
  for (const std::string bad : {"", ",", "127.0.0.1", "127.0.0.1:1,x"}) {
    CAPTURE(bad);
    bench.options.directory = {bad};
    std::unique_ptr<Client> client;
    CHECK_EQ(Client::Open(bench.options, &client).code(), Code::kConfig);
  }
}

}  // namespace
}  // namespace hayloft
