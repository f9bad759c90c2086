#include "client/cli/session.h"

#include <algorithm>

#include "client/cli/cluster_state.h"
#include "common/io/files.h"
#include "common/io/process.h"
#include "common/io/server_start.h"

namespace hayloft {

namespace {

// True when the command was pointed at this very cluster, or at none.
bool Names(const std::vector<std::string>& given, const ClusterState& state) {
  const std::vector<std::string> own = SplitList(state.NameserverList());
  for (const std::string& address : given) {
    if (std::find(own.begin(), own.end(), address) == own.end()) return false;
  }
  return true;
}

}  // namespace

std::string ClusterFolder(const std::string& dir) {
  if (!dir.empty()) return AbsolutePath(dir);
  const std::string beside = OwnBinaryFolder() + "/../run";
  return AbsolutePath(!IsFolder("run") && IsFolder(beside) ? beside : "run");
}

std::unique_ptr<Session> Session::Open(const CommandOptions& options) {
  AsyncClientOptions client{.core = {}, .rpc = {.role = "command", .cluster_key = ""}};
  std::vector<std::string>& nameservers = client.core.nameservers;
  nameservers = SplitList(options.cluster);
  std::string key_file = options.cluster_key_file;
  const std::string folder = ClusterFolder(options.dir);
  const Result<ClusterState> state = LoadClusterState(folder);
  if (state.ok() && Names(nameservers, *state)) {
    nameservers = SplitList(state->NameserverList());
    if (key_file.empty()) key_file = state->Path("secret");
  }
  if (nameservers.empty()) {
    Complain("there is no cluster in " + folder + "; name one with --cluster or --dir");
    return nullptr;
  }
  std::unique_ptr<Session> session(new Session());  // NOLINT: the constructor is private
  std::string why;
  const Result<std::string> key = ReadClusterKey(key_file, &why);
  if (!key.ok()) return Complain(why), nullptr;
  if (!key->empty()) session->key_ = ClusterKey{.bytes = *key};
  client.rpc.cluster_key = *key;
  session->client_ = std::make_unique<AsyncClient>(&session->loop_, client);
  return session;
}

std::string Describe(Err err) {
  return std::string(ErrName(err)) + ": " + std::string(ErrMeaning(err));
}

}  // namespace hayloft
