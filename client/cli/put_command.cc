// `hayloft put FILE... | -` and `hayloft put -r DIR --manifest OUT.tsv`.

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <set>

#include "client/cli/manifest.h"
#include "client/cli/pipeline.h"
#include "client/cli/progress.h"
#include "client/cli/session.h"
#include "client/cli/sources.h"
#include "client/prepare.h"
#include "client/sniff.h"
#include "common/io/files.h"
#include "common/io/json.h"
#include "common/io/system_random.h"
#include "common/limits.h"

namespace hayloft {

namespace {

#define HAYLOFT_PUT_OPTIONS(X)                                                             \
  X(std::string, manifest, "", 0, 4096,                                                    \
    "file of path, id and token, appended as files are stored; what is in it is skipped")  \
  X(std::string, content_type, "", 0, 255, "of all files; default: seen from their bytes") \
  X(uint32_t, in_flight, 64, 1, 4096, "files under way at the same time")

struct PutOptions {
  bool recursive = false;
  HAYLOFT_OPTIONS(HAYLOFT_PUT_OPTIONS)
};

constexpr size_t kManifestBatch = 256;
constexpr uint64_t kGraceMs = 5'000;  // for what is under way when a signal comes

// What is known of a file that is on its way.
struct Sent {
  std::string name;
  std::string content_type;
  uint64_t size = 0;
  Sha1 sha1{};
};

class Putter {
 public:
  Putter(const CommandOptions& common, const PutOptions& put) : common_(common), put_(put) {}
  int Run(const std::vector<std::string>& arguments);

 private:
  bool FindSources(const std::vector<std::string>& arguments);
  bool OpenManifest();
  std::optional<uint64_t> StartNext(const Pipeline::Done& done);
  Result<PutRequest> Prepare(Buffer&& raw, Sent* sent);
  void OnPut(const Sent& sent, const PutDone& done);
  void Print(const ManifestLine& line, const Sent& sent, bool duplicate);
  void WriteDown(const ManifestLine& line);
  void SyncManifest();
  void WatchSignals();
  void OnSignal(int number);
  int EndInterrupted();
  // Going on would store files whose ids are lost.
  [[noreturn]] static void GiveUp(const std::string& why) { std::exit(Complain(why)); }
  void Fail(const std::string& name, const std::string& why) {
    ++failed_;
    ++settled_;
    Complain(name + ": " + why);
  }

