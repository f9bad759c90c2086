// Two grammars for one thing. Digest is an old list, `SHA-256=<base64>, md5=<base64>`, names in any
// case. The two of RFC 9530 are dictionaries of RFC 8941, `sha-256=:<base64>:`, with names in lower
// case and with parameters, which mean nothing here but must be well-formed all the same.
#include "gateway/digests.h"

#include <algorithm>

#include "common/check.h"

namespace hayloft {

namespace {

constexpr size_t kDigestBytesMax = 64;  // SHA-512

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsAlpha(char c) { return IsLower(static_cast<char>(c | 0x20)); }
bool IsBase64(char c) { return IsAlpha(c) || IsDigit(c) || c == '+' || c == '/' || c == '='; }
bool IsKeyChar(char c) {
  return IsLower(c) || IsDigit(c) || c == '_' || c == '-' || c == '.' || c == '*';
}

// A dictionary whose values are byte sequences (RFC 8941 sections 3.2 and 4.2.2), member by member.
class DictionaryReader {
 public:
  explicit DictionaryReader(std::string_view text) : rest_(text) {}
  std::string_view key;
  std::string_view base64;
  bool malformed = false;

  // False at the end, or when the rest is malformed.
  bool Next() {
    if (rest_.empty()) return false;
    malformed = true;  // until the member has been read
    if (!first_ && !Comma()) return false;
    first_ = false;
    if (!Key(&key) || !Take('=') || !ByteSequence(&base64) || !Parameters()) return false;
    rest_ = SkipBlanks(rest_);
    malformed = false;
    return true;
  }

 private:
  static std::string_view SkipBlanks(std::string_view text) {
    return text.substr(std::min(text.find_first_not_of(" \t"), text.size()));
  }
  bool Take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  // Takes `count` characters; false when there are none to take.
  bool TakeCount(size_t count, std::string_view* taken) {
    *taken = rest_.substr(0, count);
    rest_.remove_prefix(taken->size());
    return !taken->empty();
  }
  template <typename Is>
  size_t CountOf(Is is) const {
    const auto* end = std::find_if_not(rest_.begin(), rest_.end(), is);
    return static_cast<size_t>(end - rest_.begin());
  }

  bool Comma() {
    if (!Take(',')) return false;
    rest_ = SkipBlanks(rest_);
    return !rest_.empty();
  }
  bool Key(std::string_view* name) {
    if (rest_.empty() || (!IsLower(rest_.front()) && rest_.front() != '*')) return false;
    return TakeCount(CountOf(IsKeyChar), name);
  }
  bool ByteSequence(std::string_view* content) {
    if (!Take(':')) return false;
    (void)TakeCount(CountOf(IsBase64), content);  // may be empty
    return Take(':');
  }
  bool Parameters() {
    std::string_view name;
    while (Take(';')) {
      rest_ = rest_.substr(std::min(rest_.find_first_not_of(' '), rest_.size()));
      if (!Key(&name) || (Take('=') && !BareItem())) return false;
    }
    return true;
  }
  bool BareItem() {
    if (rest_.empty()) return false;
    const char c = rest_.front();
    std::string_view ignored;
    if (c == ':') return ByteSequence(&ignored);
    if (c == '"') return String();
    if (c == '?') return Take('?') && (Take('0') || Take('1'));
    if (c == '-' || IsDigit(c)) return Number();
    if (c != '*' && !IsAlpha(c)) return false;
    return TakeCount(CountOf([](char each) {
                       return each == ':' || each == '/' || IsHttpToken({&each, 1});
                     }),
                     &ignored);
  }
  bool String() {
    for (size_t i = 1; i < rest_.size(); ++i) {
      const char c = rest_[i];
      if (c == '"') {
        rest_.remove_prefix(i + 1);
        return true;
      }
      if (c < ' ' || c > '~') return false;
      if (c != '\\') continue;
      ++i;
      if (i == rest_.size() || (rest_[i] != '"' && rest_[i] != '\\')) return false;
    }
    return false;
  }
  bool Number() {
    std::string_view whole, fraction;
    (void)Take('-');
    if (!TakeCount(CountOf(IsDigit), &whole)) return false;
    if (!Take('.')) return whole.size() <= 15;
    return whole.size() <= 12 && TakeCount(CountOf(IsDigit), &fraction) && fraction.size() <= 3;
  }

