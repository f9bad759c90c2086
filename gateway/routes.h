// Which resource a request is about, and whether its method fits (DESIGN.md section 9). Pure.
#pragma once

#include <string_view>

#include "common/file_address.h"
#include "gateway/http_parser.h"

namespace hayloft {

struct Route {
  enum class Kind : uint8_t {
    kError,     // `status` says which; `allow` goes with 405
    kUpload,    // POST /v1/files
    kRead,      // GET, HEAD /<id>[.ext]
    kDescribe,  // GET, HEAD /v1/files/<id>
    kDelete,    // DELETE /v1/files/<id>
    kUndelete,  // POST /v1/files/<id>/undelete
    kHealth,    // GET, HEAD /healthz
    kReady,     // GET, HEAD /readyz
    kOptions,   // OPTIONS of any of these, and of *: `allow` has its methods
  };
  Kind kind = Kind::kError;
  int status = 404;          // 400 malformed id, 404, 405, 501
  std::string_view allow{};  // methods with commas between, a constant
  FileAddress address{};
  std::string_view id{};  // the address as it stands in the path: 18 characters
  // Whether it changes something if it is carried out.
  bool writes() const {
    return kind == Kind::kUpload || kind == Kind::kDelete || kind == Kind::kUndelete;
  }
  bool reads_file() const { return kind == Kind::kRead || kind == Kind::kDescribe; }
};

Route RouteOf(HttpMethod method, std::string_view path);

}  // namespace hayloft
