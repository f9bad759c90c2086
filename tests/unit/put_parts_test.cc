// What `hayloft put` is made of: the files that it finds, and its manifest.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/manifest.h"
#include "client/cli/sources.h"
#include "common/io/files.h"
#include "tests/unit/temp_folder.h"

namespace hayloft {
namespace {

const ManifestLine kLine{.path = "a\tb\nc\\d", .id = "AAAAAAAAAAAAAAAAAA", .token = "t"};

void Write(const std::string& path, const std::string& text) {
  REQUIRE_EQ(MakeFolders(path.substr(0, path.rfind('/'))), Err::kOk);
  REQUIRE_EQ(ReplaceFile(path, text), Err::kOk);
}

std::vector<std::string> NamesOf(const Sources& sources) {
  std::vector<std::string> names;
  for (const Source& file : sources.files) names.push_back(file.name);
  return names;
}

TEST_CASE("manifest: each line is in the file as soon as it was added, and is read back") {
  TempFolder folder;
  const std::string path = folder / "m.tsv";
  std::string why;
  std::vector<ManifestLine> stored;
  auto writer = ManifestWriter::Open(path, {"/a\tb", "/c"}, &stored, &why);
  REQUIRE_MESSAGE(writer.ok(), why);
  CHECK(stored.empty());
  REQUIRE_EQ(writer->Add(kLine), Err::kOk);
  CHECK_EQ(ReadWholeFile(path, 1000).value(),
           "# /a\\tb\n# /c\na\\tb\\nc\\\\d\tAAAAAAAAAAAAAAAAAA\tt\n");
  CHECK_EQ(writer->unsynced(), 1);
  CHECK_EQ(writer->Sync(), Err::kOk);
  CHECK_EQ(writer->unsynced(), 0);
  const auto read = ReadManifest(path, &why);
  REQUIRE_MESSAGE(read.ok(), why);
  CHECK_EQ(read->folders, std::vector<std::string>{"/a\tb", "/c"});
  CHECK(read->lines == std::vector<ManifestLine>{kLine});
}

TEST_CASE(
    "manifest: a last line without newline counts for a reader, and so does one of path, id") {
  std::string why;
  const auto manifest = ParseManifest("x\tID1\ty\n# z\tID2", &why);
  REQUIRE(manifest.ok());
  CHECK(manifest->folders.empty());
  REQUIRE_EQ(manifest->lines.size(), 2);
  CHECK_EQ(manifest->lines[0].token, "y");
  CHECK(manifest->lines[1] == ManifestLine{.path = "# z", .id = "ID2", .token = ""});
  CHECK(ParseManifest("", &why)->lines.empty());
  CHECK_EQ(ParseManifest("x\tID1\n\n", &why).err(), Err::kCorrupt);
  CHECK_EQ(why, "line 2 is not: path TAB id TAB token");
  CHECK_EQ(ParseManifest("bad\\q\tID", &why).err(), Err::kCorrupt);
}

TEST_CASE("manifest: a writer cuts a torn last line and goes on behind the others") {
  TempFolder folder;
  const std::string path = folder / "m.tsv";
  std::string why;
  std::vector<ManifestLine> stored;
  for (const std::string torn : {"# /", "# /f\ntorn\tAAAA", "# /f\n"}) {
    Write(path, torn);
    auto writer = ManifestWriter::Open(path, {"/f"}, &stored, &why);
    REQUIRE_MESSAGE(writer.ok(), why);
    CHECK(stored.empty());
    CHECK_EQ(ReadWholeFile(path, 1000).value(), "# /f\n");
    REQUIRE_EQ(writer->Add(kLine), Err::kOk);
    REQUIRE(ManifestWriter::Open(path, {"/f"}, &stored, &why).ok());
    CHECK(stored == std::vector<ManifestLine>{kLine});
    stored.clear();
  }
}

TEST_CASE("manifest: that of other folders and what is none are refused and left as they are") {
  TempFolder folder;
  const std::string path = folder / "m.tsv";
  std::vector<ManifestLine> stored;
  for (const std::string text :
       {"# /g\n", "# /f\n# /g\n", "x\tAAAAAAAAAAAAAAAAAA\t\n", "notes\nof mine", "# notes"}) {
    std::string why;
    Write(path, text);
    CHECK_EQ(ManifestWriter::Open(path, {"/f"}, &stored, &why).err(), Err::kConfig);
    CHECK_FALSE(why.empty());
    CHECK_EQ(ReadWholeFile(path, 1000).value(), text);
  }
}

TEST_CASE("manifest: it knows itself by whatever name") {
  TempFolder folder;
  std::string why;
  std::vector<ManifestLine> stored;
  const auto writer = ManifestWriter::Open(folder / "m.tsv", {"/f"}, &stored, &why);
  REQUIRE(writer.ok());
  REQUIRE_EQ(link((folder / "m.tsv").c_str(), (folder / "other").c_str()), 0);
  Write(folder / "file", "x");
  CHECK(writer->IsFile(folder / "other"));
  CHECK_FALSE(writer->IsFile(folder / "file"));
  CHECK_FALSE(writer->IsFile(folder / "none"));
}

TEST_CASE("manifest: a full disk is an error of the line that did not fit") {
  std::string why;
  std::vector<ManifestLine> stored;
  CHECK_EQ(ManifestWriter::Open("/dev/full", {"/f"}, &stored, &why).err(), Err::kConfig);
}

TEST_CASE("sources: regular files of all folders below, in order; links are left out") {
  TempFolder folder;
  Write(folder / "b/2", "x");
  Write(folder / "b/1", "x");
  Write(folder / "a", "x");
  REQUIRE_EQ(symlink("a", (folder / "link").c_str()), 0);
  REQUIRE_EQ(symlink("/", (folder / "root").c_str()), 0);
  const Sources found = FindInFolders({folder.path()});
  CHECK_EQ(NamesOf(found), std::vector<std::string>{"a", "b/1", "b/2"});
  CHECK_EQ(found.files[1].path, folder / "b/1");
  CHECK(found.unreadable.empty());
  CHECK_EQ(NameHeldTwice(found.files), "");
  CHECK_EQ(NameHeldTwice(FindInFolders({folder.path(), folder / "b"}).files), "");
  CHECK_EQ(NameHeldTwice(FindInFolders({folder.path(), folder.path()}).files), "a");
}

TEST_CASE("sources: a folder that cannot be read is named, the others are found") {
  TempFolder folder;
  Write(folder / "a/1", "x");
  Write(folder / "c/1", "x");
  Write(folder / "b/1", "x");
  REQUIRE_EQ(chmod(folder.path().c_str(), 0755), 0);
  REQUIRE_EQ(chmod((folder / "b").c_str(), 0), 0);
  const bool is_root = geteuid() == 0;  // whom no mode keeps out
  if (is_root) REQUIRE_EQ(seteuid(65534), 0);
  const Sources found = FindInFolders({folder / "none", folder.path()});
  if (is_root) REQUIRE_EQ(seteuid(0), 0);
  CHECK_EQ(NamesOf(found), std::vector<std::string>{"a/1", "c/1"});
  REQUIRE_EQ(found.unreadable.size(), 2);
  CHECK_EQ(found.unreadable[0], folder / "none" + ": No such file or directory");
  CHECK_EQ(found.unreadable[1], folder / "b" + ": Permission denied");
  REQUIRE_EQ(chmod((folder / "b").c_str(), 0700), 0);
}

}  // namespace
}  // namespace hayloft
