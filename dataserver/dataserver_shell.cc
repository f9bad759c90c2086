#include "dataserver/dataserver_shell.h"

#include <signal.h>

#include <cinttypes>
#include <utility>

#include "common/io/json.h"
#include "common/log.h"

namespace hayloft {

namespace {

constexpr const char* kDspProgram = "hayloft-dsp";
constexpr uint64_t kTickMs = 100;
constexpr uint64_t kProbeMs = 1'000;         // from one probe to the next
constexpr uint32_t kProbeTimeoutMs = 2'000;  // below hang_ms: several fit into it
constexpr uint64_t kRecordsBytesMax = 1 << 20;

const char* StateName(DspState state, bool read_only) {
  switch (state) {
    case DspState::kWaiting:
      return read_only ? "read_only" : "waiting";
    case DspState::kRunning:
      return read_only ? "read_only" : "running";
    case DspState::kRetired:
      return "retired";
  }
  return "";
}

}  // namespace

std::string DataserverOptions::Fault() const {
  if (data.empty()) return "--data is needed";
  if (name.empty()) return "--name is needed";
  if (cluster_id.empty()) return "--cluster-id is needed";
  const size_t count = SplitList(disks).size();
  if (count == 0) return "--disks is needed";
  if (SplitList(dsp_listen).size() != count) return "--dsp-listen must name one for each disk";
  if (SplitList(dsp_admin_listen).size() != count) {
    return "--dsp-admin-listen must name one for each disk";
  }
  return "";
}

Dataserver::Dataserver(Loop* loop, const DataserverOptions* options)
    : loop_(loop), options_(*options) {
  const std::vector<std::string> folders = SplitList(options->disks);
  const std::vector<std::string> listens = SplitList(options->dsp_listen);
  const std::vector<std::string> admins = SplitList(options->dsp_admin_listen);
  ASSERT(folders.size() == listens.size());
  ASSERT(folders.size() == admins.size());
  // dataserver-1 has dsp-1-1, dsp-1-2...
  std::string stem = options->name;
  if (stem.starts_with("dataserver")) stem.replace(0, std::string("dataserver").size(), "dsp");
  std::vector<std::string> names;
  for (size_t i = 0; i < folders.size(); ++i) {
    Dsp dsp;
    dsp.name = stem + "-" + std::to_string(i + 1);
    dsp.folder =
        AbsolutePath(folders[i].front() == '/' ? folders[i] : options->data + "/" + folders[i]);
    dsp.listen = listens[i];
    dsp.admin_listen = admins[i];
    names.push_back(dsp.name);
    dsps_.push_back(std::move(dsp));
  }
  SupervisorOptions supervisor;
  supervisor.hang_ms = options->hang_ms;
  supervisor_ = std::make_unique<Supervisor>(supervisor, std::move(names));
}

Err Dataserver::Start(std::string* why) {
  if (!IsFolder(options_.data)) {
    *why = "the folder " + options_.data + " is not there";
    return Err::kConfig;
  }
  Result<FileLock> lock = FileLock::TryTake(options_.data + "/LOCK");
  if (!lock.ok()) {
    *why = options_.data + (lock.err() == Err::kBusy ? " is in use by another dataserver"
                                                     : " cannot be written to");
    return Err::kConfig;
  }
  lock_ = std::make_unique<FileLock>(std::move(lock).value());
  AdoptRunning();
  tick_ = loop_->Every(kTickMs, [this] { Tick(); });
  loop_->Post([this] { Tick(); });
  return Err::kOk;
}

void Dataserver::AdoptRunning() {
  Json records;
  const auto text = ReadWholeFile(options_.data + "/dsps.json", kRecordsBytesMax);
  if (text.ok()) {
    Result<Json> parsed = Json::Parse(*text);
    if (parsed.ok()) records = std::move(parsed).value();
  }
  for (size_t i = 0; i < dsps_.size(); ++i) {
    Dsp& dsp = dsps_[i];
    for (const Json& record : records["dsps"].array()) {
      const ProcessId id{.pid = static_cast<int>(record["pid"].number()),
                         .started = record["started"].text()};
      if (record["name"].text() == dsp.name && IsRunning(id)) dsp.process = id;
    }
    // The records may be gone or damaged; the processes know what they serve.
    if (dsp.process.pid == 0) dsp.process = FindServer(dsp);
    if (dsp.process.pid > 0) supervisor_->Adopt(i, loop_->now());
    if (FileExists(MarkPath(dsp))) supervisor_->ServeReadOnly(i);
  }
  WriteRecords();
}

// A process that serves this disk, whoever started it; pid 0: none.
ProcessId Dataserver::FindServer(const Dsp& dsp) {
  return FindProcessOf(kDspProgram, "--data=" + dsp.folder);
}

void Dataserver::Tick() {
  NoticeExits();
  Supervisor::Orders orders;
  supervisor_->OnTick(loop_->now(), &orders);
  Carry(orders);
  SendProbes();
  if (supervisor_->stopped()) loop_->Stop();
}

void Dataserver::NoticeExits() {
  for (size_t i = 0; i < dsps_.size(); ++i) {
    const Dsp& dsp = dsps_[i];
    if (dsp.process.pid == 0) continue;
    if (!dsp.is_child) {
      if (!IsRunning(dsp.process)) Exited(i, {DspExit::Kind::kUnknown, 0});
      continue;
    }
    const Result<ChildExit> ended = ReapChild(dsp.process.pid);
    if (!ended.ok()) continue;
    const auto kind = ended->by_signal ? DspExit::Kind::kSignal : DspExit::Kind::kCode;
    Exited(i, {kind, ended->value});
  }
}

void Dataserver::Exited(size_t number, DspExit exit) {
  Dsp& dsp = dsps_[number];
  dsp.process = {};
  dsp.probe.reset();
  Supervisor::Orders orders;
  supervisor_->OnExit(number, exit, loop_->now(), &orders);
  Carry(orders);
  WriteRecords();
}

void Dataserver::Carry(const Supervisor::Orders& orders) {
  for (const SupervisorOrder& order : orders) {
    const ProcessId& process = dsps_[order.dsp].process;
    switch (order.kind) {
      case SupervisorOrder::Kind::kStart:
        StartDsp(order.dsp);
        break;
      case SupervisorOrder::Kind::kTerminate:
        (void)Signal(process, SIGTERM);
        break;  // or gone
      case SupervisorOrder::Kind::kKill:
        (void)Signal(process, SIGKILL);
        break;  // likewise
      case SupervisorOrder::Kind::kMarkFailed:
        MarkFailed(order.dsp);
        break;
    }
  }
}

void Dataserver::StartDsp(size_t number) {
  Dsp& dsp = dsps_[number];
  ASSERT(dsp.process.pid == 0);
  dsp.probe_at_ms = loop_->now().mono_ms + kTickMs;
  if (const ProcessId server = FindServer(dsp); server.pid > 0) {  // a second one would only leave
    LOG_INFO("dsp_adopted", "dsp=%s pid=%d", dsp.name.c_str(), server.pid);
    dsp.process = server;
    dsp.is_child = false;
    return WriteRecords();
  }
  const std::string log_dir = options_.dsp_log_dir.empty() ? options_.data : options_.dsp_log_dir;
  const auto record = [&](const ProcessId& id) {
    dsp.process = id;
    WriteRecords();
    return Err::kOk;
  };
  const auto started = Spawn(Arguments(number), log_dir + "/" + dsp.name + ".log", record);
  dsp.is_child = started.ok();
  if (started.ok()) {
    LOG_INFO("dsp_started", "dsp=%s pid=%d", dsp.name.c_str(), started->pid);
  } else {
    Exited(number, {DspExit::Kind::kNotStarted, static_cast<int>(started.err())});
  }
}

std::vector<std::string> Dataserver::Arguments(size_t number) const {
  const Dsp& dsp = dsps_[number];
  const std::string log_dir = options_.dsp_log_dir.empty() ? options_.data : options_.dsp_log_dir;
  std::vector<std::string> argv = {OwnBinaryFolder() + "/" + kDspProgram,
                                   "--name=" + dsp.name,
                                   "--data=" + dsp.folder,
                                   "--cluster-id=" + options_.cluster_id,
                                   "--listen=" + dsp.listen,
                                   "--admin-listen=" + dsp.admin_listen,
                                   "--nameservers=" + options_.nameservers,
                                   "--cluster-key-file=" + options_.cluster_key_file,
                                   "--machine=" + options_.machine,
                                   "--zone=" + options_.zone,
                                   "--log-file=" + log_dir + "/" + dsp.name + ".log",
                                   "--log-level=" + options_.log_level};
  if (supervisor_->read_only(number)) argv.push_back("--read-only");
  if (!options_.dsp_config.empty()) argv.push_back("--config=" + options_.dsp_config);
  return argv;
}

std::string Dataserver::MarkPath(const Dsp& dsp) const {
  return options_.data + "/" + dsp.name + ".failed";
}

void Dataserver::MarkFailed(size_t number) {
  const Dsp& dsp = dsps_[number];
  const Err err = ReplaceFile(
      MarkPath(dsp), "The disk " + dsp.folder +
                         " failed to write or to sync: it is served read-only. Replace\n"
                         "it, then remove this file and send the dataserver SIGUSR1.\n"
                         "docs/operating.md says how a sound disk gets rid of its mark.\n");
  // The dsp has marked its superblocks too, and would not write again.
  if (err != Err::kOk) LOG_ERROR("mark_not_written", "dsp=%s", dsp.name.c_str());
}

// Tells the next dataserver and `hayloft cluster` what runs. Failing to write it down must not stop
// a dsp from being started: the lock of its disk keeps a second one away in any case.
void Dataserver::WriteRecords() {
  Json list{Json::Array()};
  for (size_t i = 0; i < dsps_.size(); ++i) {
    const Dsp& dsp = dsps_[i];
    Json record;
    record.Set("name", dsp.name).Set("pid", dsp.process.pid).Set("started", dsp.process.started);
    record.Set("state", StateName(supervisor_->state(i), supervisor_->read_only(i)));
    std::string reason = supervisor_->read_only(i) ? "disk_failed" : "";
    if (supervisor_->state(i) == DspState::kRetired) reason = supervisor_->retired_why(i);
    record.Set("reason", reason);
    list.Add(record);
  }
  const std::string text = Json().Set("dsps", list).Dump(/*pretty=*/true);
  Err err = ReplaceFile(options_.data + "/dsps.json", text);
  if (err == Err::kOk && !options_.cluster_file.empty()) {
    err = ClusterFile(options_.cluster_file).Change([this](std::vector<ProcessEntry>* entries) {
      std::erase_if(*entries, [this](const ProcessEntry& e) { return e.parent == options_.name; });
      for (const Dsp& dsp : dsps_) {
        if (dsp.process.pid == 0) continue;
        entries->push_back({.name = dsp.name,
                            .role = "dsp",
                            .id = dsp.process,
                            .address = dsp.listen,
                            .http = dsp.admin_listen,
                            .data = dsp.folder,
                            .parent = options_.name});
      }
    });
  }
  if (err != Err::kOk) {
    LOG_ERROR("records_not_written", "data=%s err=%.*s", LogText(options_.data).c_str(),
              static_cast<int>(ErrName(err).size()), ErrName(err).data());
  }
}

void Dataserver::SendProbes() {
  const uint64_t now_ms = loop_->now().mono_ms;
  for (size_t i = 0; i < dsps_.size(); ++i) {
    Dsp& dsp = dsps_[i];
    if (dsp.process.pid == 0 || dsp.probe != nullptr || now_ms < dsp.probe_at_ms) continue;
    // Until it answers for the first time it is asked more often: it may be waited for.
    dsp.probe_at_ms = now_ms + (supervisor_->answers(i) ? kProbeMs : kTickMs);
    const HttpCallRequest request{
        .address = dsp.admin_listen, .path = "/metrics", .timeout_ms = kProbeTimeoutMs};
    dsp.probe = std::make_unique<HttpCall>(loop_, request, [this, i](HttpAnswer answer) {
      dsps_[i].probe.reset();
      const DspProbe probe{
          .answered = answer.status == 200,
          .disk_progress_ms = MetricValue(answer.body, "hayloft_dsp_disk_progress_ms", 0)};
      Supervisor::Orders orders;
      supervisor_->OnProbe(i, probe, loop_->now(), &orders);
      Carry(orders);
    });
  }
}

void Dataserver::Stop() {
  Supervisor::Orders orders;
  supervisor_->Stop(loop_->now(), &orders);
  Carry(orders);
}

void Dataserver::LookAgain() {
  Supervisor::Orders orders;
  for (size_t i = 0; i < dsps_.size(); ++i) {
    if (!FileExists(MarkPath(dsps_[i]))) supervisor_->Revive(i, loop_->now(), &orders);
  }
  Carry(orders);
  WriteRecords();
}

std::string Dataserver::NotReady() const {
  if (supervisor_->stopping()) return "it is stopping";
  for (size_t i = 0; i < dsps_.size(); ++i) {
    if (supervisor_->state(i) != DspState::kRetired && !supervisor_->answers(i)) {
      return dsps_[i].name + " does not answer yet";
    }
  }
  return "";
}

void Dataserver::PrintMetrics(MetricsText* out) const {
  constexpr std::string_view kPrefix = "hayloft_dataserver_";
  for (size_t i = 0; i < dsps_.size(); ++i) {
    out->AddGauge({kPrefix, "dsp_running", "1 while the dsp's process runs"},
                  supervisor_->state(i) == DspState::kRunning ? 1 : 0, {{"dsp", dsps_[i].name}});
  }
  for (size_t i = 0; i < dsps_.size(); ++i) {
    out->AddGauge({kPrefix, "dsp_retired", "1 when the disk failed or refuses its configuration"},
                  supervisor_->state(i) == DspState::kRetired ? 1 : 0, {{"dsp", dsps_[i].name}});
  }
  for (size_t i = 0; i < dsps_.size(); ++i) {
    out->AddGauge({kPrefix, "dsp_restarts", "starts after the first one"}, supervisor_->restarts(i),
                  {{"dsp", dsps_[i].name}});
  }
}

}  // namespace hayloft
