// What a browser lets pages of other origins do with this gateway: the CORS protocol of the Fetch
// standard, section 3.2 (https://fetch.spec.whatwg.org/#http-cors-protocol).
//
// Reads are open to every page, without credentials: whoever knows an id may read the file anyhow.
// So their answers are the same for every Origin and need no Vary. Uploads and deletes are for the
// pages that an option lists. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hayloft {

struct Preflight {
  std::string_view allow;   // the resource's methods, with commas between
  std::string_view origin;  // of the page; empty: it is no preflight
  std::string_view method;  // that the page wants to use; empty: likewise
  std::string_view fields;  // names of header fields that it wants to send, with commas between
};

class CorsPolicy {
 public:
  // `origins` as the option cors_origins has them, with commas between. REQUIRES: OriginsFault
  // finds nothing.
  CorsPolicy(std::string_view origins, bool open_reads);

  // Header lines, each with its CRLF. Views live as long as this.
  std::string_view ReadLines() const { return read_lines_; }  // for every answer to a read
  // For an answer to anything else that came from a page of `origin`; empty when it isn't listed.
  std::string_view WriteLines(std::string_view origin) const;
  // For the answer to OPTIONS of a resource that exists, beside Allow.
  std::string PreflightLines(const Preflight& preflight) const;
  bool Lists(std::string_view origin) const { return !WriteLines(origin).empty(); }

 private:
  struct Listed {
    std::string origin;
    std::string lines;
  };
  std::vector<Listed> listed_;  // few
  std::string read_lines_;
};

}  // namespace hayloft
