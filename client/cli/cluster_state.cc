#include "client/cli/cluster_state.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <random>
#include <string_view>

#include "common/io/files.h"
#include "common/io/json.h"
#include "common/io/unique_fd.h"

namespace hayloft {

namespace {

constexpr uint64_t kStateBytesMax = 4 << 20;
// Of options.json. Before it, nameservers were not told how many copies were asked for, and made
// one.
constexpr int64_t kFormatWithCopies = 2;
constexpr char kHost[] = "127.0.0.1";
// Below the range from which the system takes ports for outgoing connections: else a port could be
// taken by one while its process restarts.
constexpr uint32_t kPortFirst = 10'000;
constexpr uint32_t kPortLast = 32'000;

constexpr std::array<std::string_view, 5> kRoles = {"nameserver", "dataserver", "dsp", "directory",
                                                    "gateway"};

// The numeric options, for all that is done to each of them alike.
struct NumberOption {
  const char* name;
  std::optional<uint32_t> ClusterOptions::*given;
  uint32_t ClusterState::*stored;
};
constexpr std::array<NumberOption, 7> kNumbers = {{
    {"dataservers", &ClusterOptions::dataservers, &ClusterState::dataservers},
    {"disks", &ClusterOptions::disks, &ClusterState::disks},
    {"copies", &ClusterOptions::copies, &ClusterState::copies},
    {"nameservers", &ClusterOptions::nameservers, &ClusterState::nameservers},
    {"directory_shards", &ClusterOptions::directory_shards, &ClusterState::directory_shards},
    {"gateways", &ClusterOptions::gateways, &ClusterState::gateways},
    {"port", &ClusterOptions::port, &ClusterState::port},
}};

std::string ApplySet(const std::string& text, ClusterState* state) {
  const size_t dot = text.find('.');
  const size_t equals = text.find('=');
  const bool shaped = dot != std::string::npos && equals != std::string::npos && dot < equals;
  const std::string_view role = std::string_view(text).substr(0, shaped ? dot : 0);
  bool known = false;
  for (std::string_view name : kRoles) known = known || name == role;
  if (shaped && text.substr(0, equals) == "nameserver.copies")
    return "--set " + text + ": say --copies";
  if (!known || equals == dot + 1) {
    return "--set " + text + ": not ROLE.OPTION=VALUE with a role of nameserver, dataserver, " +
           "dsp, directory, gateway";
  }
  state->set[text.substr(0, equals)] = text.substr(equals + 1);
  return {};
}

bool PortIsFree(uint32_t port) {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

}  // namespace

std::vector<PlannedProcess> ClusterState::Plan() const {
  std::vector<PlannedProcess> plan;
  const auto address = [this](const std::string& listener) {
    const auto it = ports.find(listener);
    return std::string(kHost) + ":" + std::to_string(it == ports.end() ? 0 : it->second);
  };
  const auto add = [&](const std::string& name, const char* role, const std::string& data,
                       const std::string& parent) {
    plan.push_back({name, role, address(name), address(name + ".admin"), data, parent});
  };
  if (coordinator == "etcd") add("etcd-1", "etcd", Path("etcd-1"), "");
  for (uint32_t i = 1; i <= nameservers; ++i) {
    const std::string name = "nameserver-" + std::to_string(i);
    add(name, "nameserver", Path(name), "");
  }
  for (uint32_t i = 1; i <= dataservers; ++i) {
    const std::string number = std::to_string(i);
    const std::string dataserver = "dataserver-" + number;
    add(dataserver, "dataserver", Path(dataserver), "");
    plan.back().listen = plan.back().admin;  // it has no other port
    for (uint32_t k = 1; k <= disks; ++k) {
      const std::string disk = std::to_string(k);
      add("dsp-" + number + "-" + disk, "dsp", Path(dataserver + "/disk-" + disk), dataserver);
    }
  }
  // After the dsps, which they finish deletes on.
  for (uint32_t shard = 0; shard < directory_shards; ++shard) {
    for (uint32_t node = 1; node <= nameservers; ++node) {
      const std::string name = "directory-" + std::to_string(shard) + "-" + std::to_string(node);
      add(name, "directory", Path(name), "");
    }
  }
  for (uint32_t i = 1; i <= gateways; ++i) {
    const std::string name = "gateway-" + std::to_string(i);
    add(name, "gateway", Path(name), "");
    plan.back().listen = std::string(kHost) + ":" + std::to_string(port + i - 1);
  }
  return plan;
}

std::string ClusterState::NameserverList() const {
  std::string list;
  for (const PlannedProcess& process : Plan()) {
    if (process.role != "nameserver") continue;
    list += (list.empty() ? "" : ",") + process.listen;
  }
  return list;
}

std::vector<std::string> ClusterState::DirectoryLists() const {
  std::vector<std::string> lists;
  std::string last;
  for (const PlannedProcess& process : Plan()) {
    if (process.role != "directory") continue;
    if (process.Pair() != last) lists.emplace_back();
    last = process.Pair();
    lists.back() += (lists.back().empty() ? "" : ",") + process.listen;
  }
  return lists;
}

uint32_t ClusterState::MinCopies() const {
  const auto given = set.find("nameserver.min_copies");
  const unsigned long least =
      given == set.end() ? 0 : std::strtoul(given->second.c_str(), nullptr, 10);
  return least == 0 ? std::min(copies, 2u) : static_cast<uint32_t>(least);
}

std::vector<std::string> ClusterState::Remarks() const {
  std::vector<std::string> lines;
  const std::string machines =
      std::to_string(dataservers) + " machine(s) of " + std::to_string(copies) + " copies";
  if (dataservers < MinCopies()) {
    lines.push_back("copies: uploads will be answered 503: there are " + machines + ", and " +
                    std::to_string(MinCopies()) + " must store each image (nameserver.min_copies)");
  } else if (dataservers < copies) {
    lines.push_back("copies: there are " + machines + "; every image will be under-replicated");
  }
  if (directory_shards == 0) {
    lines.push_back("directory: none (--directory-shards 1); each upload is a file of its own");
  }
  return lines;
}

Result<ClusterState> LoadClusterState(const std::string& dir) {
  ClusterState state;
  state.dir = AbsolutePath(dir);
  TRY_ASSIGN(const std::string text, ReadWholeFile(state.Path("options.json"), kStateBytesMax));
  TRY_ASSIGN(const Json json, Json::Parse(text));
  state.cluster_id = json["cluster_id"].text();
  const bool told_copies = json["format"].number() >= kFormatWithCopies;
  for (const NumberOption& option : kNumbers) {
    state.*option.stored = static_cast<uint32_t>(json[option.name].number());
  }
  if (!told_copies) state.copies = 1;
  state.coordinator = json["coordinator"].text();
  for (const auto& [name, value] : json["set"].object()) state.set[name] = value.text();
  for (const auto& [name, value] : json["ports"].object()) {
    state.ports[name] = static_cast<uint32_t>(value.number());
  }
  for (const Json& name : json["formatted"].array()) state.formatted.insert(name.text());
  if (state.cluster_id.size() != 32 || state.dataservers == 0) return Err::kCorrupt;
  return state;
}

Err SaveClusterState(const ClusterState& state) {
  Json json;
  json.Set("cluster_id", state.cluster_id).Set("format", kFormatWithCopies);
  for (const NumberOption& option : kNumbers) json.Set(option.name, state.*option.stored);
  json.Set("coordinator", state.coordinator);
  Json set{Json::Object()}, ports{Json::Object()}, formatted{Json::Array()};
  for (const auto& [name, value] : state.set) set.Set(name, value);
  for (const auto& [name, port] : state.ports) ports.Set(name, port);
  for (const std::string& name : state.formatted) formatted.Add(name);
  json.Set("set", set).Set("ports", ports).Set("formatted", formatted);
  return ReplaceFile(state.Path("options.json"), json.Dump(/*pretty=*/true));
}

std::string DamagedClusterFile(const std::string& dir) {
  return dir + "/cluster.json is damaged, so that what runs is not known: end what `pgrep -af " +
         dir + "/` shows, remove the file, then `hayloft cluster up` goes on";
}

std::string ApplyOptions(const ClusterOptions& options, bool stored, ClusterState* state) {
  const auto contradicts = [&](std::string name, const std::string& old) {
    std::replace(name.begin(), name.end(), '_', '-');
    return "--" + name + " contradicts this cluster's, which is " + old + " (see " +
           state->Path("options.json") + ")";
  };
  for (const NumberOption& option : kNumbers) {
    const std::optional<uint32_t> given = options.*option.given;
    if (!given.has_value()) continue;
    const bool none_yet =
        option.stored == &ClusterState::directory_shards && state->directory_shards == 0;
    if (stored && *given != state->*option.stored && !none_yet) {
      return contradicts(option.name, std::to_string(state->*option.stored));
    }
    state->*option.stored = *given;
  }
  if (!stored && !options.copies) state->copies = std::min(state->copies, state->dataservers);
  if (!options.coordinator.empty()) {
    if (stored && options.coordinator != state->coordinator) {
      return contradicts("coordinator", state->coordinator);
    }
    state->coordinator = options.coordinator;
  }
  for (const std::string& text : options.set) {
    if (std::string complaint = ApplySet(text, state); !complaint.empty()) return complaint;
  }
  return {};
}

std::string GatewayPortFault(const ClusterState& state) {
  std::set<uint32_t> own;
  for (const auto& [listener, port] : state.ports) own.insert(port);
  for (uint32_t i = 0; i < state.gateways; ++i) {
    const uint32_t port = state.port + i;
    if (!own.contains(port) && PortIsFree(port)) continue;
    return "gateway-" + std::to_string(i + 1) + ": port " + std::to_string(port) +
           " is in use; choose another with --port";
  }
  return {};
}

bool ChoosePorts(ClusterState* state) {
  std::set<uint32_t> taken;
  for (const auto& [name, port] : state->ports) taken.insert(port);
  for (uint32_t i = 0; i < state->gateways; ++i) taken.insert(state->port + i);
  uint32_t candidate = kPortFirst + std::random_device()() % (kPortLast - kPortFirst);
  const auto choose = [&](const std::string& listener) {
    if (state->ports.contains(listener)) return true;
    for (uint32_t tries = 0; tries < kPortLast - kPortFirst; ++tries) {
      candidate = candidate == kPortLast ? kPortFirst : candidate + 1;
      if (taken.contains(candidate) || !PortIsFree(candidate)) continue;
      taken.insert(candidate);
      state->ports[listener] = candidate;
      return true;
    }
    return false;
  };
  for (const PlannedProcess& process : state->Plan()) {
    // A gateway's is for other gateways: by it they know whose to keep a file is.
    const bool own_port = process.role != "dataserver";
    if (own_port && !choose(process.name)) return false;
    if (!choose(process.name + ".admin")) return false;
  }
  return true;
}

}  // namespace hayloft
