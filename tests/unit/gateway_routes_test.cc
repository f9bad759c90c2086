#include "gateway/routes.h"

#include <doctest/doctest.h>

using namespace hayloft;
using Kind = Route::Kind;

namespace {
const std::string kId = ToText({.block_id = 7, .file_id = FileId::Of(3, 99)});

const PageTable kNoPages("none");

int StatusOf(HttpMethod method, const std::string& path) {
  return RouteOf(method, path, kNoPages).status;
}
}  // namespace

TEST_CASE("routes: each resource is found under its methods") {
  const auto kind = [](HttpMethod method, const std::string& path) {
    return RouteOf(method, path, kNoPages).kind;
  };
  CHECK_EQ(kind(HttpMethod::kPost, "/v1/files"), Kind::kUpload);
  CHECK_EQ(kind(HttpMethod::kGet, "/" + kId), Kind::kRead);
  CHECK_EQ(kind(HttpMethod::kHead, "/" + kId + ".jpg"), Kind::kRead);
  CHECK_EQ(kind(HttpMethod::kGet, "/v1/files/" + kId), Kind::kDescribe);
  CHECK_EQ(kind(HttpMethod::kDelete, "/v1/files/" + kId), Kind::kDelete);
  CHECK_EQ(kind(HttpMethod::kPost, "/v1/files/" + kId + "/undelete"), Kind::kUndelete);
  CHECK_EQ(kind(HttpMethod::kGet, "/healthz"), Kind::kHealth);
  CHECK_EQ(kind(HttpMethod::kHead, "/readyz"), Kind::kReady);
  CHECK_EQ(kind(HttpMethod::kGet, "/v1/names"), Kind::kListNames);
  CHECK_EQ(kind(HttpMethod::kHead, "/v1/names/a"), Kind::kReadName);
  CHECK_EQ(kind(HttpMethod::kPut, "/v1/names/a/b"), Kind::kPutName);
  CHECK_EQ(kind(HttpMethod::kDelete, "/v1/names/%2F"), Kind::kDeleteName);
  CHECK_EQ(RouteOf(HttpMethod::kGet, "/v1/names/a/../b", kNoPages).name, "a/../b");
  CHECK_EQ(RouteOf(HttpMethod::kGet, "/v1/names/", kNoPages).name, "");  // which is no name
  CHECK_EQ(StatusOf(HttpMethod::kPost, "/v1/names/a"), 405);
  CHECK_EQ(StatusOf(HttpMethod::kPut, "/v1/names"), 405);
  CHECK_EQ(StatusOf(HttpMethod::kGet, "/v1/namesake"), 404);
  const std::string path = "/" + kId + ".png";
  const Route route = RouteOf(HttpMethod::kGet, path, kNoPages);
  CHECK_EQ(route.id, kId);
  CHECK_EQ(ToText(route.address), kId);
}

TEST_CASE("routes: a wrong method is 405 with what is allowed, an unknown one 501") {
  CHECK_EQ(RouteOf(HttpMethod::kGet, "/v1/files", kNoPages).allow, "POST, OPTIONS");
  CHECK_EQ(StatusOf(HttpMethod::kGet, "/v1/files"), 405);
  CHECK_EQ(RouteOf(HttpMethod::kDelete, "/" + kId, kNoPages).allow, "GET, HEAD, OPTIONS");
  CHECK_EQ(StatusOf(HttpMethod::kPut, "/" + kId), 405);
  CHECK_EQ(RouteOf(HttpMethod::kPost, "/v1/files/" + kId, kNoPages).allow,
           "GET, HEAD, DELETE, OPTIONS");
  CHECK_EQ(RouteOf(HttpMethod::kGet, "/v1/files/" + kId + "/undelete", kNoPages).allow,
           "POST, OPTIONS");
  CHECK_EQ(RouteOf(HttpMethod::kPost, "/healthz", kNoPages).allow, "GET, HEAD, OPTIONS");
  CHECK_EQ(StatusOf(HttpMethod::kUnknown, "/v1/files"), 501);
}

