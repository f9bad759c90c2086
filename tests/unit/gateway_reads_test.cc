// The gateway's answers to readers, through its sockets: what caches and browsers are told.
#include "common/codec.h"
#include "tests/unit/gateway_fixture.h"

using namespace hayloft;

namespace {

const std::string kUnknownFile = "/AAAAAAAAAAAAAAAAAA";

std::string Head(const std::string& path, const std::string& headers = "") {
  return "HEAD " + path + " HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n";
}

// Text that is stored as zstd.
std::string Words(size_t size) {
  std::string words;
  for (int i = 0; words.size() < size; ++i) words += "word " + std::to_string(i) + "\n";
  return words.substr(0, size);
}

// The body of a 206 with several parts, written down apart from the code that sends it.
std::string PartsOf(const std::string& id, const std::string& file, const std::string& type,
                    const std::vector<std::pair<size_t, size_t>>& parts) {
  std::string body;
  for (const auto& [first, last] : parts) {
    body += body.empty() ? "" : "\r\n";
    body += "--hayloft-" + id + "\r\nContent-Type: " + type + "\r\nContent-Range: bytes " +
            std::to_string(first) + "-" + std::to_string(last) + "/" + std::to_string(file.size()) +
            "\r\n\r\n" + file.substr(first, last - first + 1);
  }
  return body + "\r\n--hayloft-" + id + "--\r\n";
}

// A file that is stored as zstd, and both of its forms.
struct TwoForms {
  RawAnswer ask(const std::string& headers) {
    return client.Ask(GatewayFixture::Get("/" + id, headers));
  }
  GatewayFixture gateway;
  const std::string file = Words(300'000);
  const std::string id = gateway.UploadId(file, "Content-Type: text/plain\r\n");
  const std::string plain_tag = "\"" + id + "\"";
  const std::string zstd_tag = "\"" + id + "-zstd\"";
  const std::string zstd = "Accept-Encoding: gzip, zstd\r\n";
  RawHttp client = gateway.Connect();
  const RawAnswer plain = ask("");
  const RawAnswer coded = ask(zstd);
};

}  // namespace

TEST_CASE("gateway_reads: how long an answer may be kept follows the options, errors never long") {
  GatewayFixture gateway([](GatewayConfig* config) {
    config->options.max_age_s = 60;
    config->options.stale_if_error_s = 600;
    config->options.not_found_max_age_s = 5;
  });
  const std::string id = gateway.UploadId(NoiseBytes(1000));
  RawHttp client = gateway.Connect();
  const auto cache_control = [&](const std::string& path, const std::string& headers, int status) {
    const RawAnswer answer = client.Ask(GatewayFixture::Get(path, headers));
    CHECK_EQ(answer.status, status);
    return answer["cache-control"];
  };
  const std::string kept = "public, max-age=60, immutable, stale-if-error=600";
  CHECK_EQ(cache_control("/" + id, "", 200), kept);
  CHECK_EQ(cache_control("/" + id, "Range: bytes=0-9\r\n", 206), kept);
  CHECK_EQ(cache_control("/" + id, "If-None-Match: *\r\n", 304), kept);
  CHECK_EQ(cache_control(kUnknownFile, "", 404), "public, max-age=5");
  // These say nothing of the file itself.
  CHECK_EQ(cache_control("/x", "", 400), "no-store");
  CHECK_EQ(cache_control("/favicon.ico", "", 404), "no-store");
  CHECK_EQ(cache_control("/" + id, "If-Match: \"x\"\r\n", 412), "no-store");
  CHECK_EQ(cache_control("/" + id, "Range: bytes=1000-\r\n", 416), "no-store");
  gateway.cluster.read_err.store(Err::kUnsupported);
  const RawAnswer failed = client.Ask(GatewayFixture::Get("/" + id));
  CHECK_GE(failed.status, 500);
  CHECK_EQ(failed["cache-control"], "no-store");
}

TEST_CASE("gateway_reads: pages of any origin may read; those that are listed may upload") {
  GatewayFixture gateway(
      [](GatewayConfig* config) { config->options.cors_origins = "https://a.example"; });
  const std::string id = gateway.UploadId(NoiseBytes(1000));
  RawHttp client = gateway.Connect();
  const std::string foreign = "Origin: https://x.example\r\n";
  for (const std::string& headers : {foreign, std::string(), std::string("If-None-Match: *\r\n"),
                                     std::string("Range: bytes=1000-\r\n")}) {
    const RawAnswer answer = client.Ask(GatewayFixture::Get("/" + id, headers));
    CHECK_EQ(answer["access-control-allow-origin"], "*");
    CHECK_EQ(answer["access-control-allow-credentials"], "");
    CHECK_EQ(answer["vary"], "");
  }
  CHECK_EQ(client.Ask(GatewayFixture::Get(kUnknownFile))["access-control-allow-origin"], "*");
  CHECK_EQ(client.Ask(GatewayFixture::Get("/healthz"))["access-control-allow-origin"], "");
  const auto options = [&](const std::string& path, const std::string& headers) {
    return client.Ask("OPTIONS " + path + " HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n");
  };
  const RawAnswer plain = options("/" + id, "");
  CHECK_EQ(plain.status, 204);
  CHECK_EQ(plain["allow"], "GET, HEAD, OPTIONS");
  CHECK_EQ(plain["access-control-allow-origin"], "");
  CHECK_EQ(options("*", "")["allow"], "GET, HEAD, POST, PUT, DELETE, OPTIONS");
  CHECK_EQ(options("/x", "").status, 400);
  const std::string wants = "Access-Control-Request-Method: POST\r\n";
  CHECK_EQ(options("/" + id, foreign + wants)["access-control-allow-methods"], "GET, HEAD");
  CHECK_EQ(options("/v1/files", foreign + wants)["access-control-allow-origin"], "");
  const std::string listed = "Origin: https://a.example\r\n";
  CHECK_EQ(options("/v1/files", listed + wants)["access-control-allow-origin"],
           "https://a.example");
  const RawAnswer stored = client.Ask(GatewayFixture::Post("hello", listed));
  CHECK_EQ(stored.status, 201);
  CHECK_EQ(stored["access-control-allow-origin"], "https://a.example");
  CHECK_EQ(stored["vary"], "Origin");
  const RawAnswer refused = gateway.Connect().Ask(GatewayFixture::Post("hello", foreign));
  CHECK_EQ(refused.status, 421);  // "h" could be anyone's name
  CHECK_EQ(refused["access-control-allow-origin"], "");
}

TEST_CASE("gateway_reads: several ranges come in one body of a length that is known (S06)") {
  GatewayFixture gateway;
  const std::string type = "application/x-noise";
  for (const std::string& file : {NoiseBytes(1000), NoiseBytes((5 << 20) + 77), Words(900'000)}) {
    const std::string id = gateway.UploadId(file, "Content-Type: " + type + "\r\n");
    const size_t end = file.size() - 1;
    RawHttp client = gateway.Connect();
    const auto ask = [&](const std::string& ranges, const std::string& headers = "") {
      return client.Ask(GatewayFixture::Get("/" + id, "Range: bytes=" + ranges + "\r\n" + headers));
    };
    const auto check = [&](const RawAnswer& answer,
                           const std::vector<std::pair<size_t, size_t>>& parts) {
      CHECK_EQ(answer.status, 206);
      CHECK_EQ(answer["content-type"], "multipart/byteranges; boundary=hayloft-" + id);
      CHECK_EQ(answer["content-range"], "");
      CHECK_EQ(answer["etag"], "\"" + id + "\"");
      CHECK(answer.body == PartsOf(id, file, type, parts));
    };
    check(ask("0-9,20-29"), {{0, 9}, {20, 29}});
    check(ask("-10,0-0, 5-6,99999999-"), {{end - 9, end}, {0, 0}, {5, 6}});
    check(ask("500-,0-9"), {{500, end}, {0, 9}});
    check(ask("0-9,20-29", "If-Range: \"" + id + "\"\r\n"), {{0, 9}, {20, 29}});
    check(ask("0-9,20-29", "If-Range: Tue, 14 Nov 2023 22:13:20 GMT\r\n"), {{0, 9}, {20, 29}});
    const RawAnswer one = ask("5-9,0-4");
    CHECK_EQ(one.status, 206);
    CHECK_EQ(one["content-range"], "bytes 0-9/" + std::to_string(file.size()));
    CHECK_EQ(one["content-type"], type);
    // More than the file, by overlaps: a peer's answer was 200 without a body.
    const RawAnswer all = ask("0-,0-,0-,-1");
    CHECK_EQ(all.status, 206);
    CHECK(all.body == file);
    const RawAnswer none = ask("99999999-,-0");
    CHECK_EQ(none.status, 416);
    CHECK_EQ(none["content-range"], "bytes */" + std::to_string(file.size()));
    std::string many = "0-0";
    for (int i = 1; i <= 16; ++i) many += "," + std::to_string(2 * i) + "-" + std::to_string(2 * i);
    for (const RawAnswer& whole :
         {ask(many), ask("0-9,x"), ask("0-9,20-29", "If-Range: \"x\"\r\n")}) {
      CHECK_EQ(whole.status, 200);
      CHECK(whole.body == file);
    }
  }
}

TEST_CASE("gateway_reads: near parts cost one read of the cluster, far ones are read in runs") {
  GatewayFixture gateway;
  const std::string file = NoiseBytes(8 << 20);
  const std::string id = gateway.UploadId(file);
  RawHttp client = gateway.Connect();
  const auto reads_of = [&](const std::string& ranges) {
    const uint64_t before = gateway.cluster.reads;
    CHECK_EQ(client.Ask(GatewayFixture::Get("/" + id, "Range: bytes=" + ranges + "\r\n")).status,
             206);
    return gateway.cluster.reads - before;
  };
  CHECK_EQ(reads_of("0-99"), 1);
  CHECK_EQ(reads_of("0-99,1000-1099,500-599,900000-900099"), 2);  // the size, then all at once
  CHECK_EQ(reads_of("0-99,5000000-5000099"), 3);
  CHECK_EQ(reads_of("0-3145727,5000000-5000099"), 5);
  // The next run is read when the reader has taken the last one, and breaks off when it fails.
  gateway.cluster.reads_before_err = 3;
  gateway.cluster.read_err.store(Err::kNotFound);
  CHECK(client.Send(GatewayFixture::Get("/" + id, "Range: bytes=0-4194303,5000000-\r\n")));
  CHECK_EQ(client.Read().status, 0);
  bool reset = false;
  (void)client.ReadClose(&reset);
  CHECK(reset);
}

TEST_CASE("gateway_reads: a dsp that sends too little, or another form, breaks that answer (F13)") {
  GatewayFixture gateway([](GatewayConfig* config) { config->options.read_timeout_ms = 500; });
  const std::string file = NoiseBytes(5 << 20);
  const std::string id = gateway.UploadId(file);
  const std::string coded = gateway.UploadId(Words(900'000), "Content-Type: text/plain\r\n");
  const std::string several = "Range: bytes=1000000-2999999,4000000-4999999\r\n";
  const auto ask = [&](const std::string& headers, int reads_before_lie) {
    gateway.cluster.reads_before_lie = reads_before_lie;
    return gateway.Connect().Ask(GatewayFixture::Get("/" + id, headers)).status;
  };
  SUBCASE("too little: it is asked for again, in vain") {
    gateway.cluster.read_bytes_max = 8;
    CHECK_EQ(ask(several, 0), 503);
    CHECK_EQ(ask(several, 1), 0);  // broken off: its end does not come
  }
  SUBCASE("the same file, shorter and stored as zstd") {
    gateway.cluster.bytes_of = ParseFileAddress(coded)->file_id.value;
    CHECK_EQ(ask(several, 0), 503);
    for (const int reads_before_lie : {1, 2, 3}) {
      CHECK_EQ(ask("", reads_before_lie), 0);
      CHECK_EQ(ask("Range: bytes=1000000-4999999\r\n", reads_before_lie), 0);
      if (reads_before_lie < 3) CHECK_EQ(ask(several, reads_before_lie), 0);
    }
  }
  gateway.cluster.read_bytes_max = UINT64_MAX;
  gateway.cluster.bytes_of = 0;
  CHECK(gateway.Connect().Ask(GatewayFixture::Get("/" + id)).body == file);
}

TEST_CASE_FIXTURE(TwoForms,
                  "gateway_reads: what is stored as zstd is sent so to those who take it") {
  CHECK_EQ(plain["etag"], plain_tag);
  CHECK_EQ(plain["content-encoding"], "");
  CHECK_EQ(plain["vary"], "Accept-Encoding");
  CHECK(plain.body == file);
  CHECK_EQ(coded.status, 200);
  CHECK_EQ(coded["etag"], zstd_tag);
  CHECK_EQ(coded["content-encoding"], "zstd");
  CHECK_EQ(coded["content-type"], "text/plain");
  CHECK_EQ(coded["vary"], "Accept-Encoding");
  CHECK_EQ(coded["last-modified"], plain["last-modified"]);
  CHECK_LT(coded.body.size(), file.size());
  const Result<Buffer> raw = Decompress(AsBytes(coded.body), file.size());
  REQUIRE(raw.ok());
  CHECK(AsText(raw->bytes()) == file);
  CHECK_EQ(ask("Accept-Encoding: zstd;q=0, *\r\n")["etag"], plain_tag);
  CHECK_EQ(ask("Accept-Encoding: identity;q=0\r\n")["etag"], plain_tag);
}

TEST_CASE_FIXTURE(TwoForms, "gateway_reads: HEAD has the fields of GET, of each form") {
  for (const std::string& headers : {std::string(), zstd}) {
    RawAnswer get = ask(headers);
    RawAnswer head = client.Ask(Head("/" + id, headers + "Range: bytes=0-1\r\n"), true);
    CHECK_EQ(head.status, 200);
    for (const char* name : {"date", "x-request-id"}) {
      get.fields.erase(name);
      head.fields.erase(name);
    }
    CHECK_EQ(head.fields, get.fields);
  }
}

TEST_CASE_FIXTURE(TwoForms, "gateway_reads: a tag is of one form only") {
  for (const std::string& field :
       {"If-None-Match: W/" + zstd_tag, "If-None-Match: \"a\", " + zstd_tag,
        std::string("If-None-Match: *")}) {
    const RawAnswer same = ask(zstd + field + "\r\n");
    CHECK_EQ(same.status, 304);
    CHECK_EQ(same["etag"], zstd_tag);
    CHECK_EQ(same["vary"], "Accept-Encoding");
    CHECK_EQ(same["cache-control"], coded["cache-control"]);
    CHECK_EQ(same["content-encoding"], "");
  }
  CHECK_EQ(ask("If-None-Match: " + plain_tag + "\r\n")["vary"], "Accept-Encoding");
  CHECK_EQ(ask("If-None-Match: " + zstd_tag + "\r\n").body.size(), file.size());
  const RawAnswer other = ask(zstd + "If-None-Match: " + plain_tag + "\r\n");
  CHECK_EQ(other.status, 200);
  CHECK(other.body == coded.body);
  CHECK_EQ(ask(zstd + "If-Match: " + plain_tag + "\r\n").status, 412);
  CHECK_EQ(ask(zstd + "If-Match: " + zstd_tag + "\r\n").body, coded.body);
  CHECK_EQ(ask("If-Match: " + zstd_tag + "\r\n").status, 412);
}

TEST_CASE_FIXTURE(TwoForms, "gateway_reads: ranges are of the form that is sent") {
  const size_t size = coded.body.size();
  const RawAnswer part = ask(zstd + "Range: bytes=10-19\r\n");
  CHECK_EQ(part.status, 206);
  CHECK_EQ(part["content-range"], "bytes 10-19/" + std::to_string(size));
  CHECK_EQ(part["content-encoding"], "zstd");
  CHECK_EQ(part["etag"], zstd_tag);
  CHECK_EQ(part["vary"], "Accept-Encoding");
  CHECK(part.body == coded.body.substr(10, 10));
  CHECK(ask(zstd + "Range: bytes=-7\r\n").body == coded.body.substr(size - 7));
  CHECK_EQ(ask(zstd + "Range: bytes=" + std::to_string(size) + "-\r\n")["content-range"],
           "bytes */" + std::to_string(size));
  CHECK_EQ(ask("Range: bytes=" + std::to_string(size) + "-\r\n").status, 206);
  CHECK(ask(zstd + "Range: bytes=0-9,20-29\r\n").body == coded.body);
  CHECK_EQ(ask("Range: bytes=0-9,20-29\r\n")["vary"], "Accept-Encoding");
  CHECK(ask(zstd + "Range: bytes=0-9\r\nIf-Range: " + zstd_tag + "\r\n").body ==
        coded.body.substr(0, 10));
  CHECK(ask(zstd + "Range: bytes=0-9\r\nIf-Range: " + plain_tag + "\r\n").body == coded.body);
  CHECK(ask("Range: bytes=0-9\r\nIf-Range: " + zstd_tag + "\r\n").body == file);
  CHECK(ask("Range: bytes=0-9\r\nIf-Range: " + plain_tag + "\r\n").body == file.substr(0, 10));
}

TEST_CASE("gateway_reads: an image does not vary, and costs one read whatever the client takes") {
  GatewayFixture gateway;
  const std::string file = NoiseBytes(10'000);
  const std::string id = gateway.UploadId(file, "Content-Type: image/png\r\n");
  const std::string zstd = "Accept-Encoding: gzip, deflate, br, zstd\r\n";
  RawHttp client = gateway.Connect();
  for (const std::string& headers :
       {std::string(), zstd, zstd + "Range: bytes=0-99\r\n",
        zstd + "Range: bytes=0-99\r\nIf-Range: \"" + id + "\"\r\n",
        zstd + "If-None-Match: \"" + id + "\"\r\n", zstd + "If-Match: *\r\n",
        std::string("Accept-Encoding: identity;q=0\r\n")}) {
    CAPTURE(headers);
    const uint64_t before = gateway.cluster.reads;
    const RawAnswer answer = client.Ask(GatewayFixture::Get("/" + id, headers));
    // If-Range names the tag of one form: which one is there is asked first.
    const bool asks_first = headers.find("If-Range") != std::string::npos;
    CHECK_EQ(gateway.cluster.reads - before, asks_first ? 2 : 1);
    CHECK_LT(answer.status, 400);
    CHECK_EQ(answer["vary"], "");
    CHECK_EQ(answer["content-encoding"], "");
    CHECK_EQ(answer["etag"], "\"" + id + "\"");
  }
  // The tag that it would have as zstd is of nothing.
  const std::string tag = "\"" + id + "-zstd\"";
  CHECK(client.Ask(GatewayFixture::Get("/" + id, zstd + "If-None-Match: " + tag + "\r\n")).body ==
        file);
  CHECK_EQ(client.Ask(GatewayFixture::Get("/" + id, zstd + "If-Match: " + tag + "\r\n")).status,
           412);
  CHECK(client
            .Ask(GatewayFixture::Get("/" + id,
                                     zstd + "Range: bytes=0-9\r\nIf-Range: " + tag + "\r\n"))
            .body == file);
}

TEST_CASE("gateway_reads: ?download names the file to be saved; no parameter changes what it is") {
  GatewayFixture gateway;
  const std::string file = "\x89PNG\r\n\x1a\n" + NoiseBytes(1000);
  const std::string id = gateway.UploadId(file);
  RawHttp client = gateway.Connect();
  const RawAnswer plain = client.Ask(GatewayFixture::Get("/" + id));
  const auto disposition = [&](const std::string& query) {
    const RawAnswer answer = client.Ask(GatewayFixture::Get("/" + id + query));
    CHECK_EQ(answer.status, 200);
    CHECK(answer.body == file);
    CHECK_EQ(answer["content-type"], "image/png");
    CHECK_EQ(answer["etag"], plain["etag"]);
    return answer["content-disposition"];
  };
  CHECK_EQ(disposition("?download"), "attachment; filename=\"" + id + ".png\"");
  CHECK_EQ(disposition("?download="), "attachment; filename=\"" + id + ".png\"");
  CHECK_EQ(disposition(".html?download=my+cat.png"), "attachment; filename=\"my cat.png\"");
  CHECK_EQ(disposition("?x=1&download=%C3%A4.png&download=b"),
           "attachment; filename=\"_.png\"; filename*=UTF-8''%C3%A4.png");
  for (const char* query : {"", "?", "?%", "?x=%zz", "?response-content-type=text/html",
                            "?content-type=text/html&type=text/html", "?DOWNLOAD=x"}) {
    CAPTURE(query);
    CHECK_EQ(disposition(query), "");
  }
  for (const char* name :
       {"..", "a%2fb", "a%5cb", "a%0d%0aSet-Cookie:x", "%", "%ff", "a%00", "%E2%80%AEgpj.exe"}) {
    CAPTURE(name);
    const RawAnswer answer =
        client.Ask(GatewayFixture::Get("/" + id + "?download=" + std::string(name)));
    CHECK_EQ(answer.status, 400);
    CHECK_EQ(answer["content-disposition"], "");
    CHECK_EQ(answer["set-cookie"], "");
  }
  CHECK_EQ(client.Ask(Head("/" + id + "?download=a"), true)["content-disposition"],
           "attachment; filename=\"a\"");
  const RawAnswer part =
      client.Ask(GatewayFixture::Get("/" + id + "?download=a", "Range: bytes=0-9\r\n"));
  CHECK_EQ(part["content-disposition"], "attachment; filename=\"a\"");
}
