#include "nameserver/ns_shell.h"

#include <utility>

namespace hayloft {

std::string NsConfig::Fault() const {
  if (end_rebuild && (rebuild || force_promote)) {
    return "end_rebuild: not at the start that begins the rebuild";
  }
  if (min_copies > copies) return "min_copies is more than copies";
  if (down_after_ms < suspect_after_ms) return "down_after_ms is less than suspect_after_ms";
  return HaConfig::Fault(SplitList(nameservers), "nameservers");
}

Err NsShell::InitRows(Kv* kv, std::string_view node, bool joining) {
  TRY_ASSIGN(const std::string cluster_id, config_.ClusterId());
  pb::LogSettings settings;
  settings.set_cluster_id(cluster_id);
  settings.set_copies(config_.copies);
  settings.set_min_copies(config_.min_copies);
  settings.set_rebuilding(config_.rebuild);
  settings.set_rebuild_dsps(config_.rebuild_dsps);
  return NsStore(kv).Init(node, settings, joining);
}

Err NsShell::LoadRows(Kv* kv) {
  store_ = std::make_unique<NsStore>(kv);
  TRY_ASSIGN(loaded_, store_->Load());
  return Err::kOk;
}

Err NsShell::ApplyRows(const std::vector<pb::HaRecord>& records) {
  return store_->Apply(records, /*sync=*/false);
}

Err NsShell::MakeServer(RoleOptions role, RoleDisk disk, Kv*, Random* random, std::string*) {
  loaded_.node = disk.head.node();
  loaded_.settings.set_cluster_id(disk.head.service_id());
  const NsOptions options{.suspect_after_ms = config_.suspect_after_ms,
                          .down_after_ms = config_.down_after_ms,
                          .open_blocks_per_dsp = config_.open_blocks_per_dsp,
                          .end_rebuild = config_.end_rebuild};
  server_ = std::make_unique<NsServer>(options, std::move(role), std::move(loaded_),
                                       std::move(disk), random);
  return Err::kOk;
}

void NsShell::PrintMetrics(Now now, MetricsText* out) const {
  const pb::ClusterStatusReply status = server_->Status(now);
  const std::string_view prefix = "hayloft_nameserver_";
  const auto gauge = [&](std::string_view name, std::string_view help, uint64_t value) {
    out->AddGauge({prefix, name, help}, value);
  };
  gauge("epoch", "its epoch", status.epoch());
  gauge("block_table_bytes", "memory of the block table", server_->state().blocks.MemoryBytes());
  const NsCore* const core = server_->core();
  if (core == nullptr) return;
  gauge("dsps", "dsps known", static_cast<uint64_t>(status.dsps_size()));
  gauge("dsps_reported", "of them, reported in full to this process", status.dsps_reported());
  uint64_t nearly_full = 0;
  uint64_t full = 0;
  for (const auto& [dsp_id, live] : core->membership().dsps()) {
    nearly_full += live.nearly_full ? 1 : 0;
    full += live.disk_state == pb::DISK_HEALTHY && live.Full() ? 1 : 0;
  }
  gauge("dsps_nearly_full", "dsps with 85 % of their disk in use", nearly_full);
  gauge("dsps_full", "dsps that get no new blocks, because their disk is full", full);
  gauge("dsps_unreachable", "dsps that others can't reach, though they are heard here",
        core->unreachable().size());
  gauge("blocks_open", "blocks that take appends", status.blocks_open());
  gauge("blocks_closed", "blocks that wait to be sealed", status.blocks_closed());
  gauge("blocks_sealed", "blocks that never change again", status.blocks_sealed());
  gauge("blocks_under_replicated", "blocks with fewer replicas on dsps that are up than copies",
        status.blocks_under_replicated());
  gauge("blocks_short_of_members", "blocks whose sets have fewer dsps than copies",
        status.blocks_short_of_members());
  gauge("blocks_divergent", "blocks whose replicas hold different bytes under one name",
        status.blocks_divergent());
  gauge("replicas_outside", "replicas on dsps that are not in their blocks' sets; not served",
        core->ReplicasOutside());
  gauge("needles_corrupt", "reads that found damage, as the dsps count them since their starts",
        status.needles_corrupt());
  gauge("blocks_lost", "blocks that no dsp holds any more", status.blocks_lost());
  gauge("rebuilding", "1: not all that there is has been reported, unknown blocks are unavailable",
        core->state().settings.rebuilding() ? 1 : 0);
  gauge("directory_shards", "shards of the cluster's directory; 0: it has none",
        core->state().settings.directory_shards());
  gauge("writable", "1: an upload would find a block", status.writable() ? 1 : 0);
}

}  // namespace hayloft
