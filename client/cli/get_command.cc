// `hayloft get ID...`, and `hayloft get --manifest IN.tsv --verify DIR`.

#include <sys/stat.h>

#include "client/cli/file_ids.h"
#include "client/cli/pipeline.h"
#include "client/cli/progress.h"
#include "client/cli/session.h"
#include "common/io/files.h"
#include "common/io/json.h"
#include "common/limits.h"

namespace hayloft {

namespace {

#define HAYLOFT_GET_OPTIONS(X)                                                                   \
  X(std::string, dsp, "", 0, 64, "IP:PORT of the one dsp to read from")                          \
  X(bool, deleted, false, 0, 1, "read also what was deleted and is not purged")                  \
  X(std::string, manifest, "", 0, 4096, "file of path and id lines, as `put` writes them")       \
  X(std::string, verify, "", 0, 4096, "folder: compare with the originals in it, write nothing") \
  X(uint32_t, in_flight, 64, 1, 4096, "files under way at the same time")

struct GetOptions {
  std::string output;
  HAYLOFT_OPTIONS(HAYLOFT_GET_OPTIONS)
};

class Getter {
 public:
  Getter(const CommandOptions& common, const GetOptions& get) : common_(common), get_(get) {}
  int Run(std::vector<FileToken> files);

 private:
  std::optional<uint64_t> StartNext(const Pipeline::Done& done);
  void OnGet(const FileToken& file, GetDone&& done);
  std::string Deliver(const FileToken& file, Bytes raw);
  std::string Compare(const FileToken& file, Bytes raw);

