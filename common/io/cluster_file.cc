#include "common/io/cluster_file.h"

#include <algorithm>

#include "common/io/files.h"
#include "common/io/json.h"

namespace hayloft {

namespace {

constexpr uint64_t kClusterFileBytesMax = 4 << 20;

Json ToJson(const ProcessEntry& entry) {
  Json json;
  json.Set("name", entry.name).Set("role", entry.role).Set("pid", entry.id.pid);
  json.Set("started", entry.id.started).Set("address", entry.address).Set("http", entry.http);
  json.Set("data", entry.data).Set("parent", entry.parent);
  return json;
}

ProcessEntry FromJson(const Json& json) {
  return {.name = json["name"].text(),
          .role = json["role"].text(),
          .id = {.pid = static_cast<int>(json["pid"].number()), .started = json["started"].text()},
          .address = json["address"].text(),
          .http = json["http"].text(),
          .data = json["data"].text(),
          .parent = json["parent"].text()};
}

}  // namespace

Result<std::vector<ProcessEntry>> ClusterFile::Read() const {
  std::vector<ProcessEntry> entries;
  const Result<std::string> text = ReadWholeFile(path_, kClusterFileBytesMax);
  if (text.err() == Err::kNotFound) return entries;
  if (!text.ok()) return text.err();
  TRY_ASSIGN(const Json json, Json::Parse(*text));
  for (const Json& process : json["processes"].array()) entries.push_back(FromJson(process));
  return entries;
}

Err ClusterFile::Change(const std::function<void(std::vector<ProcessEntry>*)>& change) const {
  TRY_ASSIGN(const FileLock lock, FileLock::Take(path_ + ".lock"));
  TRY_ASSIGN(std::vector<ProcessEntry> entries, Read());
  change(&entries);
  std::sort(entries.begin(), entries.end(),
            [](const ProcessEntry& a, const ProcessEntry& b) { return a.name < b.name; });
  Json::Array processes;
  for (const ProcessEntry& entry : entries) processes.push_back(ToJson(entry));
  return ReplaceFile(path_, Json().Set("processes", processes).Dump(/*pretty=*/true));
}

Err ClusterFile::Put(const ProcessEntry& entry) const {
  return Change([&](std::vector<ProcessEntry>* entries) {
    for (ProcessEntry& old : *entries) {
      if (old.name == entry.name) {
        old = entry;
        return;
      }
    }
    entries->push_back(entry);
  });
}

Err ClusterFile::Remove(const std::string& name) const {
  return Change([&](std::vector<ProcessEntry>* entries) {
    std::erase_if(*entries, [&](const ProcessEntry& entry) { return entry.name == name; });
  });
}

const ProcessEntry* FindEntry(const std::vector<ProcessEntry>& entries, const std::string& name) {
  const auto it = std::find_if(entries.begin(), entries.end(),
                               [&](const ProcessEntry& entry) { return entry.name == name; });
  return it == entries.end() ? nullptr : &*it;
}

}  // namespace hayloft
