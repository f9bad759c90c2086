// What a client says that the bytes of its upload hash to: Content-MD5 (RFC 1864), Digest
// (RFC 3230), Content-Digest and Repr-Digest (RFC 9530), and Hayloft-SHA1, as answers have it: in
// hex. Files are taken without a content coding, so the five are of the same bytes: the file's.
//
//   header --Add--> what is wanted;   pieces --Update--> MD5, SHA-512;   end --Matches--> yes or no
//
// SHA-1 and SHA-256 are made of every upload and are not made again here; MD5 and SHA-512 only
// where they are named. Algorithms that are not known are passed over, as both RFCs want it. What
// could be read in two ways is malformed: two different digests of one algorithm, base64 without
// its padding or with spare bits. Pure.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "common/codec.h"
#include "gateway/http_parser.h"

namespace hayloft {

// One of the five fields above.
bool IsDigestField(HttpField field);

class ExpectedDigests {
 public:
  // Takes one header's value in. False: it is malformed, or contradicts an earlier one; the object
  // is of no use then. REQUIRES: IsDigestField(field), and no Update before.
  bool Add(HttpField field, std::string_view value);
  // All of the file's bytes, as they arrive.
  void Update(Bytes piece);
  // Whether they are what was said of them. Once, at the end.
  bool Matches(const Sha1& sha1, const Sha256& sha256);

 private:
  enum Algorithm : uint8_t { kMd5, kSha1, kSha256, kSha512, kAlgorithms };

  bool AddNamed(std::string_view name, std::string_view base64);
  bool AddOf(Algorithm algorithm, std::string_view base64);
  bool Want(Algorithm algorithm, Bytes digest);
  bool AddList(std::string_view list);
  bool AddDictionary(std::string_view dictionary);
  bool HashAgrees(Algorithm algorithm, std::optional<StreamHash>* hash) const;

  std::array<std::string, kAlgorithms> wanted_;  // as bytes; empty: nothing was said
  std::optional<StreamHash> md5_;
  std::optional<StreamHash> sha512_;
};

}  // namespace hayloft
