// Uploads and deletes of a gateway that asks a directory, through its sockets.
#include "common/io/files.h"
#include "tests/unit/dedup_fixture.h"
#include "tests/unit/temp_folder.h"

using namespace hayloft;

namespace {

const std::string kImage = "\x89PNG\r\n\x1a\n" + NoiseBytes(3'000);
const std::string kKey = "Idempotency-Key: 0123456789abcdef\r\n";

std::string TokenOf(const RawAnswer& answer) {
  return GatewayFixture::Member(answer.body, "delete_token");
}

bool IsDuplicate(const std::string& json) {
  const bool yes = json.find("\"duplicate\":true") != std::string::npos;
  CHECK_NE(yes, json.find("\"duplicate\":false") != std::string::npos);
  return yes;
}

}  // namespace

TEST_CASE("gateway_dedup: the same image is stored once, and each uploader has a token") {
  DedupFixture fixture;
  const RawAnswer first = fixture.Post(kImage);
  const RawAnswer second = fixture.Post(kImage);
  CHECK_EQ(first.status, 201);
  CHECK_EQ(second.status, 200);
  CHECK_FALSE(IsDuplicate(first.body));
  CHECK(IsDuplicate(second.body));
  CHECK_EQ(second["location"], first["location"]);
  for (const std::string member : {"id", "url", "sha1", "content_type"}) {
    CHECK_EQ(GatewayFixture::Member(second.body, member),
             GatewayFixture::Member(first.body, member));
  }
  CHECK_NE(TokenOf(first), TokenOf(second));
  CHECK_EQ(fixture.gateway.cluster.files(), 1);
  const GatewayMetrics& metrics = fixture.metrics();
  CHECK_EQ(metrics.uploads_total.value(), 1);
  CHECK_EQ(metrics.upload_bytes_total.value(), kImage.size());
  CHECK_EQ(metrics.duplicates_total.value(), 1);
  CHECK_EQ(metrics.uploads_unchecked_total.value(), 0);
  CHECK_EQ(fixture.gateway.server.shared().upload_memory.used_bytes(), 0);
}

TEST_CASE("gateway_dedup: what a reader would notice makes two images") {
  DedupFixture fixture;
  fixture.Post("text that is stored");
  CHECK_EQ(fixture.Post("text that is stored", "Content-Type: text/csv\r\n").status, 201);
  CHECK_EQ(fixture.Post("text that is stored", "X-Hayloft-Album: 7\r\n").status, 201);
  CHECK_EQ(fixture.Post("text that is stored", "Cache-Tag: cats\r\n").status, 201);
  CHECK_EQ(fixture.Post("text that is stored", "Cache-Tag: cats\r\n").status, 200);
  CHECK_EQ(fixture.gateway.cluster.files(), 4);
}

TEST_CASE("gateway_dedup: a delete takes its own reference, the last one takes the file (F44)") {
  DedupFixture fixture;
  const RawAnswer first = fixture.Post(kImage);
  const RawAnswer second = fixture.Post(kImage);
  const std::string path = first["location"];
  for (int i = 0; i < 3; ++i) CHECK_EQ(fixture.Delete(path, TokenOf(first)).status, 204);
  CHECK_EQ(fixture.Get(path).status, 200);
  CHECK_EQ(fixture.Delete(path, TokenOf(first).replace(30, 1, "~")).status, 403);
  CHECK_EQ(fixture.Delete("/AAAAAAAAAAAAAAAAAA", TokenOf(first)).status, 403);
  CHECK_EQ(fixture.Delete(path, "").status, 401);
  CHECK_EQ(fixture.Undelete(path, TokenOf(first)).status, 200);
  CHECK_EQ(fixture.Delete(path, TokenOf(second)).status, 204);
  CHECK_EQ(fixture.Get(path).status, 200);
  for (int i = 0; i < 2; ++i) CHECK_EQ(fixture.Delete(path, TokenOf(first)).status, 204);
  CHECK_EQ(fixture.Get(path).status, 410);
  CHECK_EQ(fixture.Undelete(path, TokenOf(second)).status, 200);
  CHECK_EQ(fixture.Get(path).body, kImage);
  CHECK_EQ(fixture.Delete(path, TokenOf(second)).status, 204);
  // What was deleted is no image to share.
  const RawAnswer again = fixture.Post(kImage);
  CHECK_EQ(again.status, 201);
  CHECK_NE(again["location"], path);
  CHECK_EQ(fixture.Get(again["location"]).body, kImage);
}

TEST_CASE("gateway_dedup: who does not want to share gets a file of his own, and may delete it") {
  DedupFixture fixture;
  const RawAnswer first = fixture.Post(kImage);
  const RawAnswer own = fixture.Post(kImage, "Hayloft-Dedup: no\r\n");
  CHECK_EQ(own.status, 201);
  CHECK_NE(own["location"], first["location"]);
  CHECK_EQ(fixture.Post(kImage, "Hayloft-Dedup: Yes\r\n").status, 200);
  CHECK_EQ(fixture.Delete(own["location"], TokenOf(own)).status, 204);
  CHECK_EQ(fixture.Get(own["location"]).status, 410);
  CHECK_EQ(fixture.Get(first["location"]).status, 200);
  CHECK_EQ(fixture.Post(kImage, "Hayloft-Dedup: maybe\r\n").status, 400);
  CHECK_EQ(fixture.Post(kImage, "Hayloft-Dedup: no\r\nHayloft-Dedup: no\r\n").status, 400);
}

TEST_CASE("gateway_dedup: who knows a hash and has not the bytes gets nothing by it (S10)") {
  DedupFixture fixture;
  const RawAnswer first = fixture.Post(kImage);
  const std::string claim = "Hayloft-SHA1: " + GatewayFixture::Member(first.body, "sha1") + "\r\n";
  std::string other = kImage;
  other.back() = static_cast<char>(other.back() ^ 1);
  for (const std::string& body : {std::string(), other}) {
    const RawAnswer refused = fixture.Post(body, claim);
    CHECK_EQ(refused.status, 400);
    CHECK_EQ(refused.body.find(first["location"].substr(1)), std::string::npos);
  }
  CHECK_EQ(fixture.gateway.cluster.files(), 1);
  CHECK_EQ(fixture.metrics().duplicates_total.value(), 0);
  CHECK_EQ(fixture.Post(kImage, claim).status, 200);
}

TEST_CASE("gateway_dedup: switched off, each upload is a file of its own") {
  DedupFixture fixture([](GatewayConfig* config) { config->options.dedup = false; });
  const RawAnswer first = fixture.Post(kImage);
  const RawAnswer second = fixture.Post(kImage);
  CHECK_EQ(second.status, 201);
  CHECK_EQ(fixture.directory->requests, 0);
  CHECK_EQ(fixture.Post(kImage, kKey).status, 501);
  // Deletes ask the directory even so: others may share the file.
  CHECK_EQ(fixture.Delete(first["location"], TokenOf(first)).status, 204);
  CHECK_GT(fixture.directory->requests, 0);
  CHECK_EQ(fixture.Get(first["location"]).status, 410);
  CHECK_EQ(fixture.Get(second["location"]).status, 200);
}

TEST_CASE("gateway_dedup: with dedup_scope key only one key's uploads share a file (S10)") {
  const TempFolder folder;
  const std::string keys = "shop " + ToHex(Sha256Of(AsBytes(UploadKeyText({1})))) + "\nblog " +
                           ToHex(Sha256Of(AsBytes(UploadKeyText({2})))) + "\n";
  REQUIRE_EQ(ReplaceFile(folder / "keys", keys, 0600), Err::kOk);
  DedupFixture fixture([&](GatewayConfig* config) {
    config->options.dedup_scope = "key";
    config->options.upload_keys = folder / "keys";
  });
  const std::string shop = "Authorization: Bearer " + UploadKeyText({1}) + "\r\n";
  const std::string blog = "Authorization: Bearer " + UploadKeyText({2}) + "\r\n";
  const RawAnswer first = fixture.Post(kImage, shop);
  CHECK_EQ(first.status, 201);
  CHECK_EQ(fixture.Post(kImage, shop).status, 200);
  const RawAnswer other = fixture.Post(kImage, blog);
  CHECK_EQ(other.status, 201);
  CHECK_EQ(fixture.Post(kImage, blog)["location"], other["location"]);
  CHECK_NE(other["location"], first["location"]);
  // The key's name is no header of the image.
  const RawAnswer got = fixture.Get(first["location"]);
  CHECK_EQ(got.body, kImage);
  CHECK_EQ(got["uploader"], "");
}

TEST_CASE("gateway_dedup: an upload sent again under its Idempotency-Key has one answer") {
  DedupFixture fixture;
  const RawAnswer first = fixture.Post(kImage, kKey);
  const RawAnswer again = fixture.Post(kImage, kKey);
  CHECK_EQ(first.status, 201);
  CHECK_EQ(again.status, 200);
  CHECK_EQ(again["location"], first["location"]);
  CHECK_EQ(TokenOf(again), TokenOf(first));  // one reference, so that one delete is enough
  CHECK_EQ(fixture.Delete(first["location"], TokenOf(first)).status, 204);
  CHECK_EQ(fixture.Get(first["location"]).status, 410);
  CHECK_EQ(fixture.Post(NoiseBytes(50), kKey).status, 201);  // another body: another upload
  const auto status = [&](const std::string& key) {
    return fixture.Post(kImage, "Idempotency-Key: " + key + "\r\n").status;
  };
  CHECK_EQ(status(std::string(128, 'k')), 201);
  for (const std::string& bad :
       std::vector<std::string>{std::string(15, 'k'), std::string(129, 'k'), "",
                                "0123456789 abcdef", "0123456789abcdef\xc3\xa4"}) {
    CAPTURE(bad);
    CHECK_EQ(status(bad), 400);
  }
  CHECK_EQ(fixture.Post(kImage, kKey + kKey).status, 400);
  CHECK_EQ(fixture.Post(kImage, kKey + "Hayloft-Dedup: no\r\n").status, 400);
}

TEST_CASE("gateway_dedup: the files of a form are looked up together, each with a key of its own") {
  DedupFixture fixture;
  std::string parts;
  for (const size_t seed : {1, 2, 2}) parts += DedupFixture::Part(NoiseBytes(500, seed));
  const RawAnswer first = fixture.PostForm(parts, kKey);
  CHECK_EQ(first.status, 201);
  const std::vector<std::string> files = DedupFixture::Files(first.body);
  REQUIRE_EQ(files.size(), 3);
  CHECK_EQ(GatewayFixture::Member(files[1], "id"), GatewayFixture::Member(files[2], "id"));
  CHECK_NE(IsDuplicate(files[1]), IsDuplicate(files[2]));
  CHECK_NE(GatewayFixture::Member(files[1], "delete_token"),
           GatewayFixture::Member(files[2], "delete_token"));
  const RawAnswer again = fixture.PostForm(parts, kKey);
  CHECK_EQ(again.status, 200);  // all of them were there
  const std::vector<std::string> same = DedupFixture::Files(again.body);
  REQUIRE_EQ(same.size(), 3);
  for (size_t i = 0; i < same.size(); ++i) {
    CHECK(IsDuplicate(same[i]));
    for (const std::string member : {"id", "delete_token"}) {
      CHECK_EQ(GatewayFixture::Member(same[i], member), GatewayFixture::Member(files[i], member));
    }
  }
  CHECK_EQ(fixture.PostForm(parts + DedupFixture::Part("new"), "").status, 201);
  // Sixteen parts that come at once are not sixteen round trips.
  std::string many;
  for (size_t i = 0; i < 16; ++i) many += DedupFixture::Part(NoiseBytes(300, 100 + i));
  const uint64_t calls = fixture.directory->look_up_calls;
  CHECK_EQ(fixture.PostForm(many, "").status, 201);
  CHECK_LE(fixture.directory->look_up_calls - calls, 8);
}

TEST_CASE("gateway_dedup: without the directory uploads go on, and what needs it is 503") {
  DedupFixture fixture([](GatewayConfig* config) {
    config->options.upload_timeout_ms = 1'500;
    config->client.core.directory_ms = 100;
  });
  const RawAnswer first = fixture.Post(kImage);
  for (const bool silent : {true, false}) {
    CAPTURE(silent);
    fixture.directory->silent = silent;
    fixture.directory->err.store(silent ? Err::kOk : Err::kNotActive);
    const RawAnswer unchecked = fixture.Post(kImage);
    CHECK_EQ(unchecked.status, 201);
    CHECK_NE(unchecked["location"], first["location"]);
    CHECK_EQ(fixture.Get(unchecked["location"]).body, kImage);
    const RawAnswer keyed = fixture.Post(kImage, kKey);
    CHECK_EQ(keyed.status, 503);
    CHECK_NE(keyed["retry-after"], "");
    const RawAnswer refused = fixture.Delete(first["location"], TokenOf(first));
    CHECK_EQ(refused.status, 503);
    CHECK_NE(refused["retry-after"], "");
    CHECK_EQ(fixture.Undelete(first["location"], TokenOf(first)).status, 503);
    CHECK_EQ(fixture.Get(first["location"]).status, 200);
    fixture.directory->silent = false;
    fixture.directory->err.store(Err::kOk);
    // The file that nobody recorded is deleted by its token like any other.
    CHECK_EQ(fixture.Delete(unchecked["location"], TokenOf(unchecked)).status, 204);
    CHECK_EQ(fixture.Get(unchecked["location"]).status, 410);
  }
  CHECK_EQ(fixture.metrics().uploads_unchecked_total.value(), 2);
  GatewayFixture::WaitUntil([&] { return fixture.Post(kImage).status == 200; });
}

TEST_CASE("gateway_dedup: a gateway without a directory says so") {
  GatewayFixture gateway;
  const RawAnswer first = gateway.Upload(kImage);
  CHECK_FALSE(IsDuplicate(first.body));
  CHECK_NE(gateway.Upload(kImage)["location"], first["location"]);
  CHECK_EQ(gateway.Connect().Ask(GatewayFixture::Post(kImage, kKey)).status, 501);
  CHECK_EQ(gateway.Connect().Ask(GatewayFixture::Post(kImage, "Hayloft-Dedup: no\r\n")).status,
           201);
}

TEST_CASE("gateway_dedup: the block file behind a record is gone: a new file is stored") {
  DedupFixture fixture;
  const RawAnswer first = fixture.Post(kImage);
  fixture.gateway.cluster.Forget(*ParseFileAddress(first["location"].substr(1)));
  const RawAnswer second = fixture.Post(kImage);
  CHECK_EQ(second.status, 201);
  CHECK_NE(second["location"], first["location"]);
  CHECK_EQ(fixture.Get(second["location"]).body, kImage);
  CHECK_EQ(fixture.Post(kImage)["location"], second["location"]);
}
