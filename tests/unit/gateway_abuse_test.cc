// The gateway through its sockets: what bad input, bad clients and a bad cluster get.
#include <sys/socket.h>

#include "gateway/answers.h"
#include "tests/unit/gateway_fixture.h"

using namespace hayloft;

namespace {

struct BadRequest {
  const char* situation;
  std::string bytes;
  int status;
};

std::string Upload(const std::string& headers) {
  return "POST /v1/files HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n";
}

}  // namespace

TEST_CASE("gateway: bad input gets its status, and nothing behind it is run (S02 S03 S04)") {
  GatewayFixture gateway([](GatewayConfig* config) { config->options.upload_bytes_max = 5000; });
  const std::string chunked = "Transfer-Encoding: chunked\r\n";
  const BadRequest cases[] = {
      {"empty body", Upload("Content-Length: 0\r\n"), 400},
      {"empty chunked body", Upload(chunked) + "0\r\n\r\n", 400},
      {"neither length nor chunked", Upload(""), 411},
      {"too large by its length", Upload("Content-Length: 5001\r\n"), 413},
      {"far too large by its length", Upload("Content-Length: 99999999999\r\n"), 413},
      {"too large by its chunks", Upload(chunked) + "1389\r\n" + std::string(5001, 'x'), 413},
      {"negative length", Upload("Content-Length: -1\r\n"), 400},
      {"signed length", Upload("Content-Length: +5\r\n"), 400},
      {"huge length", Upload("Content-Length: 18446744073709551616\r\n"), 400},
      {"doubled length", Upload("Content-Length: 5\r\nContent-Length: 5\r\n"), 400},
      {"length and chunked", Upload("Content-Length: 5\r\n" + chunked), 400},
      {"chunked twice", Upload(chunked + chunked), 400},
      {"chunked, identity", Upload("Transfer-Encoding: chunked, identity\r\n"), 400},
      {"bad chunk size", Upload(chunked) + "zz\r\n", 400},
      {"a chunk longer than it says", Upload(chunked) + "2\r\nabc\r\n0\r\n\r\n", 400},
      {"bare LF", "GET /healthz HTTP/1.1\nHost: h\n\n", 400},
      {"obs-fold", "GET /healthz HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400},
      {"NUL", std::string("GET /healthz HTTP/1.1\r\nHost: h\r\nX: \0\r\n\r\n", 41), 400},
      {"space before a colon", "GET /healthz HTTP/1.1\r\nHost : h\r\n\r\n", 400},
      {"no Host", "GET /healthz HTTP/1.1\r\n\r\n", 400},
      {"two Hosts", "GET /healthz HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400},
      {"a header line over 8 KiB",
       "GET /healthz HTTP/1.1\r\nHost: h\r\nX: " + std::string(8200, 'x') + "\r\n\r\n", 431},
      {"headers over 32 KiB",
       "GET /healthz HTTP/1.1\r\nHost: h\r\n" +
           [] {
             std::string lines;
             for (int i = 0; i < 9; ++i) lines += "X: " + std::string(4000, 'x') + "\r\n";
             return lines;
           }() +
           "\r\n",
       431},
      {"a request line over 8 KiB", "GET /" + std::string(8200, 'x') + " HTTP/1.1\r\n", 414},
      {"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"CR LF in a type", Upload("Content-Type: a/b\r\n X: y\r\nContent-Length: 1\r\n") + "x", 400},
      {"a control byte in a type", Upload("Content-Type: a/\x01\r\nContent-Length: 1\r\n") + "x",
       400},
      {"Content-Encoding", Upload("Content-Encoding: gzip\r\nContent-Length: 5\r\n") + "hello",
       415},
      {"multipart", Upload("Content-Type: multipart/mixed\r\nContent-Length: 5\r\n") + "hello",
       415},
      {"an unknown expectation", Upload("Expect: miracles\r\nContent-Length: 5\r\n") + "hello",
       417},
  };
  for (const BadRequest& c : cases) {
    CAPTURE(c.situation);
    RawHttp client = gateway.Connect();
    const RawAnswer answer = client.Ask(c.bytes + GatewayFixture::Post("smuggled"));
    CHECK_EQ(answer.status, c.status);
    CHECK(answer.body.starts_with("{\"error\":\""));
    CHECK_NE(answer.body.find("\",\"message\":\""), std::string::npos);
    CHECK_EQ(answer["cache-control"], "no-store");
    CHECK_FALSE(answer["x-request-id"].empty());
    const bool framing_is_sound = answer["connection"] != "close";
    if (framing_is_sound) {
      CHECK_EQ(client.Read().status, 201);
    } else {
      CHECK(client.ReadClose());
    }
    // An empty body and a missing length leave no doubt about where the next request begins.
    const std::string name = c.situation;
    CHECK_EQ(framing_is_sound, name == "empty body" || name == "empty chunked body" ||
                                   name == "neither length nor chunked");
  }
  CHECK_EQ(gateway.cluster.files(), 3);
}

TEST_CASE("gateway: wrong paths and methods keep the connection") {
  GatewayFixture gateway;
  RawHttp client = gateway.Connect();
  const auto ask = [&](const std::string& line) {
    return client.Ask(line + " HTTP/1.1\r\nHost: h\r\n\r\n", line.starts_with("HEAD"));
  };
  CHECK_EQ(ask("GET /nonsense").status, 400);
  CHECK_EQ(ask("GET /AAAAAAAAAAAAAAAAAB").status, 400);
  CHECK_EQ(ask("GET /a/b").status, 404);
  CHECK_EQ(ask("GET /../etc/passwd").status, 404);
  CHECK_EQ(ask("BREW /").status, 501);
  const RawAnswer wrong = ask("PUT /v1/files");
  CHECK_EQ(wrong.status, 405);
  CHECK_EQ(wrong["allow"], "POST, OPTIONS");
  CHECK_EQ(ask("DELETE /AAAAAAAAAAAAAAAAAA")["allow"], "GET, HEAD, OPTIONS");
  CHECK_EQ(ask("HEAD /AAAAAAAAAAAAAAAAAA").status, 404);
  CHECK_EQ(ask("GET /AAAAAAAAAAAAAAAAAA").status, 404);
}

TEST_CASE("gateway: unknown file and wrong cookie get the same answer (S08)") {
  GatewayFixture gateway;
  const FileAddress stored = *ParseFileAddress(gateway.UploadId("hello"));
  FileAddress wrong_cookie = stored;
  wrong_cookie.file_id = FileId::Of(stored.file_id.sequence(), stored.file_id.cookie() ^ 1);
  const FileAddress no_block{.block_id = 99, .file_id = stored.file_id};
  const FileAddress no_file{.block_id = stored.block_id, .file_id = FileId::Of(1234, 5)};
  for (const std::string prefix : {"/", "/v1/files/"}) {
    RawHttp client = gateway.Connect();
    RawAnswer first = client.Ask(GatewayFixture::Get(prefix + ToText(wrong_cookie)));
    CHECK_EQ(first.status, 404);
    for (const FileAddress& address : {no_block, no_file}) {
      RawAnswer answer = client.Ask(GatewayFixture::Get(prefix + ToText(address)));
      answer.fields.erase("x-request-id");
      answer.fields.erase("date");
      first.fields.erase("x-request-id");
      first.fields.erase("date");
      CHECK_EQ(answer.status, first.status);
      CHECK_EQ(answer.body, first.body);
      CHECK(answer.fields == first.fields);
    }
  }
}

TEST_CASE("gateway: a client that dies at any byte of an upload leaves no file (F43)") {
  GatewayFixture gateway;
  const std::string length = GatewayFixture::Post("hello, world");
  const std::string chunked =
      Upload("Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n7\r\n, world\r\n0\r\nX: y\r\n\r\n";
  for (const std::string& request : {length, chunked}) {
    for (size_t size = 0; size < request.size(); ++size) {
      RawHttp client = gateway.Connect();
      CHECK(client.Send(request.substr(0, size)));
      if (size % 2 == 0) {
        client.Abort();
      } else {
        client.ShutdownSend();
        CHECK(client.ReadClose());
      }
    }
  }
  const HttpMetrics& metrics = gateway.server.shared().http_metrics;
  const uint64_t count = length.size() + chunked.size();
  GatewayFixture::WaitUntil(
      [&] { return metrics.accepted_total.value() == count && metrics.connections.value() == 0; });
  CHECK_EQ(gateway.cluster.appends, 0);
  CHECK_EQ(gateway.cluster.files(), 0);
  CHECK_EQ(gateway.server.shared().upload_memory.used_bytes(), 0);
}

TEST_CASE("gateway: a refused body is read on, so that the answer is not lost") {
  GatewayFixture gateway([](GatewayConfig* config) { config->options.upload_bytes_max = 1000; });
  for (int i = 0; i < 20; ++i) {
    RawHttp client = gateway.Connect();
    CHECK(client.Send(Upload("Content-Length: 900000\r\n") + std::string(900'000, 'x')));
    CHECK_EQ(client.Read().status, 413);
    CHECK(client.ReadClose());
  }
}

TEST_CASE("gateway: slow senders get 408, idle connections the end (S01)") {
  GatewayFixture gateway([](GatewayConfig* config) {
    config->options.header_timeout_ms = 1'000;
    config->options.idle_timeout_ms = 2'000;
    config->options.body_window_ms = 1'000;
  });
  RawHttp silent = gateway.Connect();
  RawHttp kept = gateway.Connect();
  CHECK_EQ(kept.Ask(GatewayFixture::Get("/healthz")).status, 200);
  RawHttp head = gateway.Connect();
  CHECK(head.Send("GET /healthz HTTP/1.1\r\n"));
  RawHttp body = gateway.Connect();
  CHECK(body.Send(Upload("Content-Length: 1000\r\n") + "hello"));
  RawHttp chunk = gateway.Connect();
  CHECK(chunk.Send(Upload("Transfer-Encoding: chunked\r\n") + "5\r\nhello"));
  for (RawHttp* slow : {&head, &body, &chunk}) {
    const RawAnswer answer = slow->Read();
    CHECK_EQ(answer.status, 408);
    CHECK_EQ(answer["connection"], "close");
    CHECK(slow->ReadClose());
  }
  CHECK(silent.ReadClose());
  CHECK(kept.ReadClose());
  CHECK_EQ(gateway.server.shared().upload_memory.used_bytes(), 0);
  CHECK_EQ(gateway.server.shared().http_metrics.slow_clients_total.value(), 3);
}

TEST_CASE("gateway: a reader that never reads is reset, and its memory comes back (S01)") {
  GatewayFixture gateway([](GatewayConfig* config) {
    config->options.body_window_ms = 1'000;
    config->options.download_memory_bytes = 1 << 20;
  });
  const std::string id = gateway.UploadId(NoiseBytes(30 << 20));
  const GatewayShared& shared = gateway.server.shared();
  RawHttp reader = gateway.Connect();
  const int small = 4096;
  REQUIRE_EQ(::setsockopt(reader.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
  CHECK(reader.Send(GatewayFixture::Get("/" + id)));
  GatewayFixture::WaitUntil([&] { return shared.download_memory.used_bytes() >= 1 << 20; });
  const RawAnswer refused = gateway.Connect().Ask(GatewayFixture::Get("/" + id));
  CHECK_EQ(refused.status, 503);
  CHECK_EQ(refused["retry-after"], "1");
  GatewayFixture::WaitUntil([&] { return shared.http_metrics.slow_clients_total.value() == 1; });
  GatewayFixture::WaitUntil([&] { return shared.download_memory.used_bytes() == 0; });
}

TEST_CASE("gateway: many readers that never read leave memory for the others (S01)") {
  GatewayFixture gateway(
      [](GatewayConfig* config) { config->options.download_memory_bytes = 8 << 20; });
  const std::string noise = NoiseBytes(16 << 20);
  const std::string id = gateway.UploadId(noise);
  const std::string small = gateway.UploadId("hello");
  const GatewayShared& shared = gateway.server.shared();
  std::vector<RawHttp> readers;
  const int few = 4096;
  for (int i = 0; i < 30; ++i) {
    readers.push_back(gateway.Connect());
    REQUIRE_EQ(::setsockopt(readers.back().fd(), SOL_SOCKET, SO_RCVBUF, &few, sizeof(few)), 0);
    CHECK(readers.back().Send(GatewayFixture::Get("/" + id)));
  }
  GatewayFixture::WaitUntil([&] { return shared.metrics.reads_total.value() == 30; });
  CHECK_GT(shared.download_memory.used_bytes(), 0);
  CHECK_LT(shared.download_memory.used_bytes(), 8 << 20);
  CHECK_EQ(gateway.Connect().Ask(GatewayFixture::Get("/" + small)).body, "hello");
  // Short runs make the same file.
  CHECK(gateway.Connect().Ask(GatewayFixture::Get("/" + id)).body == noise);
}

TEST_CASE("gateway: of what is pipelined behind a slow answer no more than 40 KiB is read (S01)") {
  GatewayFixture gateway;
  const std::string id = gateway.UploadId(NoiseBytes(30 << 20));
  const Counter& received = gateway.server.shared().http_metrics.received_bytes_total;
  const uint64_t before = received.value();
  RawHttp reader = gateway.Connect();
  std::string flood;
  SUBCASE("in one go") { flood = GatewayFixture::Get("/" + id); }
  SUBCASE("behind a chunked body") {
    flood = Upload("Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n" +
            GatewayFixture::Get("/" + id);
  }
  SUBCASE("behind a counted body") {
    flood = Upload("Content-Length: 5\r\n") + "hello" + GatewayFixture::Get("/" + id);
  }
  const std::string behind = GatewayFixture::Get("/healthz");
  while (flood.size() < 150'000) flood += behind;
  CHECK(reader.Send(flood));
  GatewayFixture::WaitUntil([&] { return received.value() - before >= 30'000; });
  // Another request, answered by each of the loops, shows that they had time to read more.
  for (int i = 0; i < 20; ++i) {
    CHECK_EQ(gateway.Connect().Ask(GatewayFixture::Get("/healthz")).status, 200);
  }
  const uint64_t others = 20 * GatewayFixture::Get("/healthz").size();
  CHECK_LT(received.value() - before - others, (40 << 10) + 1'000);
}

TEST_CASE("gateway: uploads beyond their memory get 503 and are not waited for (F56)") {
  GatewayFixture gateway([](GatewayConfig* config) {
    config->options.upload_bytes_max = 1 << 20;
    config->options.upload_memory_bytes = 1'200'000;
  });
  const MemoryBudget& memory = gateway.server.shared().upload_memory;
  RawHttp holder = gateway.Connect();
  CHECK(holder.Send(Upload("Content-Length: 1000000\r\n") + std::string(900'000, 'x')));
  GatewayFixture::WaitUntil([&] { return memory.used_bytes() >= 900'000; });
  const RawAnswer refused =
      gateway.Connect().Ask(Upload("Expect: 100-continue\r\nContent-Length: 500000\r\n"));
  CHECK_EQ(refused.status, 503);
  CHECK_EQ(refused["retry-after"], "1");
  RawHttp chunked = gateway.Connect();
  CHECK(chunked.Send(Upload("Transfer-Encoding: chunked\r\n") + "80000\r\n" +
                     std::string(0x80000, 'x')));
  CHECK_EQ(chunked.Read().status, 503);
  CHECK(holder.Send(std::string(100'000, 'x')));
  CHECK_EQ(holder.Read().status, 201);
  CHECK_EQ(memory.used_bytes(), 0);
}

TEST_CASE("gateway: connections beyond the bounds get 503") {
  SUBCASE("in all") {
    GatewayFixture gateway([](GatewayConfig* config) { config->options.connections_max = 3; });
    std::vector<RawHttp> clients;
    for (int i = 0; i < 3; ++i) {
      clients.push_back(gateway.Connect());
      CHECK_EQ(clients.back().Ask(GatewayFixture::Get("/healthz")).status, 200);
    }
    RawHttp fourth = gateway.Connect();
    const RawAnswer answer = fourth.Read();
    CHECK_EQ(answer.status, 503);
    CHECK_EQ(answer["retry-after"], "1");
    CHECK(fourth.ReadClose());
    clients.pop_back();
    GatewayFixture::WaitUntil(
        [&] { return gateway.Connect().Ask(GatewayFixture::Get("/healthz")).status == 200; });
  }
  SUBCASE("of one address") {
    GatewayFixture gateway(
        [](GatewayConfig* config) { config->options.connections_per_address_max = 1; });
    RawHttp first = gateway.Connect();
    CHECK_EQ(first.Ask(GatewayFixture::Get("/healthz")).status, 200);
    CHECK_EQ(gateway.Connect().Read().status, 503);
  }
}

TEST_CASE("gateway: 2,000 connections are served at once") {
  GatewayFixture gateway;
  const std::string id = gateway.UploadId("hello");
  std::vector<RawHttp> clients;
  for (int i = 0; i < 2'000; ++i) clients.push_back(gateway.Connect());
  for (RawHttp& client : clients) CHECK(client.Send(GatewayFixture::Get("/" + id)));
  for (RawHttp& client : clients) REQUIRE_EQ(client.Read().body, "hello");
}

TEST_CASE("gateway: what the cluster cannot do is said with the right status") {
  GatewayFixture gateway([](GatewayConfig* config) {
    config->options.upload_timeout_ms = 2'000;
    config->options.read_timeout_ms = 1'000;
  });
  const std::string id = gateway.UploadId("hello");
  RawHttp client = gateway.Connect();
  gateway.cluster.append_err.store(Err::kFull);
  gateway.cluster.grant_err.store(Err::kFull);
  const RawAnswer full = client.Ask(GatewayFixture::Post("x"));
  CHECK_EQ(full.status, 507);
  CHECK(full.body.starts_with("{\"error\":\"full\""));
  gateway.cluster.append_err.store(Err::kClosed);
  gateway.cluster.grant_err.store(Err::kNoBlock);
  const RawAnswer no_block = client.Ask(GatewayFixture::Post("x"));
  CHECK_EQ(no_block.status, 503);
  CHECK_EQ(no_block["retry-after"], "1");
  for (const Err err : {Err::kCorrupt, Err::kIo, Err::kLost, Err::kNotServing}) {
    gateway.cluster.read_err.store(err);
    const RawAnswer answer = client.Ask(GatewayFixture::Get("/" + id));
    CHECK_EQ(answer.status, 503);
    CHECK_EQ(answer["retry-after"], "1");
    CHECK_EQ(answer["cache-control"], "no-store");
  }
  gateway.cluster.read_err.store(Err::kOk);
  CHECK_EQ(client.Ask(GatewayFixture::Get("/" + id)).body, "hello");
}

TEST_CASE("gateway: what is refused is told the bound that it missed, or the right place") {
  GatewayFixture gateway([](GatewayConfig* config) { config->options.upload_bytes_max = 5000; });
  const auto message = [&](const std::string& bytes) {
    return GatewayFixture::Member(gateway.Connect().Ask(bytes).body, "message");
  };
  const auto says = [&](const std::string& bytes, const std::string& what) {
    const std::string text = message(bytes);
    CAPTURE(text);
    CHECK_NE(text.find(what), std::string::npos);
  };
  says(Upload("Content-Length: 5001\r\n"), "5000 bytes");
  says(Upload("Transfer-Encoding: chunked\r\n") + "1389\r\n" + std::string(5001, 'x'),
       "5000 bytes");
  const std::string rest = " HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
  for (const char* path : {"/", "/cat.png", "/v1/files/", "/v1/file", "/AAAAAAAAAAAAAAAAAA"}) {
    CAPTURE(path);
    says("POST " + std::string(path) + rest, "POST to /v1/files,");
    says("PUT " + std::string(path) + rest, "PUT to /v1/names/<name>.");
  }
  says("DELETE /AAAAAAAAAAAAAAAAAA" + rest, "DELETE of /v1/files/<id>.");
  CHECK_EQ(message(GatewayFixture::Get("/a/b")), "There is nothing at this path.");
}

TEST_CASE("answers: each error is told in a sentence, and not in words of the cluster's inside") {
  for (uint16_t number = 1; number <= static_cast<uint16_t>(Err::kConfig); ++number) {
    const Err err = ErrFromWire(number);
    REQUIRE_EQ(static_cast<uint16_t>(err), number);
    const std::string sentence = ErrSentence(err);
    CAPTURE(sentence);
    CHECK(sentence.front() == std::toupper(static_cast<unsigned char>(sentence.front())));
    CHECK(sentence.ends_with("."));
    for (const char* inside : {"peer", "this dsp", "this nameserver", "epoch", "the bound"}) {
      CHECK_EQ(sentence.find(inside), std::string::npos);
    }
  }
}
