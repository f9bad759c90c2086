// `hayloft rm` and `hayloft undelete`: one id with its token, or the lines of a manifest.

#include "client/cli/file_ids.h"
#include "client/cli/pipeline.h"
#include "client/cli/progress.h"
#include "client/cli/session.h"
#include "common/io/json.h"

namespace hayloft {

namespace {

#define HAYLOFT_DELETE_OPTIONS(X)                                                         \
  X(std::string, token, "", 0, 200, "delete token that the upload was answered with")     \
  X(bool, takedown, false, 0, 1,                                                          \
    "an administrator's: whoever else refers to the file, and without its token")         \
  X(std::string, manifest, "", 0, 4096, "file of path, id and token, as `put` writes it") \
  X(uint32_t, in_flight, 64, 1, 4096, "files under way at the same time")

struct DeleteOptions {
  HAYLOFT_OPTIONS(HAYLOFT_DELETE_OPTIONS)
};

struct Deletion {
  CommandOptions common;
  DeleteOptions options;
  bool undelete = false;
};

// Sends one, unless its token is not that of the file: dsps believe whoever knows the cluster key.
void SendOne(Session* session, const Deletion& deletion, const FileToken& file,
             std::function<void(Err)> done) {
  const bool takedown = deletion.options.takedown;
  const std::optional<Nonce> nonce =
      takedown ? std::nullopt : CheckDeleteToken(*session->key(), file.address, file.token);
  if (!nonce.has_value() && !takedown) {
    return done(file.token.empty() ? Err::kUnauthorized : Err::kDenied);
  }
  SetDeleteRequest request;
  request.address = file.address;
  request.undelete = deletion.undelete;
  request.nonce = nonce;
  request.takedown = takedown;
  request.timeout_ms = deletion.common.timeout_ms;
  session->client()->SetDelete(std::move(request),
                               [done](SetDeleteDone&& answer) { done(answer.err); });
}

int RunAll(const Deletion& deletion, const std::vector<FileToken>& files) {
  const std::unique_ptr<Session> session = Session::Open(deletion.common);
  if (session == nullptr) return kExitFailed;
  if (session->key() == nullptr) {
    return Complain("tokens are checked with the cluster's key: --cluster-key-file or --dir");
  }
  if (deletion.options.takedown && session->shards() == 0) {
    return Complain("a takedown is the directory's: --shard, or --dir");
  }
  const char* verb = deletion.undelete ? "undelete" : "rm";
  Progress progress(verb, files.size());
  size_t next = 0, failed = 0;
  Pipeline pipeline(session->loop(), deletion.options.in_flight);
  pipeline.Run([&](Pipeline::Done done) -> std::optional<uint64_t> {
    if (next == files.size()) return std::nullopt;
    const FileToken& file = files[next++];
    SendOne(session.get(), deletion, file, [&, done](Err err) {
      if (err == Err::kOk) {
        progress.Add(0);
      } else {
        ++failed;
        const bool no_list = err == Err::kConfig && session->shards() == 0;
        Complain(ToText(file.address) + ": " +
                 (no_list ? "this cluster has a directory, others may share the file: name the "
                            "directory's nodes with --shard"
                          : Describe(err)));
      }
      done();
    });
    return 0;
  });
  if (deletion.common.json) {
    const Json json = Json().Set("done", progress.done()).Set("failed", failed);
    std::printf("%s\n", json.Dump().c_str());
  }
  return failed == 0 ? kExitFine : kExitFailed;
}

int Run(bool undelete, int argc, const char* const* argv) {
  Deletion deletion{.common = {}, .options = {}, .undelete = undelete};
  std::vector<std::string> arguments;
  const Program program{
      .name = undelete ? "hayloft undelete" : "hayloft rm",
      .role = "",
      .about = undelete ? "Takes a delete back, within the trash time." : "Deletes files.",
      .rows = Joined(deletion.common.Rows(), deletion.options.Rows()),
      .fault = [&]() -> std::string {
        const bool either = arguments.empty() != deletion.options.manifest.empty();
        return either ? deletion.common.Fault() : "name either ids or a manifest";
      },
      .arguments = &arguments,
      .arguments_help = "ID..."};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  const auto files = CollectFiles(arguments, deletion.options.token, deletion.options.manifest);
  return files.has_value() ? RunAll(deletion, *files) : kExitUsage;
}

}  // namespace

int RunRm(int argc, const char* const* argv) { return Run(/*undelete=*/false, argc, argv); }
int RunUndelete(int argc, const char* const* argv) { return Run(/*undelete=*/true, argc, argv); }

}  // namespace hayloft
