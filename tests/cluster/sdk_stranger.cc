// A program that knows nothing but the installed headers, on a real cluster: every kind of call,
// and ten thousand gets in flight at once on one thread.
//
//   sdk_stranger NAMESERVER KEY_FILE [PID]     PID: of a dsp, which is stopped while images of
//   which
//                                              it has a copy are read
#include <hayloft/client.h>
#include <signal.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <iostream>
#include <random>
#include <set>
#include <thread>

namespace {

constexpr int kGets = 10'000;

void Require(bool condition, const std::string& what) {
  if (condition) return;
  std::cerr << "wrong: " << what << "\n";
  std::exit(1);
}

void Require(const hayloft::Status& status, const std::string& what) {
  Require(status.ok(), what + ": " + status.ToString());
}

std::string Random(size_t size) {
  static std::mt19937_64 random(7);
  std::string bytes;
  while (bytes.size() < size) bytes.push_back(static_cast<char>(random()));
  return bytes;
}

size_t Threads() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<size_t>(std::distance(begin(tasks), end(tasks)));
}

void OneImage(hayloft::Client* client) {
  const std::string bytes = Random(3'500'000);
  hayloft::Stored stored;
  size_t at = 0;
  const auto reader = [&](char* buffer, size_t capacity, size_t* filled) {
    *filled = bytes.copy(buffer, capacity, at);
    at += *filled;
    return true;
  };
  Require(client->PutStream(reader, {}, &stored), "stream of a put");
  std::string got;
  const auto writer = [&](std::string_view run) { return got += run, true; };
  Require(client->GetStream(stored.id, {}, writer), "stream of a get");
  Require(got == bytes, "what was streamed");
  hayloft::GetOptions part;
  part.offset = 1'000'001;
  part.length = 70'000;
  hayloft::Image image;
  Require(client->Get(stored.id, part, &image), "range");
  Require(image.bytes() == bytes.substr(1'000'001, 70'000), "bytes of the range");
  std::string buffer(100, ' ');
  hayloft::Filled filled;
  Require(client->GetInto(stored.id, part, buffer.data(), buffer.size(), &filled), "into");
  Require(buffer == bytes.substr(1'000'001, 100), "bytes in the buffer");
  part.offset = bytes.size();
  Require(client->Get(stored.id, part, &image).code() == hayloft::Code::kRange, "behind the end");
  Require(client->Delete(stored.id, {}), "delete");
  Require(client->Get(stored.id, {}, &image).IsDeleted(), "deleted");
  hayloft::ImageInfo info;
  Require(client->Stat(stored.id, {}, &info), "stat");
  Require(info.deleted && info.size == bytes.size() && info.sha1 == stored.sha1, "its info");
  Require(client->Undelete(stored.id, {}), "undelete");
  Require(client->Get(stored.id, {}, &image), "undeleted");
}

// The client's thread can't take answers while a callback runs: so all that one callback begins is
// outstanding at once.
void TenThousandGets(hayloft::Client* client) {
  std::vector<std::string> images;
  for (int i = 0; i < 50; ++i) images.push_back(Random(16 << 10));
  std::vector<hayloft::PutResult> stored;
  Require(client->PutBatch({images.begin(), images.end()}, {}, &stored), "batch");
  std::atomic<int> answered{0}, wrong{0};
  std::atomic<size_t> threads{0};
  std::set<std::thread::id> called_by;
  std::promise<void> all;
  const auto begin = [&](const hayloft::Status&, hayloft::Image&&) {
    for (size_t i = 0; i < kGets; ++i) {
      const size_t which = i % images.size();
      client->GetAsync(stored[which].stored.id, {},
                       [&, which](const hayloft::Status& status, hayloft::Image&& image) {
                         wrong += status.ok() && image.bytes() == images[which] ? 0 : 1;
                         called_by.insert(std::this_thread::get_id());
                         if (++answered == kGets) all.set_value();
                       });
    }
    Require(answered == 0, "none is answered yet");
    threads = Threads();
  };
  client->GetAsync(stored[0].stored.id, {}, begin);
  all.get_future().wait();
  Require(wrong == 0, std::to_string(wrong) + " gets");
  Require(threads == 2, "threads: this one and the client's");
  Require(called_by.size() == 1, "one thread calls back");
}

// Of three replicas one hangs. No read fails of that, though none has a second to wait for it, and
// the client has not seen a read yet.
void ReadWhileOneHangs(hayloft::Client* client, const hayloft::Options& options, pid_t dsp) {
  std::vector<std::string> images;
  for (int i = 0; i < 50; ++i) images.push_back(Random(16 << 10));
  std::vector<hayloft::PutResult> stored;
  Require(client->PutBatch({images.begin(), images.end()}, {}, &stored), "batch");
  Require(kill(dsp, SIGSTOP) == 0, "stop");
  hayloft::GetOptions within;
  within.timeout_ms = 1'000;
  int failed = 0;
  std::string why;
  for (int round = 0; round < 5; ++round) {
    std::unique_ptr<hayloft::Client> fresh;
    Require(hayloft::Client::Open(options, &fresh), "open");
    std::vector<std::string> ids;
    for (const hayloft::PutResult& one : stored) ids.push_back(one.stored.id);
    std::vector<hayloft::GetResult> got;
    (void)fresh->GetBatch(ids, within, &got);
    for (size_t i = 0; i < got.size(); ++i) {
      if (got[i].status.ok() && got[i].image.bytes() == images[i]) continue;
      ++failed;
      why = got[i].status.ToString();
    }
    hayloft::ImageInfo info;
    const hayloft::Status status = fresh->Stat(ids[0], {/*timeout_ms=*/1'000}, &info);
    if (status.ok()) continue;
    ++failed;
    why = "stat: " + status.ToString();
  }
  (void)kill(dsp, SIGCONT);  // unless its dataserver has replaced it
  Require(failed == 0, std::to_string(failed) + " reads failed: " + why);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  hayloft::Options options;
  options.cluster = argv[1];
  options.key_file = argv[2];
  std::unique_ptr<hayloft::Client> client;
  Require(hayloft::Client::Open(options, &client), "open");
  if (argc > 3) {
    ReadWhileOneHangs(client.get(), options, static_cast<pid_t>(std::atoi(argv[3])));
    std::cout << "fine\n";
    return 0;
  }
  OneImage(client.get());
  TenThousandGets(client.get());
  std::cout << "fine\n";
}