  const CommandOptions& common_;
  const PutOptions& put_;
  std::unique_ptr<Session> session_;
  std::optional<ManifestWriter> manifest_;
  Sources sources_;
  std::optional<Progress> progress_;
  Hasher hasher_;
  SystemRandom random_;
  std::vector<Loop::Handle> signals_;
  Loop::Handle grace_;
  size_t next_ = 0;
  size_t settled_ = 0;  // of sources_.files: stored or failed
  size_t failed_ = 0;
  int interrupted_ = 0;  // by which signal
};

int Putter::Run(const std::vector<std::string>& arguments) {
  session_ = Session::Open(common_);
  if (session_ == nullptr || !FindSources(arguments) || !OpenManifest()) return kExitFailed;
  if (session_->key() == nullptr) {
    Complain("without the cluster's key (--cluster-key-file) files get no delete token");
  }
  progress_.emplace("put", sources_.files.size());
  WatchSignals();
  Pipeline pipeline(session_->loop(), put_.in_flight);
  pipeline.Run([this](Pipeline::Done done) { return StartNext(done); });
  if (settled_ < sources_.files.size()) return EndInterrupted();
  SyncManifest();
  progress_.reset();
  if (failed_ > 0) return Complain(std::to_string(failed_) + " were not stored; see above");
  return kExitFine;
}

bool Putter::FindSources(const std::vector<std::string>& arguments) {
  sources_ = put_.recursive ? FindInFolders(arguments) : FindFiles(arguments);
  const std::string twice = put_.recursive ? NameHeldTwice(sources_.files) : "";
  if (!twice.empty()) {
    return Complain("two of the folders have a file " + twice + "; put them one at a time"), false;
  }
  for (const std::string& complaint : sources_.unreadable) {
    ++failed_;
    Complain(complaint);
  }
  return true;
}

bool Putter::OpenManifest() {
  if (put_.manifest.empty()) return true;
  std::vector<ManifestLine> lines;
  std::string why;
  auto writer = ManifestWriter::Open(put_.manifest, sources_.folders, &lines, &why);
  if (!writer.ok()) {
    return Complain("cannot use the manifest " + put_.manifest + ": " + why), false;
  }
  manifest_.emplace(std::move(writer).value());
  std::set<std::string> stored;
  for (const ManifestLine& line : lines) stored.insert(line.path);
  stored.erase("-");  // another standard input each time
  std::erase_if(sources_.files, [&](const Source& source) {
    return stored.contains(source.name) || manifest_->IsFile(source.path);
  });
  return true;
}

std::optional<uint64_t> Putter::StartNext(const Pipeline::Done& done) {
  while (next_ < sources_.files.size() && interrupted_ == 0) {
    const Source& source = sources_.files[next_++];
    std::string why;
    const bool standard_input = source.name == "-";
    if (standard_input) signals_.clear();  // who waits for it wants to be ended at once
    const Result<std::string> bytes = ReadWholeFile(source.path, kFileBytesMax, &why);
    if (standard_input) WatchSignals();
    if (!bytes.ok()) {
      Fail(source.name, IsFolder(source.path) ? "it is a folder; use -r" : why);
      continue;
    }
    Sent sent;
    sent.name = source.name;
    sent.size = bytes->size();
    Result<PutRequest> request = Prepare(Buffer::CopyOf(AsBytes(*bytes)), &sent);
    if (!request.ok()) {
      Fail(source.name, bytes->empty() ? "the file is empty" : Describe(request.err()));
      continue;
    }
    const uint64_t size = sent.size;
    session_->client()->Put(std::move(request).value(),
                            [this, done, sent = std::move(sent)](PutDone&& put) {
                              OnPut(sent, put);
                              done();
                            });
    return size;
  }
  return std::nullopt;
}

Result<PutRequest> Putter::Prepare(Buffer&& raw, Sent* sent) {
  Upload upload;
  upload.raw = std::move(raw);
  upload.content_type =
      put_.content_type.empty() ? std::string(SniffType(upload.raw.bytes())) : put_.content_type;
  upload.timeout_ms = common_.timeout_ms;
  hasher_.Reset();
  hasher_.Update(upload.raw.bytes());
  hasher_.Finish(&upload.sha1, &upload.sha256);
  random_.Fill(upload.nonce);
  sent->content_type = upload.content_type;
  sent->sha1 = upload.sha1;
  return PreparePut(std::move(upload));
}

void Putter::OnPut(const Sent& sent, const PutDone& done) {
  if (done.err != Err::kOk) return Fail(sent.name, Describe(done.err));
  ManifestLine line{.path = sent.name, .id = ToText(done.address), .token = ""};
  const ClusterKey* key = session_->key();
  if (key != nullptr) line.token = MakeDeleteToken(*key, done.address, done.nonce);
  ++settled_;
  progress_->Add(sent.size);
  manifest_.has_value() ? WriteDown(line) : Print(line, sent, done.duplicate);
}

void Putter::Print(const ManifestLine& line, const Sent& sent, bool duplicate) {
  std::string text = FormatManifestLine(line);
  if (common_.json) {
    Json json;
    json.Set("path", line.path).Set("id", line.id).Set("url", "/" + line.id);
    json.Set("size", sent.size).Set("sha1", ToHex(sent.sha1));
    json.Set("content_type", sent.content_type).Set("duplicate", duplicate);
    json.Set("delete_token", line.token);
    text = json.Dump() + "\n";
  }
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return;
  GiveUp("cannot write to standard output: " + ErrnoText(errno) + "; " + line.path +
         " was stored as " + line.id);
}

void Putter::WriteDown(const ManifestLine& line) {
  if (manifest_->Add(line) != Err::kOk) {
    GiveUp("cannot write the manifest " + put_.manifest + ": " + ErrnoText(errno) + "; " +
           line.path + " was stored as " + line.id);
  }
  if (manifest_->unsynced() >= kManifestBatch) SyncManifest();
}

void Putter::SyncManifest() {
  if (!manifest_.has_value() || manifest_->Sync() == Err::kOk) return;
  GiveUp("cannot write the manifest " + put_.manifest + ": " + ErrnoText(errno));
}

// The first signal lets finish what is under way, so that whatever was stored is also told; a
// second one ends the process at once.
void Putter::WatchSignals() {
  for (const int number : {SIGINT, SIGTERM}) {
    signals_.push_back(session_->loop()->OnSignal(number, [this, number] { OnSignal(number); }));
  }
}

void Putter::OnSignal(int number) {
  interrupted_ = number;
  session_->loop()->Post([this] { signals_.clear(); });  // not within one of them
  grace_ = session_->loop()->After(kGraceMs, [this] { std::exit(EndInterrupted()); });
}

int Putter::EndInterrupted() {
  ASSERT(interrupted_ != 0);
  SyncManifest();
  progress_.reset();
  const std::string left = std::to_string(sources_.files.size() - settled_);
  return Complain("interrupted: not stored or not known to be: " + left +
                      (manifest_.has_value() ? "; the same command goes on with them" : ""),
                  128 + interrupted_);
}

}  // namespace

int RunPut(int argc, const char* const* argv) {
  CommandOptions common;
  PutOptions put;
  std::vector<std::string> arguments;
  OptionRows rows = Joined(common.Rows(), put.Rows());
  rows.push_back({.name = "recursive",
                  .help = "the arguments are folders; paths are told relative to them",
                  .field = &put.recursive,
                  .letter = 'r'});
  const Program program{
      .name = "hayloft put",
      .role = "",
      .about = "Stores files: prints path, id and delete token of each.",
      .rows = std::move(rows),
      .fault = [&] { return arguments.empty() ? "name a file, a folder or -" : common.Fault(); },
      .arguments = &arguments,
      .arguments_help = "FILE... or -"};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  return Putter(common, put).Run(arguments);
}

}  // namespace hayloft
