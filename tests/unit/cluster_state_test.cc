// What `hayloft cluster up` makes of its options, and keeps of them.
#include "client/cli/cluster_state.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "common/io/files.h"
#include "tests/unit/temp_folder.h"

using namespace hayloft;

namespace {

ClusterState StateIn(const std::string& folder) {
  ClusterState state;
  state.dir = folder;
  state.cluster_id = std::string(32, 'c');
  return state;
}

std::vector<std::string> Directories(const ClusterState& state) {
  std::vector<std::string> names;
  for (const PlannedProcess& process : state.Plan()) {
    if (process.role == "directory") names.push_back(process.name);
  }
  return names;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("cluster_state: a cluster has a directory, of as many nodes as it has nameservers") {
  const TempFolder folder;
  const auto directories = [&](const ClusterOptions& options) {
    ClusterState state = StateIn(folder / "");
    CHECK_EQ(ApplyOptions(options, /*stored=*/false, &state), "");
    return Directories(state);
  };
  CHECK_EQ(directories({}), Names{"directory-0-1", "directory-0-2"});
  ClusterOptions options;
  options.nameservers = 1;
  CHECK_EQ(directories(options), Names{"directory-0-1"});
  options.directory_shards = 2;
  CHECK_EQ(directories(options), Names{"directory-0-1", "directory-1-1"});
  options.directory_shards = 0;
  CHECK_EQ(directories(options), Names{});
}

TEST_CASE("cluster_state: how many shards there are is for good, but for none") {
  const TempFolder folder;
  ClusterState state = StateIn(folder / "");
  const auto told = [&](uint32_t shards) {
    ClusterOptions options;
    options.directory_shards = shards;
    return ApplyOptions(options, /*stored=*/true, &state);
  };
  CHECK_NE(told(0).find("--directory-shards contradicts"), std::string::npos);
  CHECK_NE(told(2), "");
  CHECK_EQ(told(1), "");
  state.directory_shards = 0;
  CHECK_EQ(ApplyOptions({}, /*stored=*/true, &state), "");
  CHECK_EQ(Directories(state), Names{});  // it keeps to that until it is told otherwise
  CHECK_EQ(told(0), "");
  CHECK_EQ(told(2), "");
  CHECK_EQ(Directories(state).size(), 4);
}

TEST_CASE("cluster_state: a cluster that was made before there were directories has none") {
  const TempFolder folder;
  const ClusterState made = StateIn(folder / "");
  REQUIRE_EQ(SaveClusterState(made), Err::kOk);
  const std::string path = folder / "options.json";
  Result<ClusterState> loaded = LoadClusterState(folder / "");
  REQUIRE(loaded.ok());
  CHECK_EQ(loaded->directory_shards, 1);
  std::string text = *ReadWholeFile(path, 1 << 20);
  const size_t at = text.find("\"directory_shards\"");
  REQUIRE_NE(at, std::string::npos);
  text.erase(at, text.find('\n', at) + 1 - at);
  REQUIRE_EQ(ReplaceFile(path, text), Err::kOk);
  loaded = LoadClusterState(folder / "");
  REQUIRE(loaded.ok());
  CHECK_EQ(loaded->directory_shards, 0);
}
