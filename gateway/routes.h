// Which resource a request is about, and whether its method fits (DESIGN.md section 9). Pure.
#pragma once

#include <string_view>

#include "common/file_address.h"
#include "gateway/http_parser.h"
#include "gateway/pages.h"

namespace hayloft {

struct Route {
  enum class Kind : uint8_t {
    kError,       // `status` says which; `allow` goes with 405
    kUpload,      // POST /v1/files
    kRead,        // GET, HEAD /<id>[.ext]
    kDescribe,    // GET, HEAD /v1/files/<id>
    kDelete,      // DELETE /v1/files/<id>
    kUndelete,    // POST /v1/files/<id>/undelete
    kReadName,    // GET, HEAD /v1/names/<name>
    kPutName,     // PUT /v1/names/<name>
    kDeleteName,  // DELETE /v1/names/<name>
    kWarm,        // POST /v1/warm
    kListNames,   // GET, HEAD /v1/names
    kHealth,      // GET, HEAD /healthz
    kReady,       // GET, HEAD /readyz
    kPage,        // GET, HEAD /, /status, /pages/<name>
    kStatus,      // GET, HEAD /v1/status
    kOptions,     // OPTIONS of any of these, and of *: `allow` has its methods
  };
  Kind kind = Kind::kError;
  int status = 404;          // 400 malformed id, 404, 405, 501
  std::string_view allow{};  // methods with commas between, a constant
  FileAddress address{};
  const Page* page = nullptr;  // one of those that are served
  std::string_view id{};       // the address as it stands in the path: 18 characters
  std::string_view name{};     // a name as it stands there, percent-encoded; may be none
  // Whether it changes something if it is carried out.
  bool writes() const {
    return stores() || kind == Kind::kDelete || kind == Kind::kUndelete ||
           kind == Kind::kDeleteName || kind == Kind::kWarm;
  }
  bool stores() const { return kind == Kind::kUpload || kind == Kind::kPutName; }
  bool sends_file() const { return kind == Kind::kRead || kind == Kind::kReadName; }
  bool reads_file() const { return sends_file() || kind == Kind::kDescribe; }
};

// `pages`: those that are served.
Route RouteOf(HttpMethod method, std::string_view path, const PageTable& pages);

}  // namespace hayloft
