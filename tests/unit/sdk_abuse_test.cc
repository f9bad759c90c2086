// What callers do to an SDK: from callbacks, in destructors, with sizes at the bounds, with streams
// that fail, with no cluster, no memory, no descriptors.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <future>
#include <optional>
#include <set>

#include "common/io/system_clock.h"
#include "common/io/unique_fd.h"
#include "common/limits.h"
#include "tests/unit/no_memory.h"
#include "tests/unit/sdk_bench.h"

namespace hayloft {
namespace {

using Bench = SdkBench;

GetOptions Within(uint32_t timeout_ms) {
  GetOptions options;
  options.timeout_ms = timeout_ms;
  return options;
}

// --- The end of a client ---

TEST_CASE("sdk: a callback may destroy the client; the others are then cancelled") {
  Bench bench;
  const std::string id = bench.Put(Png(100));
  bench.client.reset();
  const size_t threads = ThreadsOfProcess();
  bench.Reopen();
  bench.cluster.hold_reads = true;
  std::atomic<int> cancelled{0};
  std::promise<void> destroyed;
  for (int i = 0; i < 10; ++i) {
    bench.client->GetAsync(id, {}, [&](const Status& status, Image&&) {
      cancelled += status.code() == Code::kCancelled ? 1 : 0;
    });
  }
  bench.client->GetAsync("no id", {}, [&](const Status&, Image&&) {
    bench.client.reset();
    CHECK_EQ(cancelled, 0);  // not from inside
    destroyed.set_value();
  });
  destroyed.get_future().wait();
  WaitUntil([&] { return cancelled == 10 && ThreadsOfProcess() == threads; });
}

TEST_CASE("sdk: the last owner of a client may be the callback of a call") {
  Bench bench;
  const std::string id = bench.Put(Png(100));
  bench.client.reset();
  const size_t threads = ThreadsOfProcess();
  bench.Reopen();
  std::shared_ptr<Client> shared = std::move(bench.client);
  std::atomic<int> answered{0};
  for (int i = 0; i < 3; ++i) {
    shared->GetAsync(id, {}, [shared, &answered](const Status&, Image&&) { ++answered; });
  }
  shared.reset();
  WaitUntil([&] { return answered == 3 && ThreadsOfProcess() == threads; });
}

// A caller may hold a lock that its callbacks take.
TEST_CASE("sdk: what is begun while a client ends is not answered from inside the call") {
  Bench bench;
  bench.cluster.hold_appends = true;
  int depth = 0, deepest = 0, left = 100;
  std::function<void(const Status&, Stored&&)> again = [&](const Status&, Stored&&) {
    deepest = std::max(deepest, ++depth);
    if (left-- > 0) bench.client->PutAsync("x", {}, again);
    Image image;
    CHECK_EQ(bench.client->Get("no id", {}, &image).code(), Code::kInvalid);  // nor does it hang
    --depth;
  };
  bench.client->PutAsync("x", {}, again);
  WaitUntil([&] { return bench.cluster.appends > 0; });
  Client* raw = bench.client.get();
  delete raw;
  (void)bench.client.release();
  CHECK_EQ(left, -1);
  CHECK_EQ(deepest, 1);
}

TEST_CASE("sdk: a thousand calls in flight end with the client, each once") {
  Bench bench;
  const std::string id = bench.Put(Png(5'000));
  for (int round = 0; round < 5; ++round) {
    std::atomic<int> answered{0};
    for (int i = 0; i < 1'000; ++i) {
      bench.client->GetAsync(id, {}, [&](const Status& status, Image&&) {
        CHECK((status.ok() || status.code() == Code::kCancelled));
        ++answered;
      });
    }
    bench.client.reset();
    CHECK_EQ(answered, 1'000);
    bench.Reopen();
  }
}

// --- Threads ---

TEST_CASE("sdk: sixteen threads share a client") {
  Bench bench;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int number = 0; number < 16; ++number) {
    threads.emplace_back([&, number] {
      const std::string bytes = Png(3'000 + static_cast<size_t>(number), static_cast<char>(number));
      for (int i = 0; i < 20; ++i) {
        Stored stored;
        Image image;
        ImageInfo info;
        std::vector<GetResult> got;
        std::string copy;
        bool fine = bench.client->Put(bytes, {}, &stored).ok();
        fine = fine && bench.client->Get(stored.id, {}, &image).ok() && image.bytes() == bytes;
        fine = fine && bench.client->Stat(stored.id, {}, &info).ok() && info.size == bytes.size();
        fine = fine && bench.client->GetBatch({stored.id, stored.id}, {}, &got).ok();
        const Client::Writer writer = [&](std::string_view run) { return copy += run, true; };
        fine = fine && bench.client->GetStream(stored.id, {}, writer).ok() && copy == bytes;
        fine = fine && bench.client->CheckDeleteToken(stored.id, stored.delete_token);
        fine = fine && bench.client->Delete(stored.id, {}).ok();
        fine = fine && bench.client->Get(stored.id, {}, &image).IsDeleted();
        wrong += fine ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(wrong, 0);
}

TEST_CASE("sdk: the program's signals are none of its thread's business") {
  Bench bench;
  (void)bench.Put("x");  // the thread runs; until then the C library blocks all
  uint64_t blocked = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream status(task.path() / "status");
    std::string name, word;
    status >> word >> name;
    if (name != "hayloft-sdk") continue;
    while (status >> word && word != "SigBlk:") continue;
    status >> std::hex >> blocked;
  }
  const auto is_blocked = [&](int number) { return (blocked >> (number - 1) & 1) != 0; };
  CHECK(is_blocked(SIGTERM));
  CHECK(is_blocked(SIGALRM));
  CHECK_FALSE(is_blocked(SIGSEGV));
}

// --- Sizes and ranges ---

TEST_CASE("sdk: an image has 1 byte to 60 MiB, however it comes") {
  Bench bench;
  Stored stored;
  CHECK_EQ(bench.client->Put("", {}, &stored).code(), Code::kInvalid);
  std::string source(kFileBytesMax + 1, 'x');
  source.replace(0, 8, Png(8));
  size_t size = 0, at = 0;
  const Client::Reader reader = [&](char* buffer, size_t capacity, size_t* filled) {
    *filled = std::min(capacity, size - at);
    source.copy(buffer, *filled, at);
    at += *filled;
    return true;
  };
  CHECK_EQ(bench.client->PutStream(reader, {}, &stored).code(), Code::kInvalid);
  for (const size_t fine : {size_t{1}, size_t{kFileBytesMax}}) {
    size = fine;
    at = 0;
    REQUIRE(bench.client->PutStream(reader, {}, &stored).ok());
    CHECK_EQ(stored.size, size);
    const std::string_view bytes = std::string_view(source).substr(0, size);
    REQUIRE(bench.client->Put(bytes, {}, &stored).ok());
    Image image;
    REQUIRE(bench.client->Get(stored.id, {}, &image).ok());
    CHECK(image.bytes() == bytes);
  }
  size = source.size();
  at = 0;
  CHECK_EQ(bench.client->PutStream(reader, {}, &stored).code(), Code::kTooLarge);
  CHECK_EQ(bench.client->Put(source, {}, &stored).code(), Code::kTooLarge);
  CHECK_EQ(bench.cluster.files(), 4);
}

TEST_CASE("sdk: a get fills what there is room for, and not a byte more") {
  Bench bench;
  std::string bytes = Png(200'000);
  for (size_t i = 8; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7919 >> 8);
  const std::string id = bench.Put(bytes);
  struct Row {
    uint64_t offset, length;
    size_t capacity, filled;
  };
  for (const Row& row :
       {Row{0, 0, 1, 1}, Row{0, 0, 199'999, 199'999}, Row{0, 0, 300'000, 200'000},
        Row{199'999, 0, 10, 1}, Row{65'536, 65'536, 10, 10}, Row{70'000, 5, 10, 5},
        Row{150'000, UINT64_MAX, 60'000, 50'000}, Row{1, UINT64_MAX, SIZE_MAX, 199'999}}) {
    std::string buffer(300'000, '\x7f');
    GetOptions part;
    part.offset = row.offset;
    part.length = row.length;
    Filled filled;
    REQUIRE(bench.client->GetInto(id, part, buffer.data(), row.capacity, &filled).ok());
    CHECK_EQ(filled.bytes, row.filled);
    CHECK_EQ(filled.image_size, bytes.size());
    CHECK(buffer.compare(0, row.filled, bytes, row.offset, row.filled) == 0);
    CHECK_EQ(buffer.find_first_not_of('\x7f', row.filled), std::string::npos);
  }
  Filled filled;
  CHECK_EQ(bench.client->GetInto(id, {}, nullptr, 0, &filled).code(), Code::kInvalid);
  for (const uint64_t offset : {uint64_t{200'000}, uint64_t{200'001}, UINT64_MAX}) {
    GetOptions behind;
    behind.offset = offset;
    behind.length = UINT64_MAX;
    Image image;
    CHECK_EQ(bench.client->Get(id, behind, &image).code(), Code::kRange);
    char byte = 0;
    CHECK_EQ(bench.client->GetInto(id, behind, &byte, 1, &filled).code(), Code::kRange);
    const auto writer = [](std::string_view) { return true; };
    CHECK_EQ(bench.client->GetStream(id, behind, writer).code(), Code::kRange);
  }
}

TEST_CASE("sdk: ids that are none, of unknown blocks, or with another cookie") {
  Bench bench;
  const std::string id = bench.Put(Png(100));
  Image image;
  ImageInfo info;
  for (const std::string& none :
       {std::string(), id.substr(1), id + "A", "/" + id.substr(1), id.substr(1) + '\0',
        std::string(18, ' '), std::string(1 << 20, 'A'), std::string(18, '\xff')}) {
    CHECK_EQ(bench.client->Get(none, {}, &image).code(), Code::kInvalid);
    CHECK_EQ(bench.client->Stat(none, {}, &info).code(), Code::kInvalid);
    CHECK_EQ(bench.client->Delete(none, {}).code(), Code::kInvalid);
    CHECK_EQ(bench.client->Undelete(none, {}).code(), Code::kInvalid);
    CHECK_FALSE(bench.client->CheckDeleteToken(none, ""));
  }
  FileAddress address = *ParseFileAddress(id);
  address.block_id = 99;
  const std::string unknown_block = ToText(address);
  address = *ParseFileAddress(id);
  address.file_id.value ^= 1;
  for (const std::string& missing : {unknown_block, ToText(address)}) {
    CHECK(bench.client->Get(missing, {}, &image).IsNotFound());
    CHECK(bench.client->Stat(missing, {}, &info).IsNotFound());
    CHECK(bench.client->Delete(missing, {}).IsNotFound());
  }
}

// --- Nobody there ---

std::atomic<int> g_denials{0};  // that were logged

TEST_CASE("sdk: a wrong key is denied at once, whatever is called, and logged") {
  Bench bench;
  SetLogger([](LogSeverity severity, std::string_view line) {
    const bool denial = severity == LogSeverity::kWarn && line.starts_with("rpc_key_denied ");
    g_denials += denial ? 1 : 0;
  });
  const std::string id = bench.Put(Png(100));
  REQUIRE_EQ(ReplaceFile(bench.folder / "secret", std::string(40, 'w'), 0600), Err::kOk);
  bench.Reopen();
  const uint64_t start_ms = SystemMonotonicMs();
  Stored stored;
  Image image;
  ImageInfo info;
  CHECK_EQ(bench.client->Put("x", {}, &stored).code(), Code::kDenied);
  CHECK_EQ(bench.client->Get(id, {}, &image).code(), Code::kDenied);
  CHECK_EQ(bench.client->Stat(id, {}, &info).code(), Code::kDenied);
  CHECK_EQ(bench.client->Delete(id, {}).code(), Code::kDenied);
  CHECK(SystemMonotonicMs() - start_ms < 5'000);
  bench.client.reset();
  SetLogger(nullptr);
  CHECK(g_denials > 0);
}

// Each call's deadline, when nobody listens and when somebody listens who never speaks.
TEST_CASE("sdk: calls end at their deadlines, with a nameserver or without") {
  Bench bench;
  const std::string id = bench.Put(Png(100));
  const UniqueFd silent(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {}, .sin_zero = {}};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  REQUIRE_EQ(bind(silent.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  REQUIRE_EQ(listen(silent.get(), 100), 0);
  REQUIRE_EQ(getsockname(silent.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  for (const std::string& nameserver :
       {std::string("127.0.0.1:1"), "127.0.0.1:" + std::to_string(ntohs(address.sin_port))}) {
    bench.options.cluster = nameserver;
    bench.Reopen();
    for (const uint32_t timeout_ms : {1u, 70u, 150u}) {
      const auto check = [&](const char* what, const std::function<Status()>& call) {
        uint64_t took_ms = UINT64_MAX;
        std::string said;
        // 50, and as much for a busy machine; which may be busier than that, but not always.
        for (int i = 0; i < 5 && took_ms > timeout_ms + 100; ++i) {
          const uint64_t start_ms = SystemMonotonicMs();
          const Status status = call();
          took_ms = SystemMonotonicMs() - start_ms;
          said = std::string(what) + " " + nameserver + " " + status.ToString();
          CHECK_MESSAGE(status.MayRetry(), said);
          CHECK_MESSAGE(took_ms >= timeout_ms - 1, said);
        }
        CHECK_MESSAGE(took_ms <= timeout_ms + 100, said);
      };
      PutOptions put;
      StatOptions stat;
      DeleteOptions change;
      put.timeout_ms = stat.timeout_ms = change.timeout_ms = timeout_ms;
      const GetOptions get = Within(timeout_ms);
      Stored stored;
      Image image;
      ImageInfo info;
      char byte = 0;
      Filled filled;
      std::vector<PutResult> stored_all;
      std::vector<GetResult> got_all;
      check("put", [&] { return bench.client->Put("x", put, &stored); });
      check("get", [&] { return bench.client->Get(id, get, &image); });
      check("get into", [&] { return bench.client->GetInto(id, get, &byte, 1, &filled); });
      check("stat", [&] { return bench.client->Stat(id, stat, &info); });
      check("delete", [&] { return bench.client->Delete(id, change); });
      check("undelete", [&] { return bench.client->Undelete(id, change); });
      check("puts", [&] { return bench.client->PutBatch({"x", "y"}, put, &stored_all); });
      check("gets", [&] { return bench.client->GetBatch({id, id}, get, &got_all); });
      check("stream", [&] {
        return bench.client->GetStream(id, get, [](std::string_view) { return true; });
      });
    }
  }
}

TEST_CASE("sdk: a deadline counts from the call, also when the client's thread is held up") {
  Bench bench;
  const std::string id = bench.Put(Png(100));
  std::promise<void> held, release;
  bench.client->GetAsync("no id", {}, [&](const Status&, Image&&) {
    held.set_value();
    release.get_future().wait();
  });
  held.get_future().wait();
  const uint64_t reads = bench.cluster.reads;
  std::promise<Code> late;
  bench.client->GetAsync(id, Within(100),
                         [&](const Status& status, Image&&) { late.set_value(status.code()); });
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  release.set_value();
  CHECK_EQ(late.get_future().get(), Code::kTimeout);
  CHECK_EQ(bench.cluster.reads, reads);
  Image image;
  CHECK(bench.client->Get(id, {}, &image).ok());
}

// --- Batches ---

TEST_CASE("sdk: a batch may be larger than what may be in flight, and repeat itself") {
  Bench bench(/*in_flight_max=*/4);
  bench.options.put_bytes_max = 10'000;
  bench.Reopen();
  for (const size_t count : {size_t{0}, size_t{1}, size_t{1'000}}) {
    const std::string bytes = Png(3'000);
    std::vector<PutResult> put;
    REQUIRE(bench.client->PutBatch(std::vector<std::string_view>(count, bytes), {}, &put).ok());
    std::set<std::string> different;
    for (const PutResult& one : put) different.insert(one.stored.id);
    CHECK_EQ(different.size(), count);
    if (count == 0) continue;
    std::vector<GetResult> got;
    const std::vector<std::string> ids(count, put.back().stored.id);
    REQUIRE(bench.client->GetBatch(ids, {}, &got).ok());
    REQUIRE_EQ(got.size(), count);
    for (const GetResult& one : got) CHECK_EQ(one.image.bytes(), bytes);
  }
}

TEST_CASE("sdk: in a batch each image succeeds or fails for itself") {
  Bench bench;
  bench.options.put_bytes_max = 1 << 20;
  bench.Reopen();
  const std::string large(2 << 20, 'x'), small = Png(100);
  std::vector<PutResult> put;
  CHECK_EQ(bench.client->PutBatch({small, "", small, large, small}, {}, &put).code(),
           Code::kInvalid);
  const auto code = [&](size_t i) { return put[i].status.code(); };
  CHECK_EQ(code(0), Code::kOk);
  CHECK_EQ(code(1), Code::kInvalid);
  CHECK_EQ(code(2), Code::kOk);
  CHECK_EQ(code(3), Code::kTooLarge);  // it would never fit: no retry
  CHECK_EQ(code(4), Code::kOk);
  REQUIRE(bench.client->Delete(put[0].stored.id, {}).ok());
  FileAddress other = *ParseFileAddress(put[2].stored.id);
  other.file_id.value ^= 1;
  std::vector<GetResult> got;
  const std::vector<std::string> ids = {put[2].stored.id, put[0].stored.id, ToText(other), "x",
                                        put[4].stored.id};
  CHECK_EQ(bench.client->GetBatch(ids, {}, &got).code(), Code::kDeleted);
  CHECK_EQ(got[0].image.bytes(), small);
  CHECK(got[1].status.IsDeleted());
  CHECK(got[2].status.IsNotFound());
  CHECK_EQ(got[3].status.code(), Code::kInvalid);
  CHECK_EQ(got[4].image.bytes(), small);
}

// --- Streams ---

TEST_CASE("sdk: a stream ends where its reader or writer gives up, throws or is wrong") {
  Bench bench;
  Stored stored;
  const std::string bytes = Png(3'500'000);
  const std::string id = bench.Put(bytes);
  const size_t files = bench.cluster.files();
  for (const int way : {0, 1, 2}) {
    int calls = 0;
    const Client::Reader reader = [&](char*, size_t capacity, size_t* filled) {
      *filled = capacity;
      if (++calls < 3) return true;
      if (way == 1) throw std::runtime_error("mine");
      if (way == 2) ++*filled;
      return way != 0;
    };
    const Status put = bench.client->PutStream(reader, {}, &stored);
    CHECK_EQ(put.code(), way == 2 ? Code::kInvalid : Code::kCancelled);
    CHECK_EQ(calls, 3);
    if (way == 2) break;
    calls = 0;
    const Client::Writer writer = [&](std::string_view) {
      if (++calls < 3) return true;
      if (way == 1) throw 17;
      return false;
    };
    CHECK_EQ(bench.client->GetStream(id, {}, writer).code(), Code::kCancelled);
    CHECK_EQ(calls, 3);
  }
  CHECK_EQ(bench.cluster.files(), files);
  int runs = 0;  // an image that goes while it is read
  const Status deleted = bench.client->GetStream(id, {}, [&](std::string_view) {
    if (++runs == 1) REQUIRE(bench.client->Delete(id, {}).ok());
    return true;
  });
  CHECK(deleted.IsDeleted());
  Image image;
  CHECK(bench.client->Get(bench.Put(Png(100)), {}, &image).ok());
}

TEST_CASE("sdk: what streams gather counts as bytes on their way") {
  Bench bench;
  bench.options.put_bytes_max = 3'000'000;
  bench.Reopen();
  Stored stored;
  size_t left = 2'900'000;
  bool busy = false;
  const auto fill = [](size_t* left_of, size_t capacity, size_t* filled) {
    *filled = std::min(capacity, *left_of);
    *left_of -= *filled;
  };
  const Client::Reader reader = [&](char*, size_t capacity, size_t* filled) {
    fill(&left, capacity, filled);
    if (left == 0 && *filled > 0) {
      size_t more = 2'900'000;
      Stored none;
      busy = bench.client
                 ->PutStream(
                     [&](char*, size_t room, size_t* got) { return fill(&more, room, got), true; },
                     {}, &none)
                 .code() == Code::kBusy;
    }
    return true;
  };
  CHECK(bench.client->PutStream(reader, {}, &stored).ok());
  CHECK_EQ(stored.size, 2'900'000);
  CHECK(busy);
  left = 3'000'001;
  CHECK_EQ(bench.client->PutStream(reader, {}, &stored).code(), Code::kTooLarge);
  CHECK(bench.client->Put(std::string(2'999'999, 'x'), {}, &stored).ok());  // all was given back
}

// --- No memory, no descriptors ---

// Makes each allocation of this thread fail once in the calls that `prepare` makes; their arguments
// are made before. `note` must be told what became of them.
struct MemorySweep {
  std::atomic<int> answered{0}, wrong{0};

  void Note(const Status& status) {
    wrong += status.ok() || status.code() == Code::kBusy ? 0 : 1;
    ++answered;
  }
  template <typename Prepare>
  void Run(const char* what, const Prepare& prepare) {
    uint64_t failed = 0;
    for (bool reached = true; reached; failed += reached ? 1 : 0) {
      answered = 0;
      auto call = prepare();
      {
        const NoMemory none(failed);
        call();
        reached = none.reached();
      }
      WaitUntil([&] { return answered > 0; });
      CHECK_MESSAGE(answered == 1, what);
      CHECK_MESSAGE(wrong == 0, what);
      REQUIRE(failed < 10'000);
    }
    CHECK_MESSAGE(failed > 0, what);
  }
};

TEST_CASE("sdk: an asynchronous call for which there is no memory is answered, once") {
  Bench bench;
  MemorySweep sweep;
  const std::string bytes = Png(3'000);
  const std::string id = bench.Put(bytes);
  PutOptions put;
  put.fields = {{"a name of some length, more than fits into a string", "and its value"}};
  char room[100];
  sweep.Run("put", [&] {
    Client::PutCallback done = [&](const Status& status, Stored&&) { sweep.Note(status); };
    return [&, done]() mutable { bench.client->PutAsync(bytes, put, std::move(done)); };
  });
  sweep.Run("get", [&] {
    Client::GetCallback done = [&](const Status& status, Image&&) { sweep.Note(status); };
    return [&, done]() mutable { bench.client->GetAsync(id, {}, std::move(done)); };
  });
  sweep.Run("get into", [&] {
    Client::GetIntoCallback done = [&](const Status& status, const Filled&) { sweep.Note(status); };
    return [&, done]() mutable {
      bench.client->GetIntoAsync(id, {}, room, sizeof(room), std::move(done));
    };
  });
  sweep.Run("stat", [&] {
    Client::StatCallback done = [&](const Status& status, ImageInfo&&) { sweep.Note(status); };
    return [&, done]() mutable { bench.client->StatAsync(id, {}, std::move(done)); };
  });
  for (const bool undelete : {false, true}) {
    sweep.Run("delete", [&] {
      Client::DeleteCallback done = [&](const Status& status) { sweep.Note(status); };
      return [&, undelete, done]() mutable {
        if (undelete) return bench.client->UndeleteAsync(id, {}, std::move(done));
        bench.client->DeleteAsync(id, {}, std::move(done));
      };
    });
  }
  std::atomic<int> calls{0};  // none is counted as in flight any more
  const std::vector<std::string> ids(16'384, id);
  for (const std::string& one : ids) {
    bench.client->GetAsync(one, {}, [&](const Status& status, Image&&) {
      sweep.wrong += status.ok() ? 0 : 1;
      ++calls;
    });
  }
  WaitUntil([&] { return calls == 16'384; });
  CHECK_EQ(sweep.wrong, 0);
}

TEST_CASE("sdk: a blocking call for which there is no memory throws nothing") {
  Bench bench;
  MemorySweep sweep;
  const std::string bytes = Png(3'000);
  const std::string id = bench.Put(bytes);
  const std::vector<std::string> ids(70, id);
  const std::vector<std::string_view> images(70, bytes);
  Stored stored;
  Image image;
  ImageInfo info;
  Filled filled;
  char room[100];
  const auto run = [&](const char* what, const std::function<Status()>& call) {
    sweep.Run(what, [&] { return [&] { sweep.Note(call()); }; });
  };
  run("put", [&] { return bench.client->Put(bytes, {}, &stored); });
  run("get", [&] { return bench.client->Get(id, {}, &image); });
  run("get into", [&] { return bench.client->GetInto(id, {}, room, 100, &filled); });
  run("stat", [&] { return bench.client->Stat(id, {}, &info); });
  run("undelete", [&] { return bench.client->Undelete(id, {}); });
  run("batch of puts", [&] {
    std::vector<PutResult> put;
    return bench.client->PutBatch(images, {}, &put);
  });
  run("batch of gets", [&] {
    std::vector<GetResult> got;
    return bench.client->GetBatch(ids, {}, &got);
  });
  size_t left = 0;
  const Client::Reader reader = [&](char*, size_t capacity, size_t* count) {
    *count = std::min(capacity, left);
    left -= *count;
    return true;
  };
  run("stream of a put", [&] {
    left = 600'000;
    return bench.client->PutStream(reader, {}, &stored);
  });
  const Client::Writer writer = [](std::string_view) { return true; };
  run("stream of a get", [&] { return bench.client->GetStream(stored.id, {}, writer); });
  run("open", [&] {
    std::unique_ptr<Client> other;
    return Client::Open(bench.options, &other);
  });
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  CHECK_EQ(sigismember(&blocked, SIGTERM), 0);  // given back, however it ended
}

TEST_CASE("sdk: answers for which there is no memory cost a try, or their own call") {
  Bench bench;
  const std::string large = bench.Put(Png(2 << 20));
  const std::string text = bench.Put("<svg>" + std::string(900'000, 'x') + "</svg>");
  std::optional<NoMemory> none;  // of the client's thread
  const auto on_its_thread = [&](const std::function<void()>& fn) {
    std::promise<void> done;
    bench.client->GetAsync("no id", {}, [&](const Status&, Image&&) {
      fn();
      done.set_value();
    });
    done.get_future().wait();
  };
  Image image;
  on_its_thread([&] { none.emplace(0, 1 << 20); });
  CHECK(bench.client->Get(large, {}, &image).ok());
  bool reached = false;
  on_its_thread([&] { reached = none->reached(); });
  CHECK(reached);
  on_its_thread([&] { none.emplace(0, 800'000); });
  CHECK_EQ(bench.client->Get(text, {}, &image).code(), Code::kBusy);
  CHECK(bench.client->Get(text, {}, &image).ok());
  on_its_thread([&] { none.reset(); });
}

TEST_CASE("sdk: without descriptors no client is opened, and the process goes on") {
  Bench bench;
  const std::filesystem::directory_iterator open("/proc/self/fd");
  const auto count = static_cast<rlim_t>(std::distance(begin(open), end(open)));
  rlimit before{};
  REQUIRE_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  int refused = 0;
  for (rlim_t more = 0; more < 8; ++more) {
    const rlimit few{.rlim_cur = count - 1 + more, .rlim_max = before.rlim_max};
    REQUIRE_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    std::unique_ptr<Client> client;
    const Status status = Client::Open(bench.options, &client);
    REQUIRE_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK((status.ok() || status.code() == Code::kBusy || status.code() == Code::kConfig));
    refused += status.code() == Code::kBusy ? 1 : 0;
  }
  CHECK(refused > 0);
}

#ifndef __SANITIZE_THREAD__  // it doesn't bear threads after a fork

// What a child process ended with.
template <typename Fn>
int InChild(Fn fn) {
  const pid_t pid = fork();
  if (pid == 0) {
    const int nowhere = open("/dev/null", O_WRONLY);
    (void)dup2(nowhere, STDERR_FILENO);
    std::signal(SIGABRT, SIG_DFL);
    _exit(fn());
  }
  int status = 0;
  REQUIRE_EQ(waitpid(pid, &status, 0), pid);
  return status;
}

TEST_CASE("sdk: after a fork a client of before is refused, and a new one works") {
  Bench bench;
  const std::string id = bench.Put(Png(100));
  const int status = InChild([&] {
    Image image;
    int right = bench.client->Get(id, {}, &image).code() == Code::kInvalid ? 1 : 0;
    bench.client->GetAsync(id, {}, [&](const Status& said, Image&&) {
      right += said.code() == Code::kInvalid ? 1 : 0;
    });
    bench.client.reset();  // does not wait for a thread that isn't there
    std::unique_ptr<Client> own;
    right += Client::Open(bench.options, &own).ok() ? 1 : 0;
    right += own->Get(id, {}, &image).ok() ? 1 : 0;
    own.reset();
    return right;
  });
  CHECK(WIFEXITED(status));
  CHECK_EQ(WEXITSTATUS(status), 4);
  Image image;
  CHECK(bench.client->Get(id, {}, &image).ok());
}

TEST_CASE("sdk: a callback that throws ends the process") {
  Bench bench;
  const int status = InChild([&] {
    std::unique_ptr<Client> own;
    if (!Client::Open(bench.options, &own).ok()) return 1;
    own->GetAsync("no id", {}, [](const Status&, Image&&) { throw std::runtime_error("mine"); });
    std::this_thread::sleep_for(std::chrono::seconds(10));
    return 0;
  });
  CHECK(WIFSIGNALED(status));
  CHECK_EQ(WTERMSIG(status), SIGABRT);
}

#endif

}  // namespace
}  // namespace hayloft
