#include "client/cli/manifest.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "common/io/files.h"

namespace hayloft {

namespace {

constexpr uint64_t kManifestBytesMax = uint64_t{4} << 30;
constexpr std::string_view kFolderMark = "# ";
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

std::string FolderLine(const std::string& folder) {
  return std::string(kFolderMark) + Escape(folder) + "\n";
}

bool IsFolderLine(std::string_view line) {
  return line.starts_with(kFolderMark) && line.find('\t') == std::string_view::npos;
}

}  // namespace

std::string FormatManifestLine(const ManifestLine& line) {
  return Escape(line.path) + "\t" + line.id + "\t" + line.token + "\n";
}

Result<ManifestLine> ParseManifestLine(std::string_view text) {
  const size_t first = text.find('\t');
  if (first == std::string_view::npos) return Err::kCorrupt;
  const size_t second = std::min(text.find('\t', first + 1), text.size());
  TRY_ASSIGN(std::string path, Unescape(text.substr(0, first)));
  return ManifestLine{.path = std::move(path),
                      .id = std::string(text.substr(first + 1, second - first - 1)),
                      .token = std::string(text.substr(std::min(second + 1, text.size())))};
}

Result<Manifest> ParseManifest(std::string_view text, std::string* why) {
  Manifest manifest;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const bool is_folder = IsFolderLine(line);
    const auto folder = is_folder ? Unescape(line.substr(kFolderMark.size())) : Err::kCorrupt;
    auto file = ParseManifestLine(line);
    if (folder.ok()) {
      manifest.folders.push_back(*folder);
    } else if (file.ok()) {
      manifest.lines.push_back(std::move(file).value());
    } else {
      *why = "line " + std::to_string(number) + " is not: path TAB id TAB token";
      return Err::kCorrupt;
    }
  }
  return manifest;
}

Result<Manifest> ReadManifest(const std::string& path, std::string* why) {
  TRY_ASSIGN(const std::string text, ReadWholeFile(path, kManifestBytesMax, why));
  return ParseManifest(text, why);
}

Result<ManifestWriter> ManifestWriter::Open(const std::string& path,
                                            const std::vector<std::string>& folders,
                                            std::vector<ManifestLine>* stored, std::string* why) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd.valid()) return *why = ErrnoText(errno), Err::kConfig;
  const Result<std::string> text = ReadWholeFile(path, kManifestBytesMax, why);
  if (!text.ok()) return Err::kConfig;
  std::string header;
  for (const std::string& folder : folders) header += FolderLine(folder);
  const size_t whole = text->rfind('\n') + 1;  // 0 when there is no newline
  Result<Manifest> manifest = ParseManifest(std::string_view(*text).substr(0, whole), why);
  if (!manifest.ok()) return Err::kConfig;
  if (whole == 0 && !header.starts_with(*text)) return *why = "it is none", Err::kConfig;
  if (whole > 0 && manifest->folders != folders) {
    *why = "it is not of " + folders.front() + "; its first line says of which folder";
    return Err::kConfig;
  }
  if (whole < text->size() && ftruncate(fd.get(), static_cast<off_t>(whole)) != 0) {
    return *why = ErrnoText(errno), Err::kConfig;
  }
  if (whole == 0 && WriteAll(fd.get(), header) != Err::kOk) {
    return *why = ErrnoText(errno), Err::kConfig;
  }
  *stored = std::move(manifest->lines);
  return ManifestWriter(std::move(fd));
}

Err ManifestWriter::Add(const ManifestLine& line) {
  ++unsynced_;
  return WriteAll(fd_.get(), FormatManifestLine(line));
}

Err ManifestWriter::Sync() {
  if (unsynced_ > 0 && fdatasync(fd_.get()) != 0) return Err::kIo;
  unsynced_ = 0;
  return Err::kOk;
}

bool ManifestWriter::IsFile(const std::string& path) const { return IsSameFile(fd_.get(), path); }

}  // namespace hayloft
