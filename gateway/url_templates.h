// The URLs by which answers name a file: of a CDN, of the gateways, or of several in shares.
//
//   https://img.example.com/{id}.{ext}                       one for all
//   90 https://a.example/{id}.{ext}, 10 https://b.example/{id}   weights: 90 % and 10 % of the
//   files
//
// Which one a file has follows from its id alone (CRC32C, spread over the weights), so that every
// gateway with the same list says the same, and a cache sees each file under one URL. "{ext}" is
// the extension of the file's type; where a type has none, the dot before it is left out, too.
// Without templates it is "/<id>", relative to whoever answered. Pure, immutable.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hayloft {

class UrlTemplates {
 public:
  // REQUIRES: UrlTemplatesFault(list) is empty.
  explicit UrlTemplates(std::string_view list);

  std::string Url(std::string_view id, std::string_view content_type) const;

 private:
  struct Template {
    uint64_t weight_end = 0;  // those of this one and of all before it
    std::string text;
  };
  std::vector<Template> templates_;
};

// What is wrong with such a list; empty: nothing. Entries have commas between; weights are 1 to
// 1,000,000, of all entries or of none.
std::string UrlTemplatesFault(std::string_view list);

}  // namespace hayloft
