// The rows of a shard as its active node has decided them: those of the Kv, under those of records
// that the Kv has not yet.
//
//   Put, Remove --> overlay and the record in the making --> Take --> log --> Kv: Applied
//
// The first reference to a file is in the file's own row, as long as that is the content's; any
// other has a row. Threads: one owner. Pure; borrows the Kv.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "directory/dir_store.h"

namespace hayloft {

class DirRows {
 public:
  static constexpr size_t kRecentMax = 1'024;

  explicit DirRows(Kv* kv) : kv_(kv), recent_(kRecentMax) {}

  // --- Rows, by key; none: there is no such row. kIo, kCorrupt.
  template <typename Message>
  Result<std::optional<Message>> Get(std::string_view key) {
    TRY_ASSIGN(const std::optional<std::string> value, GetValue(key));
    if (!value.has_value()) return std::optional<Message>();
    std::optional<Message> message(std::in_place);
    if (!message->ParseFromString(*value)) return Err::kCorrupt;
    return message;
  }
  void Put(std::string key, const google::protobuf::MessageLite& message);
  void Remove(std::string key);
  // From this key on, in order, until `visit` returns false. REQUIRES: `visit` changes nothing.
  Err ScanFrom(std::string_view first, const Kv::Visit& visit);
  Err Scan(std::string_view prefix, const Kv::Visit& visit);

  // --- Records
  // What was put and removed since the last one.
  bool changed() const { return !record_.rows().empty(); }
  pb::DirRecord Take(uint64_t index);
  // A record of somebody else's making, which the Kv may not have yet.
  void Lay(const pb::DirRecord& record);
  void Applied(uint64_t index);
  // The record that says what this row is now; 0: the Kv has it, so it is safe.
  uint64_t IndexOf(std::string_view key) const;
  size_t overlaid() const { return overlay_.size(); }

 private:
  struct Laid {
    std::optional<std::string> value;
    uint64_t index = 0;  // of the latest record that has it; UINT64_MAX: the one in the making
  };
  struct Recent {
    std::string key;  // empty: none
    std::optional<std::string> value;
  };
  Result<std::optional<std::string>> GetValue(std::string_view key);
  Recent* RecentOf(std::string_view key);
  void Forget(std::string_view key);
  void Change(std::string key, std::optional<std::string> value);

  Kv* const kv_;
  std::map<std::string, Laid, std::less<>> overlay_;
  std::deque<std::pair<uint64_t, std::string>> laid_;  // (record, key) in order
  pb::DirRecord record_;
  // Rows of the Kv alone, or that are not there: a decision asks for its rows more than once, and
  // what an upload records rests on the row that its look-up read. Each key has one place.
  std::vector<Recent> recent_;
};

}  // namespace hayloft
