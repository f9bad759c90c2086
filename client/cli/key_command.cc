// `hayloft key upload NAME`, `hayloft key signing ID`: makes a key and enters it in a file.
//
// The text of an upload key is for its user and is kept nowhere; the file has its hash. A signing
// key is for the gateways and for whoever signs: the file has it itself.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "client/cli/command.h"
#include "common/io/files.h"
#include "common/io/json.h"
#include "common/io/server_start.h"
#include "common/io/system_random.h"
#include "common/key_file.h"

namespace hayloft {

namespace {

#define HAYLOFT_KEY_OPTIONS(X)             \
  X(bool, json, false, 0, 1, "print JSON") \
  X(std::string, file, "", 0, 4096, "key file that the line is appended to; made if need be")

struct KeyOptions {
  HAYLOFT_OPTIONS(HAYLOFT_KEY_OPTIONS)
};

struct NewKey {
  bool upload = false;
  std::string name;
  std::string text;  // of an upload key
  std::string line;  // for the file
};

NewKey MakeKey(bool upload, const std::string& name) {
  std::array<uint8_t, kUploadKeyRandomBytes> random;
  SystemRandom().Fill(random);
  NewKey key{.upload = upload, .name = name, .text = {}, .line = {}};
  if (upload) key.text = UploadKeyText(random);
  key.line = upload ? UploadKeyLine(name, key.text) : SigningKeyLine(name, random);
  return key;
}

// Empty: `text` is what a gateway takes as the file of such keys.
std::string FileFault(bool upload, const std::string& text) {
  std::string why;
  if (text.size() > kKeyFileBytesMax) return "it would be too large";
  const Err err = upload ? ParseUploadKeys(text, &why).err() : ParseSigningKeys(text, &why).err();
  return err == Err::kOk ? std::string() : why;
}

// Enters the line, or returns why not. Under a lock, so that no name gets in twice; in place, so
// that the file keeps its owner; all of the line or nothing.
std::string AppendLine(const NewKey& key, const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return ErrnoText(errno);
  while (flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return ErrnoText(errno);
  }
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return ErrnoText(errno);
  if (!S_ISREG(info.st_mode)) return "it is no file";
  std::string why;
  const Result<std::string> old = ReadSecretFile(path, kKeyFileBytesMax, &why);
  if (!old.ok()) return why;
  const std::string line = (old->empty() || old->ends_with('\n') ? "" : "\n") + key.line;
  if (why = FileFault(key.upload, *old + line); !why.empty()) return why;
  if (WriteAll(fd.get(), line) == Err::kOk && fsync(fd.get()) == 0) return {};
  why = ErrnoText(errno);
  if (ftruncate(fd.get(), static_cast<off_t>(old->size())) != 0) why += "; a part was written";
  return why;
}

void Print(const NewKey& key, const KeyOptions& options) {
  if (options.json) {
    Json json = Json().Set("name", key.name);
    if (key.upload) json.Set("key", key.text);
    if (options.file.empty()) json.Set("line", key.line.substr(0, key.line.size() - 1));
    std::printf("%s\n", json.Dump().c_str());
    return;
  }
  if (key.upload) std::printf("%s\n", key.text.c_str());
  if (!options.file.empty()) return;
  if (!key.upload) return (void)std::fputs(key.line.c_str(), stdout);
  (void)std::fflush(stdout);
  std::fprintf(stderr, "hayloft: this is the line for the gateways' upload_keys:\n%s",
               key.line.c_str());
}

}  // namespace

int RunKey(int argc, const char* const* argv) {
  KeyOptions options;
  std::vector<std::string> arguments;
  const auto fault = [&]() -> std::string {
    const bool two = arguments.size() == 2;
    if (!two || (arguments[0] != "upload" && arguments[0] != "signing")) {
      return "say upload or signing, and a name for the key";
    }
    return IsKeyId(arguments[1]) ? ""
                                 : "a key's name has 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'";
  };
  const Program program{
      .name = "hayloft key",
      .role = "",
      .about =
          "Makes a key. `upload` prints one, once; the file gets its hash. `signing` makes the "
          "line of a key that signs URLs. Gateways take files up again on SIGHUP.",
      .rows = options.Rows(),
      .fault = fault,
      .arguments = &arguments,
      .arguments_help = "upload|signing NAME"};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  const NewKey key = MakeKey(arguments[0] == "upload", arguments[1]);
  if (!options.file.empty()) {
    const std::string why = AppendLine(key, options.file);
    if (!why.empty()) return Complain(options.file + ": " + why);
  }
  Print(key, options);
  return kExitFine;
}

}  // namespace hayloft