TEST_CASE("routes: OPTIONS says what a resource has, and of the server what all have together") {
  const auto allow = [](const std::string& path) {
    const Route route = RouteOf(HttpMethod::kOptions, path, kNoPages);
    return route.kind == Kind::kOptions ? std::string(route.allow) : std::to_string(route.status);
  };
  CHECK_EQ(allow("*"), "GET, HEAD, POST, PUT, DELETE, OPTIONS");
  CHECK_EQ(allow("/v1/files"), "POST, OPTIONS");
  CHECK_EQ(allow("/" + kId + ".jpg"), "GET, HEAD, OPTIONS");
  CHECK_EQ(allow("/v1/files/" + kId), "GET, HEAD, DELETE, OPTIONS");
  CHECK_EQ(allow("/v1/files/" + kId + "/undelete"), "POST, OPTIONS");
  CHECK_EQ(allow("/healthz"), "GET, HEAD, OPTIONS");
  CHECK_EQ(allow("/nonsense"), "400");
  CHECK_EQ(allow("/a/b"), "404");
}

TEST_CASE("routes: malformed ids are 400, the all-A id is well-formed, other paths 404 (S08)") {
  const HttpMethod get = HttpMethod::kGet;
  CHECK_EQ(StatusOf(get, "/AAAAAAAAAAAAAAAAAA"), 200);
  CHECK_EQ(StatusOf(get, "/AAAAAAAAAAAAAAAAAB"), 400);  // a spare bit is set
  for (const char* path :
       {"/x", "/AAAAAAAAAAAAAAAAA", "/AAAAAAAAAAAAAAAAAAA", "/AAAAAAAAAAAAAAAA+A",
        "/AAAAAAAAAAAAAAAAAA.", "/AAAAAAAAAAAAAAAAAA.j~g", "/..", "/AAAAAAAAAAAAAAAAAA.123456789",
        "/%2e%2e%2fAAAAAAAAA", "/v1/files/", "/v1/files/x", "/v1/files/x/undelete", "/favicon.png",
        "/v1/files/robots.txt"}) {
    CAPTURE(path);
    CHECK_EQ(StatusOf(get, path), 400);
  }
  for (const char* path : {"/", "//", "/a/b", "/v1/", "/v1/filesx/y", "/../etc/passwd", "*", "",
                           "/v1/files/AAAAAAAAAAAAAAAAAA/other", "/favicon.ico", "/metrics",
                           "/version", "/robots.txt"}) {
    CAPTURE(path);
    CHECK_EQ(StatusOf(get, path), 404);
  }
}

TEST_CASE("routes: pages are there where they are wanted, and only read") {
  const PageTable upload("upload"), all("all");
  const auto get = [](const std::string& path, const PageTable& pages) {
    return RouteOf(HttpMethod::kGet, path, pages);
  };
  CHECK_EQ(get("/", kNoPages).status, 404);
  CHECK_EQ(get("/pages/upload.js", kNoPages).status, 404);
  for (const char* path : {"/", "/pages/upload.js", "/pages/page.css", "/pages/icon.svg"}) {
    CAPTURE(path);
    CHECK_EQ(get(path, upload).kind, Kind::kPage);
    CHECK_EQ(get(path, all).page->path, path);
    CHECK_EQ(RouteOf(HttpMethod::kPost, path, all).allow, "GET, HEAD, OPTIONS");
    CHECK_EQ(RouteOf(HttpMethod::kOptions, path, all).kind, Kind::kOptions);
    CHECK_EQ(RouteOf(HttpMethod::kOptions, path, kNoPages).status, 404);
  }
  CHECK_EQ(get("/pages/upload.htm", all).status, 404);
  CHECK_EQ(get("/pages/../page.css", all).status, 404);
  CHECK_EQ(get("/" + kId, all).kind, Kind::kRead);
}

TEST_CASE("routes: the cluster's status is there only where all pages are wanted") {
  const PageTable upload("upload"), all("all");
  for (const char* path : {"/status", "/pages/status.js", "/v1/status"}) {
    CAPTURE(path);
    CHECK_NE(RouteOf(HttpMethod::kGet, path, kNoPages).status, 200);
    CHECK_NE(RouteOf(HttpMethod::kGet, path, upload).status, 200);
    CHECK_EQ(RouteOf(HttpMethod::kHead, path, all).status, 200);
    CHECK_EQ(RouteOf(HttpMethod::kDelete, path, all).allow, "GET, HEAD, OPTIONS");
  }
  CHECK_EQ(RouteOf(HttpMethod::kGet, "/v1/status", all).kind, Kind::kStatus);
}