  const CommandOptions& common_;
  const GetOptions& get_;
  std::unique_ptr<Session> session_;
  std::vector<FileToken> files_;
  std::optional<Progress> progress_;
  bool into_folder_ = false;
  size_t next_ = 0;
  size_t failed_ = 0;
};

// The raw bytes of a whole file, checked against what was asked for, the CRC of each piece and the
// hash that the uploader's gateway or command computed.
Result<Buffer> CheckedBytes(const FileAddress& address, GetDone&& done) {
  TRY_ASSIGN(const NeedleHead head, ParseNeedleHead(AsBytes(done.head)));
  if (head.header.block_id != address.block_id || head.file_id() != address.file_id) {
    return Err::kCorrupt;
  }
  if (done.payload.size() != head.header.stored_size) return Err::kCorrupt;
  TRY(CheckPieces(head, 0, done.payload.bytes()));
  TRY_ASSIGN(const Metadata metadata, ParseMetadata(head.metadata));
  Buffer raw;
  if (head.header.encoding == static_cast<uint8_t>(Encoding::kZstd)) {
    TRY_ASSIGN(raw, Decompress(done.payload.bytes(), head.header.raw_size));
  } else {
    raw = std::move(done.payload);
  }
  if (Sha256Of(raw.bytes()) != metadata.sha256) return Err::kCorrupt;
  return raw;
}

int Getter::Run(std::vector<FileToken> files) {
  session_ = Session::Open(common_);
  if (session_ == nullptr) return kExitFailed;
  files_ = std::move(files);
  into_folder_ = IsFolder(get_.output);
  if (get_.verify.empty() && !into_folder_ && files_.size() > 1) {
    return Complain("several files need a folder: -o DIR", kExitUsage);
  }
  progress_.emplace("get", files_.size());
  Pipeline pipeline(session_->loop(), get_.in_flight);
  pipeline.Run([this](Pipeline::Done done) { return StartNext(done); });
  const size_t got = progress_->done();
  progress_.reset();
  if (!get_.verify.empty() && common_.json) {
    std::printf("%s\n", Json().Set("verified", got).Set("failed", failed_).Dump().c_str());
  } else if (!get_.verify.empty()) {
    std::printf("%zu files are as they were\n", got);
  }
  if (failed_ > 0)
    return files_.size() == 1 ? kExitFailed : Complain(std::to_string(failed_) + " files failed");
  return kExitFine;
}

std::optional<uint64_t> Getter::StartNext(const Pipeline::Done& done) {
  if (next_ == files_.size()) return std::nullopt;
  const FileToken& file = files_[next_++];
  GetRequest request;
  request.address = file.address;
  request.include_deleted = get_.deleted;
  request.dsp = get_.dsp;
  request.timeout_ms = common_.timeout_ms;
  session_->client()->Get(std::move(request), [this, &file, done](GetDone&& get) {
    OnGet(file, std::move(get));
    done();
  });
  return 0;  // the size of the answer is not known; in_flight bounds it
}

void Getter::OnGet(const FileToken& file, GetDone&& done) {
  std::string why;
  if (done.err != Err::kOk) {
    why = Describe(done.err);
  } else {
    const std::string dsp = done.dsp;
    const Result<Buffer> raw = CheckedBytes(file.address, std::move(done));
    why = raw.ok() ? Deliver(file, raw->bytes()) : "from " + dsp + ": " + Describe(raw.err());
    if (why.empty()) return progress_->Add(raw->size());
  }
  ++failed_;
  Complain(ToText(file.address) + (file.path.empty() ? "" : " (" + file.path + ")") + ": " + why);
}

// Returns what went wrong, empty when nothing did.
std::string Getter::Deliver(const FileToken& file, Bytes raw) {
  if (!get_.verify.empty()) return Compare(file, raw);
  if (get_.output.empty() || get_.output == "-") {
    const size_t wrote = std::fwrite(raw.data(), 1, raw.size(), stdout);
    return wrote == raw.size() && std::fflush(stdout) == 0 ? "" : "cannot write to stdout";
  }
  std::string path = get_.output;
  if (into_folder_) {
    const std::string name = file.path.empty() ? ToText(file.address) : file.path;
    // A manifest may come from elsewhere: nothing is written outside of the folder.
    if (name.front() == '/' || ("/" + name + "/").find("/../") != std::string::npos) {
      return "its path leads out of " + get_.output;
    }
    path += "/" + name;
    if (MakeFolders(path.substr(0, path.rfind('/'))) != Err::kOk) return "cannot make its folder";
  }
  std::string why;
  if (ReplaceFile(path, AsText(raw), 0644, &why) != Err::kOk) {
    return "cannot write " + path + ": " + why;
  }
  if (common_.json) {
    Json json;
    json.Set("id", ToText(file.address)).Set("path", path).Set("size", raw.size());
    std::printf("%s\n", json.Dump().c_str());
  }
  return "";
}

std::string Getter::Compare(const FileToken& file, Bytes raw) {
  std::string why;
  const auto original = ReadWholeFile(get_.verify + "/" + file.path, kFileBytesMax, &why);
  if (!original.ok()) return "its original cannot be read: " + why;
  return *original == AsText(raw) ? "" : "differs from its original";
}

}  // namespace

int RunGet(int argc, const char* const* argv) {
  CommandOptions common;
  GetOptions get;
  std::vector<std::string> arguments;
  OptionRows rows = Joined(common.Rows(), get.Rows());
  rows.push_back({.name = "output",
                  .help = "file, or folder for several files; default: standard output",
                  .field = &get.output,
                  .max = 4096,
                  .letter = 'o'});
  const auto fault = [&]() -> std::string {
    if (arguments.empty() == get.manifest.empty()) return "name either ids or a manifest";
    if (!get.verify.empty() && get.manifest.empty()) return "--verify needs --manifest";
    const bool to_stdout = get.output.empty() || get.output == "-";
    if (common.json && to_stdout && get.verify.empty()) return "--json needs -o FILE or FOLDER";
    if (!get.dsp.empty() && !IsAddress(get.dsp)) return "--dsp: " + get.dsp + " is not IP:PORT";
    return common.Fault();
  };
  const Program program{.name = "hayloft get",
                        .role = "",
                        .about = "Reads files back; every byte is checked.",
                        .rows = std::move(rows),
                        .fault = fault,
                        .arguments = &arguments,
                        .arguments_help = "ID..."};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  auto files = CollectFiles(arguments, "", get.manifest);
  if (!files.has_value()) return kExitUsage;
  return Getter(common, get).Run(std::move(*files));
}

}  // namespace hayloft