  std::string_view rest_;
  bool first_ = true;
};

}  // namespace

bool IsDigestField(HttpField field) {
  return field == HttpField::kContentMd5 || field == HttpField::kDigest ||
         field == HttpField::kContentDigest || field == HttpField::kReprDigest ||
         field == HttpField::kSha1;
}

bool ExpectedDigests::Add(HttpField field, std::string_view value) {
  ASSERT(IsDigestField(field));
  if (field == HttpField::kContentMd5) return AddOf(kMd5, value);
  if (field == HttpField::kSha1) {
    Sha1 sha1;
    return FromHex(value, sha1) && Want(kSha1, sha1);
  }
  return field == HttpField::kDigest ? AddList(value) : AddDictionary(value);
}

bool ExpectedDigests::AddList(std::string_view list) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    const std::string_view member = TrimBlanks(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
    if (member.empty()) continue;  // RFC 9110 section 5.6.1 lets them pass
    const size_t equals = member.find('=');
    if (equals == std::string_view::npos) return false;
    const std::string_view name = member.substr(0, equals);
    if (!IsHttpToken(name)) return false;
    if (!AddNamed(LowerText(name), member.substr(equals + 1))) return false;
  }
  return true;
}

bool ExpectedDigests::AddDictionary(std::string_view dictionary) {
  DictionaryReader reader(dictionary);
  while (reader.Next()) {
    if (!AddNamed(reader.key, reader.base64)) return false;
  }
  return !reader.malformed;
}

bool ExpectedDigests::AddNamed(std::string_view name, std::string_view base64) {
  if (name == "sha-256") return AddOf(kSha256, base64);
  if (name == "sha-512") return AddOf(kSha512, base64);
  if (name == "sha" || name == "sha-1") return AddOf(kSha1, base64);
  return name != "md5" || AddOf(kMd5, base64);
}

bool ExpectedDigests::AddOf(Algorithm algorithm, std::string_view base64) {
  constexpr size_t kSizes[kAlgorithms] = {16, 20, 32, 64};
  std::array<uint8_t, kDigestBytesMax> decoded;
  const MutableBytes digest = MutableBytes(decoded).first(kSizes[algorithm]);
  return FromBase64(base64, digest) && Want(algorithm, digest);
}

bool ExpectedDigests::Want(Algorithm algorithm, Bytes digest) {
  std::string& wanted = wanted_[algorithm];
  if (!wanted.empty()) return AsText(digest) == wanted;
  wanted = AsText(digest);
  if (algorithm == kMd5) md5_.emplace(HashKind::kMd5);
  if (algorithm == kSha512) sha512_.emplace(HashKind::kSha512);
  return true;
}

void ExpectedDigests::Update(Bytes piece) {
  if (md5_) md5_->Update(piece);
  if (sha512_) sha512_->Update(piece);
}

bool ExpectedDigests::HashAgrees(Algorithm algorithm, std::optional<StreamHash>* hash) const {
  const std::string& wanted = wanted_[algorithm];
  if (wanted.empty()) return true;
  std::array<uint8_t, kDigestBytesMax> found;
  const MutableBytes digest = MutableBytes(found).first(wanted.size());
  hash->value().Finish(digest);
  return AsText(digest) == wanted;
}

bool ExpectedDigests::Matches(const Sha1& sha1, const Sha256& sha256) {
  if (!wanted_[kSha1].empty() && AsText(sha1) != wanted_[kSha1]) return false;
  if (!wanted_[kSha256].empty() && AsText(sha256) != wanted_[kSha256]) return false;
  return HashAgrees(kMd5, &md5_) && HashAgrees(kSha512, &sha512_);
}

}  // namespace hayloft
