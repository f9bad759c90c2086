#include "client/cli/manifest.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "common/io/files.h"

namespace hayloft {

namespace {

constexpr uint64_t kManifestBytesMax = uint64_t{4} << 30;
constexpr std::array<std::pair<char, char>, 3> kEscapes = {
    {{'\t', 't'}, {'\n', 'n'}, {'\\', '\\'}}};

std::string Escape(std::string_view path) {
  std::string out;
  for (const char c : path) {
    char escaped = 0;
    for (const auto& [plain, letter] : kEscapes) escaped = c == plain ? letter : escaped;
    if (escaped != 0) out.push_back('\\');
    out.push_back(escaped != 0 ? escaped : c);
  }
  return out;
}

Result<std::string> Unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out.push_back(text[i]);
      continue;
    }
    char plain = 0;
    ++i;
    for (const auto& [c, letter] : kEscapes)
      plain = i < text.size() && text[i] == letter ? c : plain;
    if (plain == 0) return Err::kCorrupt;
    out.push_back(plain);
  }
  return out;
}

}  // namespace

std::string FormatManifestLine(const ManifestLine& line) {
  return Escape(line.path) + "\t" + line.id + "\t" + line.token + "\n";
}

Result<ManifestLine> ParseManifestLine(std::string_view text) {
  const size_t first = text.find('\t');
  const size_t second = first == std::string_view::npos ? first : text.find('\t', first + 1);
  if (second == std::string_view::npos) return Err::kCorrupt;
  TRY_ASSIGN(std::string path, Unescape(text.substr(0, first)));
  return ManifestLine{.path = std::move(path),
                      .id = std::string(text.substr(first + 1, second - first - 1)),
                      .token = std::string(text.substr(second + 1))};
}

Result<std::vector<ManifestLine>> ReadManifest(const std::string& path) {
  TRY_ASSIGN(const std::string text, ReadWholeFile(path, kManifestBytesMax));
  std::vector<ManifestLine> lines;
  for (size_t start = 0;;) {
    const size_t end = text.find('\n', start);
    if (end == std::string::npos) return lines;
    TRY_ASSIGN(ManifestLine line,
               ParseManifestLine(std::string_view(text).substr(start, end - start)));
    lines.push_back(std::move(line));
    start = end + 1;
  }
}

Result<ManifestWriter> ManifestWriter::Open(const std::string& path) {
  const Result<std::string> text = ReadWholeFile(path, kManifestBytesMax);
  if (!text.ok() && text.err() != Err::kNotFound) return text.err();
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd.valid()) return Err::kConfig;
  if (text.ok()) {
    const size_t whole = text->rfind('\n') + 1;  // 0 when there is no newline
    if (whole < text->size() && ftruncate(fd.get(), static_cast<off_t>(whole)) != 0) {
      return Err::kIo;
    }
  }
  return ManifestWriter(std::move(fd));
}

void ManifestWriter::Add(const ManifestLine& line) {
  pending_ += FormatManifestLine(line);
  ++unsynced_;
}

Err ManifestWriter::Sync() {
  if (unsynced_ == 0) return Err::kOk;
  while (!pending_.empty()) {
    const ssize_t wrote = write(fd_.get(), pending_.data(), pending_.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return errno == ENOSPC ? Err::kFull : Err::kIo;
    pending_.erase(0, static_cast<size_t>(wrote));
  }
  if (fdatasync(fd_.get()) != 0) return Err::kIo;
  unsynced_ = 0;
  return Err::kOk;
}

}  // namespace hayloft
