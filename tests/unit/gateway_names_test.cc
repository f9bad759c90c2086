// Names through the gateway's sockets.
#include "common/io/files.h"
#include "tests/unit/dedup_fixture.h"
#include "tests/unit/temp_folder.h"

using namespace hayloft;

namespace {

const std::string kImage = "\x89PNG\r\n\x1a\n" + NoiseBytes(3'000);
const std::string kOther = "\x89PNG\r\n\x1a\n" + NoiseBytes(2'000, 2);

std::string Request(const std::string& method, const std::string& name,
                    const std::string& headers = "") {
  return method + " /v1/names/" + name + " HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n";
}

std::string Put(const std::string& name, const std::string& body, const std::string& headers = "") {
  return Request("PUT", name, "Content-Length: " + std::to_string(body.size()) + "\r\n" + headers) +
         body;
}

std::string Token(const RawAnswer& answer) {
  return "Hayloft-Name-Token: " + GatewayFixture::Member(answer.body, "name_token") + "\r\n";
}

std::string IdOf(const RawAnswer& answer) { return GatewayFixture::Member(answer.body, "id"); }

}  // namespace

TEST_CASE("gateway_names: a name is given to an upload, read, and taken away") {
  DedupFixture fixture;
  CHECK_EQ(fixture.Ask(Request("GET", "a%2Fb.png")).status, 404);
  const RawAnswer made = fixture.Ask(Put("a%2Fb.png", kImage));
  CHECK_EQ(made.status, 201);
  CHECK_EQ(made["location"], "/v1/names/a%2Fb.png");
  CHECK_EQ(GatewayFixture::Member(made.body, "name"), "a/b.png");
  CHECK_EQ(GatewayFixture::Member(made.body, "content_type"), "image/png");
  CHECK_EQ(made.body.find("delete_token"), std::string::npos);
  const std::string id = IdOf(made);
  for (const std::string name : {"a%2Fb.png", "a/b.png"}) {  // one and the same
    const RawAnswer got = fixture.Ask(Request("GET", name));
    CHECK_EQ(got.status, 200);
    CHECK_EQ(got.body, kImage);
    CHECK_EQ(got["etag"], "\"" + id + "\"");
    CHECK_EQ(got["cache-control"], "public, max-age=60");
    CHECK_EQ(got["last-modified"], "");
    CHECK_EQ(got["content-type"], "image/png");
  }
  const RawAnswer head = fixture.gateway.Connect().Ask(Request("HEAD", "a/b.png"), true);
  CHECK_EQ(head.status, 200);
  CHECK_EQ(head["content-length"], std::to_string(kImage.size()));
  CHECK_EQ(fixture.Get("/" + id).body, kImage);
  CHECK_EQ(fixture.Ask(Request("DELETE", "a/b.png")).status, 401);
  CHECK_EQ(fixture.Ask(Request("DELETE", "a/b.png", "Hayloft-Name-Token: x\r\n")).status, 403);
  CHECK_EQ(fixture.Ask(Request("DELETE", "a/b.png", Token(made))).status, 204);
  CHECK_EQ(fixture.Ask(Request("GET", "a/b.png")).status, 404);
  CHECK_EQ(fixture.Ask(Request("DELETE", "a/b.png", Token(made))).status, 404);
  // The name's reference was the only one.
  GatewayFixture::WaitUntil([&] { return fixture.Get("/" + id).status == 410; });
  const RawAnswer again = fixture.Ask(Put("a/b.png", kOther));
  CHECK_EQ(again.status, 201);
  CHECK_EQ(fixture.Ask(Request("DELETE", "a/b.png", Token(made))).status, 403);  // the old one
  CHECK_EQ(fixture.metrics().names_written_total.value(), 2);
  CHECK_EQ(fixture.metrics().names_deleted_total.value(), 1);
}

TEST_CASE("gateway_names: conditions and ranges are of the file that the name has") {
  DedupFixture fixture;
  const std::string id = IdOf(fixture.Ask(Put("n", kImage)));
  const std::string tag = "\"" + id + "\"";
  const auto get = [&](const std::string& headers) {
    return fixture.Ask(Request("GET", "n", headers));
  };
  CHECK_EQ(get("If-None-Match: " + tag + "\r\n").status, 304);
  CHECK_EQ(get("If-None-Match: \"x\"\r\n").status, 200);
  CHECK_EQ(get("If-Match: \"x\"\r\n").status, 412);
  // What was read before may have been a younger file: no date says that it is fresh.
  CHECK_EQ(get("If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n").status, 200);
  const RawAnswer part = get("Range: bytes=8-17\r\nIf-Range: " + tag + "\r\n");
  CHECK_EQ(part.status, 206);
  CHECK_EQ(part.body, kImage.substr(8, 10));
  CHECK_EQ(get("Range: bytes=8-17\r\nIf-Range: Fri, 01 Jan 2100 00:00:00 GMT\r\n").status, 200);
  CHECK_EQ(fixture.Ask(Request("GET", "n?download")).body, kImage);
}

TEST_CASE("gateway_names: what is there is written over by its token only") {
  DedupFixture fixture;
  const RawAnswer made = fixture.Ask(Put("n", kImage));
  const std::string before = IdOf(made);
  CHECK_EQ(fixture.Ask(Put("n", kOther)).status, 401);
  CHECK_EQ(fixture.Ask(Put("n", kOther, "Hayloft-Name-Token: x\r\n")).status, 403);
  CHECK_EQ(fixture.Ask(Request("GET", "n")).body, kImage);
  const RawAnswer over = fixture.Ask(Put("n", kOther, Token(made)));
  CHECK_EQ(over.status, 200);
  CHECK_EQ(Token(over), Token(made));  // the name keeps it
  CHECK_EQ(fixture.Ask(Request("GET", "n")).body, kOther);
  GatewayFixture::WaitUntil([&] { return fixture.Get("/" + before).status == 410; });
  // A token of one name is not one of another, nor a delete token of its file.
  const RawAnswer second = fixture.Ask(Put("m", kImage));
  CHECK_EQ(fixture.Ask(Put("n", kImage, Token(second))).status, 403);
  CHECK_EQ(fixture.Delete("/" + IdOf(over), GatewayFixture::Member(over.body, "name_token")).status,
           403);
}

TEST_CASE("gateway_names: If-None-Match and If-Match say when a name may be written") {
  DedupFixture fixture;
  CHECK_EQ(fixture.Ask(Put("n", kImage, "If-Match: *\r\n")).status, 412);
  const RawAnswer made = fixture.Ask(Put("n", kImage, "If-None-Match: *\r\n"));
  CHECK_EQ(made.status, 201);
  const std::string token = Token(made);
  CHECK_EQ(fixture.Ask(Put("n", kOther, token + "If-None-Match: *\r\n")).status, 412);
  CHECK_EQ(fixture.Ask(Put("n", kOther, token + "If-Match: \"x\"\r\n")).status, 412);
  CHECK_EQ(fixture.Ask(Request("DELETE", "n", token + "If-Match: \"x\"\r\n")).status, 412);
  CHECK_EQ(fixture.gateway.cluster.files(), 1);  // nothing was stored for those
  const std::string tag = "If-Match: \"" + IdOf(made) + "\"\r\n";
  const RawAnswer over = fixture.Ask(Put("n", kOther, token + tag));
  CHECK_EQ(over.status, 200);
  CHECK_EQ(fixture.Ask(Put("n", kImage, token + tag)).status, 412);
  CHECK_EQ(
      fixture.Ask(Request("DELETE", "n", token + "If-Match: \"" + IdOf(over) + "\"\r\n")).status,
      204);
}

TEST_CASE("gateway_names: a file that is there gets a name, and lives as long as that") {
  DedupFixture fixture;
  for (const bool recorded : {true, false}) {
    CAPTURE(recorded);
    const std::string name = recorded ? "known" : "unknown";
    const RawAnswer file = fixture.Post(kImage + name, recorded ? "" : "Hayloft-Dedup: no\r\n");
    const std::string by_id = "Hayloft-Id: " + IdOf(file) + "\r\n";
    const RawAnswer made = fixture.Ask(Request("PUT", name, by_id));
    CHECK_EQ(made.status, 201);
    CHECK_EQ(IdOf(made), IdOf(file));
    CHECK_NE(made.body.find("\"size\":" + std::to_string(kImage.size() + name.size())),
             std::string::npos);
    const std::string token = GatewayFixture::Member(file.body, "delete_token");
    CHECK_EQ(fixture.Delete(file["location"], token).status, 204);
    CHECK_EQ(fixture.Ask(Request("GET", name)).body, kImage + name);
    CHECK_EQ(fixture.Ask(Request("DELETE", name, Token(made))).status, 204);
    GatewayFixture::WaitUntil([&] { return fixture.Get(file["location"]).status == 410; });
    CHECK_EQ(fixture.Ask(Request("PUT", "gone", by_id)).status, 410);
  }
  const std::string unknown = "Hayloft-Id: " + std::string(17, 'B') + "A\r\n";
  CHECK_EQ(fixture.Ask(Request("PUT", "n", unknown)).status, 404);
  CHECK_EQ(fixture.Ask(Request("PUT", "n", "Hayloft-Id: x\r\n")).status, 400);
  CHECK_EQ(fixture.Ask(Put("n", kImage, unknown)).status, 400);
  CHECK_EQ(fixture.Ask(Request("GET", "n")).status, 404);
}

TEST_CASE("gateway_names: of writers at the same time one wins, and no file is left over") {
  DedupFixture fixture;
  const RawAnswer made = fixture.Ask(Put("n", kImage));
  fixture.gateway.cluster.hold_appends = true;
  std::vector<RawHttp> clients;
  for (uint64_t i = 0; i < 4; ++i) {
    clients.push_back(fixture.gateway.Connect());
    clients.back().Send(Put("n", NoiseBytes(900, 10 + i), Token(made)));
  }
  const uint64_t before = 1;
  GatewayFixture::WaitUntil([&] { return fixture.gateway.cluster.appends == before + 4; });
  fixture.gateway.cluster.ReleaseAppends();
  size_t won = 0;
  size_t winner = 0;
  for (size_t i = 0; i < clients.size(); ++i) {
    const RawAnswer answer = clients[i].Read();
    if (answer.status == 200) {
      ++won;
      winner = i;
      continue;
    }
    CHECK_EQ(answer.status, 409);
    CHECK_EQ(GatewayFixture::Member(answer.body, "error"), "conflict");
  }
  CHECK_EQ(won, 1);
  CHECK_EQ(fixture.Ask(Request("GET", "n")).body, NoiseBytes(900, 10 + winner));
  // The losers' images went with the references that they had; so did the one before.
  GatewayFixture::WaitUntil([&] { return fixture.gateway.cluster.live_files() == 1; });
}

TEST_CASE("gateway_names: names are listed in order, page by page") {
  DedupFixture fixture;
  for (const std::string name : {"b", "a%2F1", "a%2F2", "%C3%A4", "c"}) {
    REQUIRE_EQ(fixture.Ask(Put(name, kImage)).status, 201);
  }
  CHECK_EQ(fixture.gateway.cluster.files(), 1);
  const auto list = [&](const std::string& query) {
    const RawAnswer answer = fixture.Get("/v1/names" + query);
    CHECK_EQ(answer.status, 200);
    CHECK_EQ(answer["cache-control"], "no-store");
    std::vector<std::string> names;
    const std::string key = "\"name\":\"";
    for (size_t at = answer.body.find(key); at != std::string::npos;
         at = answer.body.find(key, at + 1)) {
      const size_t begin = at + key.size();
      names.push_back(answer.body.substr(begin, answer.body.find('"', begin) - begin));
    }
    const bool more = answer.body.find("\"after\"") != std::string::npos;
    if (more) names.push_back("after " + GatewayFixture::Member(answer.body, "after"));
    return names;
  };
  using Names = std::vector<std::string>;
  CHECK_EQ(list(""), Names{"a/1", "a/2", "b", "c", "\xc3\xa4"});
  CHECK_EQ(list("?prefix=a%2F"), Names{"a/1", "a/2"});
  CHECK_EQ(list("?limit=2"), Names{"a/1", "a/2", "after a/2"});
  CHECK_EQ(list("?limit=2&after=a%2F2"), Names{"b", "c", "after c"});
  CHECK_EQ(list("?after=c"), Names{"\xc3\xa4"});
  CHECK_EQ(list("?prefix=x"), Names{});
  CHECK_EQ(fixture.Get("/v1/names?limit=0").status, 400);
  CHECK_EQ(fixture.Get("/v1/names?prefix=%ff").status, 400);
}

TEST_CASE("gateway_names: what is no name, or no upload, is refused") {
  DedupFixture fixture;
  for (const std::string& name :
       std::vector<std::string>{"", "%ff", "%", std::string(1'025, 'n')}) {
    CAPTURE(name);
    for (const std::string method : {"GET", "PUT", "DELETE"}) {
      CHECK_EQ(fixture.Ask(Request(method, name)).status, 400);
    }
  }
  CHECK_EQ(fixture.Ask(Put(std::string(1'024, 'n'), kImage)).status, 201);
  CHECK_EQ(fixture.Ask(Put("n", "")).status, 400);
  CHECK_EQ(fixture.Ask(Put("n", kImage, "Idempotency-Key: 0123456789abcdef\r\n")).status, 400);
  CHECK_EQ(fixture.Ask(Put("n", "x", "Content-Type: multipart/form-data; boundary=b\r\n")).status,
           415);
  CHECK_EQ(fixture.Ask(Put("n", kImage, "Content-MD5: kAFQmDzST7DWlj99KOF/cg==\r\n")).status, 400);
  const RawAnswer wrong = fixture.Ask(Request("POST", "n", "Content-Length: 0\r\n"));
  CHECK_EQ(wrong.status, 405);
  CHECK_EQ(wrong["allow"], "GET, HEAD, PUT, DELETE, OPTIONS");
  CHECK_EQ(fixture.Ask(Request("GET", "n")).status, 404);
}

TEST_CASE("gateway_names: 501 without a directory, 503 while it does not answer") {
  const GatewayFixture gateway;
  CHECK_EQ(gateway.Connect().Ask(Put("n", kImage)).status, 501);
  CHECK_EQ(gateway.Connect().Ask(Request("GET", "n")).status, 501);
  CHECK_EQ(gateway.Connect().Ask(GatewayFixture::Get("/v1/names")).status, 501);
  DedupFixture fixture([](GatewayConfig* config) {
    config->options.upload_timeout_ms = config->options.read_timeout_ms = 300;
  });
  const RawAnswer made = fixture.Ask(Put("n", kImage));
  fixture.directory->silent = true;
  for (const std::string& request :
       {Request("GET", "n"), Put("n", kOther), Request("DELETE", "n", Token(made)),
        Request("PUT", "m", "Hayloft-Id: " + IdOf(made) + "\r\n"),
        GatewayFixture::Get("/v1/names")}) {
    const RawAnswer answer = fixture.Ask(request);
    CHECK_EQ(answer.status, 503);
    CHECK_NE(answer["retry-after"], "");
  }
  CHECK_EQ(fixture.gateway.server.shared().upload_memory.used_bytes(), 0);
}

TEST_CASE("gateway_names: a delete whose first answer was lost is 204, not 404") {
  DedupFixture fixture;
  const RawAnswer made = fixture.Ask(Put("n", kImage));
  fixture.directory->broken = MessageType::kDirNameDelete;
  CHECK_EQ(fixture.Ask(Request("DELETE", "n", Token(made))).status, 204);
  CHECK_EQ(fixture.Ask(Request("GET", "n")).status, 404);
}

TEST_CASE("gateway_names: what was taken for a name is given back when it was surely not written") {
  DedupFixture fixture([](GatewayConfig* config) { config->options.upload_timeout_ms = 500; });
  const RawAnswer made = fixture.Post(kImage);
  fixture.directory->busy = MessageType::kDirNamePut;
  CHECK_EQ(fixture.Ask(Put("n", kImage)).status, 503);
  // The uploader's reference is the only one again.
  const std::string token = GatewayFixture::Member(made.body, "delete_token");
  CHECK_EQ(fixture.Delete(made["location"], token).status, 204);
  CHECK_EQ(fixture.Get(made["location"]).status, 410);
}

TEST_CASE("gateway_names: an upload key writes over any name, and is needed for the list") {
  const TempFolder folder;
  const std::string keys = "shop " + ToHex(Sha256Of(AsBytes(UploadKeyText({1})))) + "\n";
  REQUIRE_EQ(ReplaceFile(folder / "keys", keys, 0600), Err::kOk);
  DedupFixture fixture(
      [&](GatewayConfig* config) { config->options.upload_keys = folder / "keys"; });
  const std::string shop = "Authorization: Bearer " + UploadKeyText({1}) + "\r\n";
  const std::string wrong = "Authorization: Bearer " + UploadKeyText({2}) + "\r\n";
  CHECK_EQ(fixture.Ask(Put("n", kImage)).status, 401);
  const RawAnswer made = fixture.Ask(Put("n", kImage, shop));
  CHECK_EQ(made.status, 201);
  CHECK_EQ(fixture.Ask(Put("n", kOther, shop)).status, 200);
  CHECK_EQ(fixture.Ask(Put("n", kImage, Token(made))).status, 401);  // uploads need a key
  CHECK_EQ(fixture.Ask(Request("GET", "n")).body, kOther);
  CHECK_EQ(fixture.Get("/v1/names").status, 401);
  CHECK_EQ(fixture.Ask("GET /v1/names HTTP/1.1\r\nHost: h\r\n" + shop + "\r\n").status, 200);
  CHECK_EQ(fixture.Ask(Request("DELETE", "n")).status, 401);
  CHECK_EQ(fixture.Ask(Request("DELETE", "n", wrong + Token(made))).status, 403);
  CHECK_EQ(fixture.Ask(Request("DELETE", "n", shop)).status, 204);
}
