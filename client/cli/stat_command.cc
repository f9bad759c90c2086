// `hayloft stat ID...`: what the gateway answers to GET /v1/files/<id>, from the dsps themselves.

#include <ctime>

#include "client/cli/file_ids.h"
#include "client/cli/session.h"
#include "common/io/json.h"

namespace hayloft {

namespace {

// 2026-11-21T10:02:03.456Z
std::string TimeText(uint64_t wall_ms) {
  const auto seconds = static_cast<time_t>(wall_ms / 1000);
  tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40];
  const size_t size = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + size, sizeof(text) - size, ".%03uZ", static_cast<unsigned>(wall_ms % 1000));
  return text;
}

Result<Json> ToJson(const FileAddress& address, const StatDone& stat) {
  TRY_ASSIGN(const NeedleHead head, ParseNeedleHead(AsBytes(stat.head)));
  TRY_ASSIGN(const Metadata metadata, ParseMetadata(head.metadata));
  Json json, replicas{Json::Array()}, fields{Json::Object()};
  for (const StatReplica& replica : stat.replicas) {
    const std::string_view state = replica.err == Err::kOk ? "ok" : ErrName(replica.err);
    replicas.Add(Json().Set("dsp", replica.dsp).Set("state", state));
  }
  for (const auto& [name, value] : metadata.fields) fields.Set(name, value);
  json.Set("id", ToText(address)).Set("size", uint32_t{head.header.raw_size});
  json.Set("sha1", ToHex(metadata.sha1)).Set("sha256", ToHex(metadata.sha256));
  json.Set("content_type", metadata.content_type);
  json.Set("created", TimeText(head.header.created_ms)).Set("block", address.block_id);
  json.Set("deleted", IsDeleted(stat.delete_counter));
  json.Set("replicas", replicas).Set("fields", fields);
  return json;
}

void PrintForPeople(const Json& json) {
  for (const auto& [name, value] : json.object()) {
    const bool plain = value.array().empty() && value.object().empty();
    if (plain && (name == "replicas" || name == "fields")) continue;
    const std::string text = value.text().empty() ? value.Dump() : value.text();
    std::printf("%-13s %s\n", name.c_str(), text.c_str());
  }
}

}  // namespace

int RunStat(int argc, const char* const* argv) {
  CommandOptions common;
  std::vector<std::string> arguments;
  const Program program{.name = "hayloft stat",
                        .role = "",
                        .about = "What is known of a file, and where it lies.",
                        .rows = common.Rows(),
                        .fault = [&] { return arguments.empty() ? "name an id" : common.Fault(); },
                        .arguments = &arguments,
                        .arguments_help = "ID..."};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  const auto files = CollectFiles(arguments, "", "");
  if (!files.has_value()) return kExitUsage;
  const std::unique_ptr<Session> session = Session::Open(common);
  if (session == nullptr) return kExitFailed;
  int exit_code = kExitFine;
  for (const FileToken& file : *files) {
    const auto stat = Await<StatDone>(session->loop(), [&](auto done) {
      StatRequest request;
      request.address = file.address;
      request.timeout_ms = common.timeout_ms;
      session->client()->Stat(std::move(request), done);
    });
    const Result<Json> json = stat.err == Err::kOk ? ToJson(file.address, stat) : stat.err;
    if (!json.ok()) {
      exit_code = Complain(ToText(file.address) + ": " + Describe(json.err()));
    } else if (common.json) {
      std::printf("%s\n", json->Dump().c_str());
    } else {
      PrintForPeople(*json);
    }
  }
  return exit_code;
}

}  // namespace hayloft
