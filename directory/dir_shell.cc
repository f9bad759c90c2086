#include "directory/dir_shell.h"

#include <algorithm>
#include <utility>

#include "common/io/socket_address.h"

namespace hayloft {

// --- Options ---

std::string DirConfig::Fault() const {
  const std::optional<uint32_t> shard = Shard();
  if (!init && !check_store && nameservers.empty()) return "nameservers: needed";
  if (!shard.has_value()) return "directory: in which list does this one stand? (advertise)";
  std::vector<std::string> all;
  for (const std::string& nodes : directory) {
    const std::vector<std::string> pair = SplitList(nodes);
    if (pair.empty() || pair.size() > 2) return "directory: one or two nodes for each shard";
    all.insert(all.end(), pair.begin(), pair.end());
  }
  std::sort(all.begin(), all.end());
  if (std::adjacent_find(all.begin(), all.end()) != all.end()) {
    return "directory: a node stands there twice";
  }
  if (const std::string fault = PurgeFault(Purge()); !fault.empty()) return fault;
  if (!purge_url.empty() && !ParseSocketAddress(PurgeAddress(Purge())).ok()) {
    return "purge_url: http://IP:PORT/..., in numbers";
  }
  return HaConfig::Fault(
      directory.empty() ? std::vector<std::string>() : SplitList(directory[*shard]), "directory");
}

PurgeOptions DirConfig::Purge() const {
  return {.url = purge_url,
          .method = purge_method,
          .host = purge_host,
          .file_url = purge_file_url,
          .delay_ms = purge_delay_ms,
          .timeout_ms = purge_timeout_ms};
}

std::optional<uint32_t> DirConfig::Shard() const {
  if (directory.empty()) return 0;
  for (uint32_t shard = 0; shard < directory.size(); ++shard) {
    const std::vector<std::string> nodes = SplitList(directory[shard]);
    if (std::find(nodes.begin(), nodes.end(), Address()) != nodes.end()) return shard;
  }
  return std::nullopt;
}

uint32_t DirConfig::Shards() const { return std::max(1u, static_cast<uint32_t>(directory.size())); }

LevelDbOptions DirLevelDbOptions(uint64_t cache_bytes) {
  return {.cache_bytes = cache_bytes,
          .write_buffer_bytes = 8 << 20,
          .open_files_max = 2'000,
          .file_bytes = 8 << 20,
          .block_bytes = 2048,  // a read's bytes are checked and copied: some 20 rows for one
          .compress = false,
          .read_all = false};  // damage is met when it is read, and nothing of it is believed
}

// --- Rows ---

Err DirShell::InitRows(Kv* kv, std::string_view node, bool joining) {
  TRY_ASSIGN(const std::string cluster_id, config_.ClusterId());
  pb::DirSettings settings;
  settings.set_cluster_id(cluster_id);
  settings.set_shard(*config_.Shard());
  settings.set_shards(config_.Shards());
  settings.set_losses(config_.rebuild ? 1 : 0);
  return DirStore(kv).Init(node, settings, joining);
}

Err DirShell::LoadRows(Kv* kv) {
  store_ = std::make_unique<DirStore>(kv);
  TRY_ASSIGN(loaded_, store_->Load());
  return Err::kOk;
}

Err DirShell::ApplyRows(const std::vector<pb::HaRecord>& records) {
  return store_->Apply(records, /*sync=*/false);
}

// --- The server ---

Err DirShell::MakeServer(RoleOptions role, RoleDisk disk, Kv* kv, Random* random,
                         std::string* why) {
  const pb::DirSettings& settings = loaded_.head.settings();
  const bool has_settings = loaded_.head.format() != 0;
  if (has_settings &&
      (settings.shard() != *config_.Shard() || settings.shards() != config_.Shards())) {
    *why = config_.data + " holds shard " + std::to_string(settings.shard()) + " of " +
           std::to_string(settings.shards()) + ", `directory` makes it shard " +
           std::to_string(*config_.Shard()) + " of " + std::to_string(config_.Shards());
    return Err::kConfig;
  }
  loaded_.node = disk.head.node();
  DirOptions options;
  options.dsps.nameservers = SplitList(config_.nameservers);
  options.shards = SplitLists(config_.directory);
  options.purge = config_.Purge();
  core_ = std::make_unique<DirCore>(std::move(options), std::move(loaded_), kv, random);
  server_ =
      std::make_unique<HaServer>(core_.get(), std::move(role), std::move(disk), random->Next64());
  return Err::kOk;
}

std::string DirShell::CoordinatorKey() const {
  return "directory-" + std::to_string(*config_.Shard());
}

std::vector<std::string> DirShell::Pair() const {
  if (config_.directory.empty()) return {};
  return SplitList(config_.directory[*config_.Shard()]);
}

bool DirShell::Answers(Now now) const { return core_->ready() && server_->role().MayAnswer(now); }

void DirShell::PrintMetrics(Now, MetricsText* out) const {
  core_->metrics().Print(out);
  core_->purges().metrics().Print(out);
  const pb::DirHead& head = core_->state().head;
  const std::string_view prefix = "hayloft_directory_";
  const auto gauge = [&](std::string_view name, std::string_view help, uint64_t value) {
    out->AddGauge({prefix, name, help}, value);
  };
  gauge("epoch", "its epoch", head.epoch());
  gauge("shard", "which one it is, from 0", head.settings().shard());
  gauge("shards", "shards of the directory", head.settings().shards());
  gauge("losses", "how often records were lost: what it had then is pinned",
        head.settings().losses());
  gauge("pinned", "files that stay until an administrator unpins them, as last counted",
        core_->pinned());
  gauge("pending", "deletes and undeletes that the dsps may not have yet", core_->pending());
  gauge("purges_pending", "deleted files that the CDN is still to be told of, as last counted",
        core_->purges().pending());
  gauge("drops", "references of overwritten names that are not removed yet", core_->drops());
}

}  // namespace hayloft
