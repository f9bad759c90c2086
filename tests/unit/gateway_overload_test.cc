// What a gateway does with requests while its store is full of work: they wait, are refused, and
// those whose client has gone are dropped (F56).
#include <sys/resource.h>

#include "tests/unit/gateway_fixture.h"

namespace hayloft {
namespace {

constexpr size_t kFilesOfAForm = 16;
const std::string kImage(100, 'x');

// A gateway whose store answers no upload, and has as many in work as are let in: forms, because
// each brings many.
struct FullGateway {
  explicit FullGateway(uint32_t queue_ms)
      : gateway([queue_ms](GatewayConfig* config) {
          config->options.loops = 1;
          config->options.queue_ms = queue_ms;
        }) {
    std::string form;
    for (size_t i = 0; i < kFilesOfAForm; ++i) {
      form += "--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n" + kImage + "\r\n";
    }
    form += "--b--\r\n";
    read_id = gateway.UploadId(kImage);
    appends = gateway.cluster.appends;
    gateway.cluster.hold_appends = true;
    for (size_t i = 0; i < Admission::kWorkStart / kFilesOfAForm; ++i) {
      forms.push_back(gateway.Connect());
      REQUIRE(forms.back().Send(
          GatewayFixture::Post(form, "Content-Type: multipart/form-data; boundary=b\r\n")));
    }
    appends += Admission::kWorkStart;
    GatewayFixture::WaitUntil([this] { return gateway.cluster.appends == appends; });
  }
  const GatewayMetrics& metrics() const { return gateway.server.shared().metrics; }
  void Release() {
    gateway.cluster.hold_appends = false;
    gateway.cluster.ReleaseAppends();
    for (RawHttp& form : forms) CHECK_EQ(form.Read().status, 201);
  }

