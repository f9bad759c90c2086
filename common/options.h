// Options as tables: one row makes the field, the parser, the range check, --help and the line of a
// config file.
//
//   #define DSP_OPTIONS(X)               (each line ends in a backslash; type, name, default,
//     X(uint32_t, trash_hours, 168,       min, max, help; min and max bound a number's value, a
//       1, 87'600, "hours until a ...")   text's length, a list's entries)
//   struct DspOptions {
//     HAYLOFT_OPTIONS(DSP_OPTIONS)           or HAYLOFT_SERVER_ROLE_OPTIONS: with the common ones
//     std::string Fault() const;             relations between options; empty: fine
//   };
//
// A field is a uint32_t (std::optional if 0 is not nothing), uint64_t, bool, std::string, or a
// list: std::vector<std::string>, may be given several times. On the command line `trash_hours` is
// --trash-hours=N, in a config file dsp.trash_hours = N. The command line wins.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/result.h"

namespace hayloft {

struct OptionRow {
  std::string_view name;
  std::string_view help;
  std::variant<uint32_t*, uint64_t*, std::optional<uint32_t>*, bool*, std::string*,
               std::vector<std::string>*>
      field;
  uint64_t min = 0;
  uint64_t max = 0;
  char letter = 0;  // a short form for commands: -r
};
using OptionRows = std::vector<OptionRow>;

// The rows of two tables behind each other.
inline OptionRows Joined(OptionRows first, OptionRows second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

#define HAYLOFT_OPTION_FIELD(type, name, value, min, max, help) type name = value;
#define HAYLOFT_OPTION_ROW(type, name, value, min, max, help) \
  ::hayloft::OptionRow{#name, help, &name, min, max},
#define HAYLOFT_OPTIONS(TABLE) \
  TABLE(HAYLOFT_OPTION_FIELD)  \
  ::hayloft::OptionRows Rows() { return {TABLE(HAYLOFT_OPTION_ROW)}; }
#define HAYLOFT_SERVER_ROLE_OPTIONS(TABLE)                                         \
  HAYLOFT_SERVER_OPTIONS(HAYLOFT_OPTION_FIELD)                                     \
  TABLE(HAYLOFT_OPTION_FIELD)                                                      \
  ::hayloft::OptionRows Rows() {                                                   \
    return {HAYLOFT_SERVER_OPTIONS(HAYLOFT_OPTION_ROW) TABLE(HAYLOFT_OPTION_ROW)}; \
  }

// What every server has.
#define HAYLOFT_SERVER_OPTIONS(X)                                                                \
  X(std::string, listen, "127.0.0.1:0", 1, 64, "IP:PORT for other processes")                    \
  X(std::string, advertise, "", 0, 64, "IP:PORT that others are told, if not `listen`")          \
  X(std::string, admin_listen, "", 0, 64, "IP:PORT of /healthz, /readyz, /metrics and /version") \
  X(std::string, data, "", 0, 4096, "folder of its own")                                         \
  X(std::string, nameservers, "", 0, 4096, "IP:PORT of each nameserver, with commas between")    \
  X(std::string, cluster_key_file, "", 0, 4096, "secret of the cluster; needed beyond loopback") \
  X(std::string, log_file, "", 0, 4096, "file to append log lines to, if not stderr")            \
  X(std::string, log_level, "info", 4, 5, "debug, info, warn or error")                          \
  X(std::string, machine, "", 0, 200, "machine that it runs on; two copies never share one")     \
  X(std::string, zone, "", 0, 200, "zone of the machine")                                        \
  X(std::string, name, "", 0, 200, "its name in logs and in `hayloft cluster status`")

// kInvalid with the cause in `why`, which names neither the option nor the value.
Err SetOption(const OptionRow& row, std::string_view value, std::string* why);
// What the row's field holds now, as text.
std::string OptionText(const OptionRow& row);
const OptionRow* FindOption(const OptionRows& rows, std::string_view name);

// Applies the lines `role.name = value` of a config file ('#' starts a comment line; lines of other
// roles are for others). kConfig with "line N: cause" in `why`.
Err ApplyConfigText(const OptionRows& rows, std::string_view role, std::string_view text,
                    std::string* why);

// "a,b" -> {"a", "b"}; empty entries are left out.
std::vector<std::string> SplitList(std::string_view text);
// {"a,b", "c"} -> {{"a", "b"}, {"c"}}
std::vector<std::vector<std::string>> SplitLists(const std::vector<std::string>& texts);

// A program, or one subcommand of it, as its command line sees it.
struct Program {
  std::string_view name;   // "hayloft-dsp", "hayloft put"
  std::string_view role;   // "dsp": a server; empty: a command (no --config, wrong usage exits 2)
  std::string_view about;  // one sentence
  OptionRows rows;
  std::function<std::string()> fault = nullptr;   // asked when all options are set; empty: fine
  std::vector<std::string>* arguments = nullptr;  // what is not an option; null: refused
  std::string_view arguments_help = {};           // "FILE..."
};
// Takes the options from argv[1] on. nullopt: go on. Else exit with this code; what there was to
// say has been said: --help and --version on stdout with 0, --check-config with 0, or one line of
// cause on stderr with 78 (servers) or 2 (commands). In common/io/options.cc.
std::optional<int> ParseCommandLine(const Program& program, int argc, const char* const* argv);

}  // namespace hayloft
