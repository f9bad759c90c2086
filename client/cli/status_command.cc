// `hayloft status`: asks all nameservers at once and prints what the active one knows.

#include <algorithm>
#include <cinttypes>

#include "client/cli/session.h"
#include "common/io/json.h"

namespace hayloft {

namespace {

constexpr uint32_t kAskMs = 1'000;  // who does not answer in this time is down

// The answer to believe: the active nameserver's, else that of the highest epoch; null: none.
const pb::ClusterStatusReply* Best(const StatusDone& all) {
  const pb::ClusterStatusReply* best = nullptr;
  const auto rank = [](const pb::ClusterStatusReply& status) {
    return std::make_pair(status.role() == "active", status.epoch());
  };
  for (const NameserverStatus& nameserver : all.nameservers) {
    if (nameserver.err != Err::kOk) continue;
    if (best == nullptr || rank(nameserver.status) > rank(*best)) best = &nameserver.status;
  }
  return best;
}

Json ToJson(const StatusDone& all, const pb::ClusterStatusReply& best) {
  Json nameservers{Json::Array()}, dsps{Json::Array()}, json, blocks, files;
  for (const NameserverStatus& nameserver : all.nameservers) {
    const bool up = nameserver.err == Err::kOk;
    const pb::ClusterStatusReply& status = nameserver.status;
    Json line;
    line.Set("address", nameserver.address).Set("role", up ? status.role() : "down");
    line.Set("epoch", up ? status.epoch() : 0).Set("in_sync", up && status.in_sync());
    nameservers.Add(line);
  }
  for (const pb::DspStatus& dsp : best.dsps()) {
    Json line;
    line.Set("id", dsp.dsp_id()).Set("address", dsp.address()).Set("machine", dsp.machine());
    line.Set("zone", dsp.zone()).Set("state", dsp.state()).Set("blocks", dsp.blocks());
    line.Set("bytes_used", dsp.bytes_used()).Set("bytes_total", dsp.bytes_total());
    dsps.Add(line);
  }
  blocks.Set("total", best.blocks_total()).Set("open", best.blocks_open());
  blocks.Set("closed", best.blocks_closed()).Set("sealed", best.blocks_sealed());
  blocks.Set("under_replicated", best.blocks_under_replicated());
  blocks.Set("short_of_members", best.blocks_short_of_members());
  blocks.Set("lost", best.blocks_lost()).Set("divergent", best.blocks_divergent());
  json.Set("needles_corrupt", best.needles_corrupt());
  files.Set("live", best.files_live()).Set("deleted", best.files_deleted());
  files.Set("lost", best.files_lost());
  return json.Set("epoch", best.epoch())
      .Set("nameservers", nameservers)
      .Set("dsps", dsps)
      .Set("blocks", blocks)
      .Set("files", files);
}

// Of each shard's nodes; empty when it is not known where they are.
Json DirectoryToJson(Session* session) {
  Json nodes{Json::Array()};
  for (uint32_t shard = 0; shard < session->shards(); ++shard) {
    for (const ShardNode& node : AskShardNodes(session, shard, kAskMs)) {
      const bool up = node.status.has_value();
      const pb::DirStatusReply status = node.status.value_or(pb::DirStatusReply());
      Json line;
      line.Set("shard", shard).Set("address", node.address);
      line.Set("role", up ? status.role() : "down").Set("epoch", status.epoch());
      line.Set("in_sync", status.in_sync()).Set("pending", status.pending());
      line.Set("losses", status.losses());
      nodes.Add(line);
    }
  }
  return nodes;
}

void PrintForPeople(const Json& json) {
  for (const Json& nameserver : json["nameservers"].array()) {
    std::printf("nameserver %-21s %-8s epoch %" PRId64 "%s\n", nameserver["address"].text().c_str(),
                nameserver["role"].text().c_str(), nameserver["epoch"].number(),
                nameserver["in_sync"].boolean() ? "" : ", not in sync");
  }
  for (const Json& dsp : json["dsps"].array()) {
    std::printf("dsp %-6" PRId64 " %-21s %-8s %-12s %6" PRId64 " blocks, %" PRId64 " of %" PRId64
                " MB\n",
                dsp["id"].number(), dsp["address"].text().c_str(), dsp["state"].text().c_str(),
                dsp["machine"].text().c_str(), dsp["blocks"].number(),
                dsp["bytes_used"].number() / 1'000'000, dsp["bytes_total"].number() / 1'000'000);
  }
  for (const Json& node : json["directory"].array()) {
    std::printf("directory %-3" PRId64 " %-18s %-8s epoch %" PRId64 "%s\n", node["shard"].number(),
                node["address"].text().c_str(), node["role"].text().c_str(), node["epoch"].number(),
                node["in_sync"].boolean() ? "" : ", not in sync");
  }
  for (const char* kind : {"blocks", "files"}) {
    std::printf("%-10s", kind);
    for (const auto& [name, value] : json[kind].object()) {
      std::printf(" %" PRId64 " %s", value.number(), name.c_str());
    }
    std::puts("");
  }
}

}  // namespace

int PrintStatus(const CommandOptions& options) {
  const std::unique_ptr<Session> session = Session::Open(options);
  if (session == nullptr) return kExitFailed;
  const auto all = Await<StatusDone>(session->loop(),
                                     [&](auto done) { session->client()->Status(kAskMs, done); });
  const pb::ClusterStatusReply* best = Best(all);
  if (best == nullptr) {
    const bool denied = std::all_of(all.nameservers.begin(), all.nameservers.end(),
                                    [](const auto& one) { return one.err == Err::kDenied; });
    return Complain(denied ? "the cluster key is wrong" : "no nameserver answers");
  }
  Json json = ToJson(all, *best);
  json.Set("directory", DirectoryToJson(session.get()));
  if (options.json) {
    std::printf("%s", json.Dump(/*pretty=*/true).c_str());
  } else {
    PrintForPeople(json);
  }
  return kExitFine;
}

int RunStatus(int argc, const char* const* argv) {
  CommandOptions common;
  const Program program{.name = "hayloft status",
                        .role = "",
                        .about = "Nameservers, dsps, blocks and files of the cluster.",
                        .rows = common.Rows(),
                        .fault = [&] { return common.Fault(); }};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  return PrintStatus(common);
}

}  // namespace hayloft
