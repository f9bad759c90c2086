#include "gateway/routes.h"

#include <algorithm>

namespace hayloft {

namespace {

constexpr std::string_view kFiles = "/v1/files";
constexpr std::string_view kNames = "/v1/names";
constexpr std::string_view kUndelete = "/undelete";
constexpr size_t kExtensionMax = 8;

constexpr std::string_view kReadMethods = "GET, HEAD, OPTIONS";

constexpr std::string_view kAllMethods = "GET, HEAD, POST, PUT, DELETE, OPTIONS";

bool IsRead(HttpMethod method) { return method == HttpMethod::kGet || method == HttpMethod::kHead; }

Route Error(int status, std::string_view allow = {}) {
  return {.kind = Route::Kind::kError, .status = status, .allow = allow};
}

Route Found(Route::Kind kind) { return {.kind = kind, .status = 200}; }

Route FoundFile(Route::Kind kind, std::string_view id) {
  const std::optional<FileAddress> address = ParseFileAddress(id);
  if (!address) return Error(400);
  return {.kind = kind, .status = 200, .address = *address, .id = id};
}

// "" or ".jpg": of any kind, because it only helps CDNs that cache by it.
bool IsExtension(std::string_view text) {
  if (text.empty()) return true;
  const std::string_view letters = text.substr(1);
  return text.front() == '.' && !letters.empty() && letters.size() <= kExtensionMax &&
         std::all_of(letters.begin(), letters.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
         });
}

// Behind "/v1/files/". A wrong id comes before a wrong method: there is no resource to speak of.
Route FileRoute(HttpMethod method, std::string_view rest) {
  const size_t slash = std::min(rest.find('/'), rest.size());
  const std::string_view id = rest.substr(0, slash);
  const std::string_view action = rest.substr(slash);
  if (!action.empty() && action != kUndelete) return Error(404);
  const Route file = FoundFile(Route::Kind::kDescribe, id);
  if (file.kind == Route::Kind::kError) return file;
  if (action == kUndelete) {
    return method == HttpMethod::kPost ? FoundFile(Route::Kind::kUndelete, id)
                                       : Error(405, "POST, OPTIONS");
  }
  if (method == HttpMethod::kDelete) return FoundFile(Route::Kind::kDelete, id);
  return IsRead(method) ? file : Error(405, "GET, HEAD, DELETE, OPTIONS");
}

// Behind "/v1/names": nothing, or '/' and a name.
Route NameRoute(HttpMethod method, std::string_view rest) {
  if (rest.empty())
    return IsRead(method) ? Found(Route::Kind::kListNames) : Error(405, kReadMethods);
  Route route = Error(405, "GET, HEAD, PUT, DELETE, OPTIONS");
  if (IsRead(method)) route = Found(Route::Kind::kReadName);
  if (method == HttpMethod::kPut) route = Found(Route::Kind::kPutName);
  if (method == HttpMethod::kDelete) route = Found(Route::Kind::kDeleteName);
  route.name = rest.substr(1);
  return route;
}

Route PageRoute(HttpMethod method, const Page* page) {
  if (!IsRead(method)) return Error(405, kReadMethods);
  return {.kind = Route::Kind::kPage, .status = 200, .page = page};
}

Route OptionsRoute(std::string_view path, const PageTable& pages) {
  Route route = path == "*" ? Error(405, kAllMethods) : RouteOf(HttpMethod::kPatch, path, pages);
  // No resource has PATCH, so that those that exist say here what they have.
  if (route.status == 405)
    route = {.kind = Route::Kind::kOptions, .status = 204, .allow = route.allow};
  return route;
}

}  // namespace

Route RouteOf(HttpMethod method, std::string_view path, const PageTable& pages) {
  if (method == HttpMethod::kUnknown) return Error(501);
  if (method == HttpMethod::kOptions) return OptionsRoute(path, pages);
  if (path == kFiles) {
    return method == HttpMethod::kPost ? Found(Route::Kind::kUpload) : Error(405, "POST, OPTIONS");
  }
  if (path.starts_with(kFiles) && path[kFiles.size()] == '/') {
    return FileRoute(method, path.substr(kFiles.size() + 1));
  }
  if (path == kNames || (path.starts_with(kNames) && path[kNames.size()] == '/')) {
    return NameRoute(method, path.substr(kNames.size()));
  }
  if (path == "/v1/warm") {
    return method == HttpMethod::kPost ? Found(Route::Kind::kWarm) : Error(405, "POST, OPTIONS");
  }
  if (path == "/healthz" || path == "/readyz") {
    if (!IsRead(method)) return Error(405, kReadMethods);
    return Found(path == "/healthz" ? Route::Kind::kHealth : Route::Kind::kReady);
  }
  if (const Page* page = pages.Find(path)) return PageRoute(method, page);
  if (pages.has_status() && path == "/v1/status") {
    return IsRead(method) ? Found(Route::Kind::kStatus) : Error(405, kReadMethods);
  }
  // Browsers, crawlers and scrapers ask for these by themselves; they are names of no file, not
  // wrong ids.
  for (const std::string_view absent : {"/favicon.ico", "/robots.txt", "/metrics", "/version"}) {
    if (path == absent) return Error(404);
  }
  const std::string_view name = path.substr(std::min<size_t>(1, path.size()));
  if (name.empty() || path.front() != '/' || name.find('/') != std::string_view::npos) {
    return Error(404);
  }
  if (!IsExtension(name.substr(std::min(kAddressTextLength, name.size())))) return Error(400);
  const Route file = FoundFile(Route::Kind::kRead, name.substr(0, kAddressTextLength));
  if (file.kind == Route::Kind::kError || IsRead(method)) return file;
  return Error(405, kReadMethods);
}

}  // namespace hayloft