  GatewayFixture gateway;
  std::string read_id;
  uint64_t appends = 0;
  std::vector<RawHttp> forms;
};

}  // namespace

TEST_CASE("gateway: what waits for a full store too long gets 503 and may ask again (F56)") {
  FullGateway full(/*queue_ms=*/50);
  const MemoryBudget& memory = full.gateway.server.shared().upload_memory;
  const uint64_t held_bytes = memory.used_bytes();
  RawHttp client = full.gateway.Connect();
  const RawAnswer refused = client.Ask(GatewayFixture::Post(kImage));
  CHECK_EQ(refused.status, 503);
  CHECK_EQ(refused["retry-after"], "1");
  CHECK_EQ(GatewayFixture::Member(refused.body, "error"), "overloaded");
  CHECK_EQ(full.gateway.cluster.appends, full.appends);
  CHECK_EQ(full.metrics().overload_refused_total.value(), 1);
  CHECK_EQ(memory.used_bytes(), held_bytes);
  // Reads, and what needs no store, go on meanwhile.
  CHECK_EQ(client.Ask(GatewayFixture::Get("/" + full.read_id)).status, 200);
  CHECK_EQ(client.Ask(GatewayFixture::Get("/healthz")).status, 200);
  CHECK_EQ(client.Ask(GatewayFixture::Get("/readyz")).status, 200);
  full.Release();
  CHECK_EQ(client.Ask(GatewayFixture::Post(kImage)).status, 201);
}

TEST_CASE("gateway: what waits begins when there is room, but not for clients that went (F56)") {
  FullGateway full(/*queue_ms=*/30'000);
  RawHttp waits = full.gateway.Connect();
  RawHttp goes = full.gateway.Connect();
  RawHttp closes = full.gateway.Connect();
  RawHttp shuts = full.gateway.Connect();
  RawHttp shuts_old = full.gateway.Connect();
  for (RawHttp* client : {&waits, &goes, &closes, &shuts}) {
    CHECK(client->Send(GatewayFixture::Post(kImage)));
  }
  CHECK(shuts_old.Send("POST /v1/files HTTP/1.0\r\nContent-Length: 1\r\n\r\nx"));
  GatewayFixture::WaitUntil([&] { return full.metrics().requests_waiting.value() == 5; });
  goes.Abort();
  { const RawHttp closed = std::move(closes); }  // its bytes end as those of the next one do
  shuts.ShutdownSend();
  shuts_old.ShutdownSend();
  const Gauge& connections = full.gateway.server.shared().http_metrics.connections;
  GatewayFixture::WaitUntil(
      [&] { return connections.value() == static_cast<int64_t>(full.forms.size() + 4); });
  // The shut sides arrived before this was answered.
  CHECK_EQ(full.gateway.Connect().Ask(GatewayFixture::Get("/healthz")).status, 200);
  CHECK_EQ(full.gateway.cluster.appends, full.appends);
  full.Release();
  CHECK_EQ(waits.Read().status, 201);
  CHECK_EQ(shuts.Read().status, 100);  // sent to see whether it is still there
  CHECK_EQ(shuts.Read().status, 201);
  CHECK_EQ(shuts_old.Read().status, 503);
  CHECK_EQ(full.gateway.cluster.appends, full.appends + 2);
  CHECK_EQ(full.metrics().overload_abandoned_total.value(), 3);
}

TEST_CASE(
    "gateway: a form's files wait for the store like any upload, and are refused like it (F56)") {
  const std::string type = "Content-Type: multipart/form-data; boundary=b\r\n";
  const auto form_of = [](size_t files) {
    std::string form;
    for (size_t i = 0; i < files; ++i) {
      form += "--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n" + kImage + "\r\n";
    }
    return form + "--b--\r\n";
  };
  {
    FullGateway full(/*queue_ms=*/30'000);
    RawHttp client = full.gateway.Connect();
    CHECK(client.Send(GatewayFixture::Post(form_of(40), type)));
    GatewayFixture::WaitUntil([&] { return full.metrics().requests_waiting.value() == 40; });
    CHECK_EQ(full.gateway.cluster.appends, full.appends);
    full.Release();
    CHECK_EQ(client.Read().status, 201);
    CHECK_EQ(full.gateway.cluster.appends, full.appends + 40);
  }
  FullGateway full(/*queue_ms=*/50);
  const MemoryBudget& memory = full.gateway.server.shared().upload_memory;
  const uint64_t held_bytes = memory.used_bytes();
  RawHttp client = full.gateway.Connect();
  const RawAnswer refused = client.Ask(GatewayFixture::Post(form_of(2), type));
  CHECK_EQ(refused.status, 503);
  CHECK_EQ(refused["retry-after"], "1");
  CHECK(refused.body.find("overloaded") != std::string::npos);
  CHECK_EQ(full.gateway.cluster.appends, full.appends);
  CHECK_EQ(memory.used_bytes(), held_bytes);
  full.Release();
  CHECK_EQ(client.Ask(GatewayFixture::Post(form_of(2), type)).status, 201);
}

// What it asks of the store leaves at the end of a turn, so no crowd may make one long.
TEST_CASE("gateway: of a crowd 512 are heard in a turn, and then the others (F56)") {
  constexpr size_t kCrowd = 700;
  rlimit files{};
  REQUIRE_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
  const rlimit enough{.rlim_cur = files.rlim_max, .rlim_max = files.rlim_max};
  REQUIRE_EQ(setrlimit(RLIMIT_NOFILE, &enough), 0);
  GatewayFixture gateway([](GatewayConfig* config) {
    config->options.loops = 1;
    config->options.pages = "all";
  });
  std::vector<RawHttp> crowd;
  for (size_t i = 0; i < kCrowd; ++i) {
    crowd.push_back(gateway.Connect());
    REQUIRE_EQ(crowd.back().Ask(GatewayFixture::Get("/healthz")).status, 200);
  }
  RawHttp asks = gateway.Connect();
  const HttpMetrics& metrics = gateway.server.shared().http_metrics;
  // So many sockets it learns to ask the kernel for by and by: 32, then twice as many.
  for (int round = 0; round < 20 && metrics.put_off_total.value() == 0; ++round) {
    const uint64_t requests = metrics.requests_total.value();
    {
      // This stops the loop: the answer to the status needs the lock.
      std::mutex& mutex = const_cast<GatewayShared&>(gateway.server.shared()).view_mutex;
      const std::lock_guard<std::mutex> lock(mutex);
      REQUIRE(asks.Send("GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n"));
      GatewayFixture::WaitUntil([&] { return metrics.requests_total.value() == requests + 1; });
      for (RawHttp& client : crowd) REQUIRE(client.Send(GatewayFixture::Get("/healthz")));
    }
    CHECK_EQ(asks.Read().status, 200);
    for (RawHttp& client : crowd) CHECK_EQ(client.Read().status, 200);
  }
  CHECK_GT(metrics.put_off_total.value(), 0);
  REQUIRE_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
}

TEST_CASE("gateway: with queue_ms=0 nothing is refused however full the store is") {
  FullGateway full(/*queue_ms=*/0);
  RawHttp client = full.gateway.Connect();
  CHECK(client.Send(GatewayFixture::Post(kImage)));
  GatewayFixture::WaitUntil([&] { return full.gateway.cluster.appends == full.appends + 1; });
  full.Release();
  CHECK_EQ(client.Read().status, 201);
}

}  // namespace hayloft
