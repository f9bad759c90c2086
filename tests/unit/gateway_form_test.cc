// Uploads as multipart/form-data through the gateway's sockets.
#include "tests/unit/gateway_fixture.h"

using namespace hayloft;

namespace {

std::string FilePart(const std::string& data, const std::string& type = "image/png",
                     const std::string& file_name = "a.png") {
  return "--XyZ\r\nContent-Disposition: form-data; name=\"f\"; filename=\"" + file_name +
         "\"\r\nContent-Type: " + type + "\r\n\r\n" + data + "\r\n";
}

const std::string kFieldPart = "--XyZ\r\nContent-Disposition: form-data; name=note\r\n\r\nhi\r\n";
const std::string kEnd = "--XyZ--\r\n";

std::string Form(const std::string& body, const std::string& headers = "") {
  return GatewayFixture::Post(
      body,
      "Content-Type: multipart/form-data; boundary=XyZ\r\nExpect: 100-continue\r\n" + headers);
}

std::string Png(size_t size) { return "\x89PNG\r\n\x1a\n" + NoiseBytes(size - 8); }

// The objects of "files", as text each.
std::vector<std::string> Files(const std::string& json) {
  std::vector<std::string> files;
  const size_t list = json.find("\"files\":[");
  REQUIRE_NE(list, std::string::npos);
  for (size_t at = json.find('{', list); at != std::string::npos; at = json.find('{', at + 1)) {
    files.push_back(json.substr(at, json.find('}', at) + 1 - at));
  }
  return files;
}

std::string Download(const GatewayFixture& gateway, const std::string& file_json) {
  const std::string id = GatewayFixture::Member(file_json, "id");
  const RawAnswer got = gateway.Connect().Ask(GatewayFixture::Get("/" + id));
  REQUIRE_EQ(got.status, 200);
  return got.body;
}

// An answer behind the "100 Continue" that the client asked for.
RawAnswer AskForm(RawHttp* client, const std::string& request) {
  const RawAnswer interim = client->Ask(request);
  if (interim.status != 100) return interim;
  return client->Read();
}

}  // namespace

TEST_CASE("gateway: the files of a form are stored each, and told of in their order") {
  GatewayFixture gateway;
  RawHttp client = gateway.Connect();
  std::vector<std::string> sent;
  std::string body;
  for (size_t i = 0; i < 60; ++i) {
    sent.push_back(Png(1'000 + i * 3'000));
    body += FilePart(sent.back()) + (i % 7 == 0 ? kFieldPart : "");
  }
  const RawAnswer answer = AskForm(&client, Form(body + kEnd));
  CHECK_EQ(answer.status, 201);
  const std::vector<std::string> files = Files(answer.body);
  REQUIRE_EQ(files.size(), sent.size());
  for (size_t i = 0; i < files.size(); ++i) CHECK(Download(gateway, files[i]) == sent[i]);
  CHECK_EQ(GatewayFixture::Member(files[0], "content_type"), "image/png");
  CHECK_EQ(gateway.server.shared().upload_memory.used_bytes(), 0);
  // The connection goes on.
  CHECK_EQ(AskForm(&client, Form(FilePart("text", "text/plain") + kEnd)).status, 201);
}

TEST_CASE("gateway: one bad file of a form does not cost the others") {
  GatewayFixture gateway([](GatewayConfig* config) { config->options.upload_bytes_max = 5'000; });
  RawHttp client = gateway.Connect();
  const std::string fine = Png(4'000);
  const RawAnswer answer =
      AskForm(&client, Form(FilePart(fine) + FilePart(Png(5'001)) + FilePart("") +
                            FilePart("", "image/png", "") + FilePart(fine) + kEnd));
  CHECK_EQ(answer.status, 413);
  const std::vector<std::string> files = Files(answer.body);
  REQUIRE_EQ(files.size(), 4);  // who chose no file sends an empty one without a name
  CHECK(Download(gateway, files[0]) == fine);
  CHECK_EQ(GatewayFixture::Member(files[1], "error"), "too_large");
  CHECK_EQ(GatewayFixture::Member(files[2], "error"), "bad_request");
  CHECK(Download(gateway, files[3]) == fine);
}

TEST_CASE("gateway: a form that breaks off tells what it stored (F13)") {
  GatewayFixture gateway;
  const std::string fine = Png(4'000);
  RawHttp client = gateway.Connect();
  const RawAnswer answer = AskForm(&client, Form(FilePart(fine) + FilePart("half of") + "--XyZ-x"));
  CHECK_EQ(answer.status, 400);
  CHECK_EQ(answer["connection"], "close");
  CHECK_EQ(GatewayFixture::Member(answer.body, "error"), "bad_request");
  const std::vector<std::string> files = Files(answer.body);
  REQUIRE_EQ(files.size(), 1);  // the second part never ended
  CHECK(Download(gateway, files[0]) == fine);
}

TEST_CASE("gateway: the bytes of a part that has no end are no file (F43)") {
  GatewayFixture gateway;
  const std::string form = Form(FilePart(Png(500)) + kEnd);
  const size_t head = form.find("\r\n\r\n") + 4;
  uint64_t connections = 0;
  for (size_t cut = head; cut < form.size() - 10; cut += 37) {
    RawHttp client = gateway.Connect();
    client.Send(form.substr(0, cut));
    ++connections;
  }  // and gone
  const HttpMetrics& metrics = gateway.server.shared().http_metrics;
  GatewayFixture::WaitUntil([&] {
    return metrics.accepted_total.value() == connections && metrics.connections.value() == 0;
  });
  CHECK_EQ(gateway.server.shared().metrics.uploads_total.value(), 0);
  CHECK_EQ(gateway.server.shared().upload_memory.used_bytes(), 0);
}

TEST_CASE("gateway: forms that hold no file, or are none, are refused") {
  GatewayFixture gateway;
  const auto status = [&](const std::string& request) {
    RawHttp client = gateway.Connect();
    return AskForm(&client, request).status;
  };
  CHECK_EQ(status(Form(kFieldPart + kEnd)), 400);
  CHECK_EQ(status(Form(FilePart("x"))), 400);  // no last boundary
  CHECK_EQ(status(GatewayFixture::Post("x", "Content-Type: multipart/form-data\r\n")), 400);
  CHECK_EQ(status(GatewayFixture::Post("x", "Content-Type: multipart/mixed; boundary=b\r\n")), 415);
}
