// What one call costs beside the work that it asks for: a read of 16 KiB, answered from memory.
//
// Client and server run on threads of their own and are measured apart, in CPU time (user and
// system) of their thread, because the machine has other things to do; 64 calls are in flight.
// Args: bytes of the payload, 1 for the Unix socket and 0 for TCP. Unit: microseconds a call.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <ctime>
#include <thread>

#include "common/io/rpc_client.h"
#include "common/io/rpc_server.h"
#include "common/proto/hayloft.pb.h"

namespace hayloft {
namespace {

constexpr uint64_t kInFlight = 64;

// Some 300 MB a round, so that rounds of all sizes take about as long.
uint64_t CallsPerRound(uint64_t payload_bytes) {
  return std::clamp<uint64_t>((300 << 20) / (payload_bytes + 1), 300, 20'000);
}

double ThreadCpuUs() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

// Answers reads as a dsp would: the message decoded and encoded, the payload's CRC known already.
class ReadServer {
 public:
  explicit ReadServer(size_t payload_bytes) : image_(payload_bytes) {
    std::memset(image_.mutable_bytes().data(), 0x5a, image_.size());
    image_crc_ = Crc32c(image_.bytes());
    server_.OnRequest([this](RpcRequest&& request) { Answer(std::move(request)); });
    std::string why;
    ASSERT(server_.Listen(&why) == Err::kOk);
    thread_ = std::thread([this] {
      loop_.Run();
      cpu_us_ = ThreadCpuUs();
    });
  }
  // CPU time of the server's thread since it was started.
  double Stop() {
    loop_.Stop();
    thread_.join();
    return cpu_us_;
  }
  const std::string& address() const { return server_.address(); }

 private:
  void Answer(RpcRequest&& request) {
    pb::ReadRequest read;
    ASSERT(read.ParseFromString(request.message));
    pb::ReadReply reply;
    reply.set_head(std::string(150, 'h'));
    reply.set_delete_counter(2);
    server_.Reply(RpcReply{.token = request.token,
                           .type = request.type,
                           .message = reply.SerializeAsString(),
                           .payload = image_.Share(),
                           .payload_crc = image_crc_,
                           .payload_crc_known = true});
  }

  Loop loop_;
  RpcServer server_{&loop_, {.listen = "127.0.0.1:0"}};
  Buffer image_;
  uint32_t image_crc_ = 0;
  std::thread thread_;
  double cpu_us_ = 0;
};

// Keeps kInFlight calls going until `calls` are answered.
void RunCalls(const std::string& address, bool unix_socket, uint64_t calls) {
  Loop loop;
  RpcClient client(&loop, {.unix_sockets = unix_socket});
  uint64_t started = 0;
  uint64_t ended = 0;
  const auto start = [&] {
    pb::ReadRequest read;
    read.set_block_id(17);
    read.set_file_id(started);
    client.Call(RpcCall{.call_id = ++started,
                        .address = address,
                        .type = MessageType::kRead,
                        .timeout_ms = 10'000,
                        .message = read.SerializeAsString()});
  };
  client.OnDone([&](CallDone&& done) {
    ASSERT(done.err == Err::kOk);
    pb::ReadReply reply;
    ASSERT(reply.ParseFromString(done.message));
    if (++ended == calls) return loop.Stop();
    if (started < calls) start();
  });
  for (uint64_t i = 0; i < kInFlight; ++i) start();
  loop.Run();
}

void BM_RpcRead(benchmark::State& state) {
  const auto payload_bytes = static_cast<size_t>(state.range(0));
  const uint64_t calls = CallsPerRound(payload_bytes);
  double server_us = 0;
  double client_us = 0;
  for (auto _ : state) {
    ReadServer server(payload_bytes);
    const double before_us = ThreadCpuUs();
    RunCalls(server.address(), state.range(1) == 1, calls);
    client_us += ThreadCpuUs() - before_us;
    server_us += server.Stop();
  }
  const double all = static_cast<double>(state.iterations()) * static_cast<double>(calls);
  state.counters["server_cpu_us"] = server_us / all;
  state.counters["client_cpu_us"] = client_us / all;
}
BENCHMARK(BM_RpcRead)
    ->ArgNames({"bytes", "unix"})
    ->Args({16 << 10, 1})
    ->Args({16 << 10, 0})
    ->Args({0, 1})
    ->Args({1 << 20, 1})
    ->Unit(benchmark::kMillisecond)
    ->MeasureProcessCPUTime();

}  // namespace
}  // namespace hayloft

BENCHMARK_MAIN();
