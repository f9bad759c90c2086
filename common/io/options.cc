// The command line: CLI11 splits it into options and values; what a value may be is the table's.
#include "common/options.h"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "common/io/files.h"
#include "common/version.h"

namespace hayloft {

namespace {

constexpr int kExitConfig = 78;  // EX_CONFIG
constexpr int kExitUsage = 2;
constexpr uint64_t kConfigBytesMax = 1 << 20;

struct Given {
  const OptionRow* row;
  std::string value;
};

std::string Dashed(std::string_view name) {
  std::string dashed(name);
  std::replace(dashed.begin(), dashed.end(), '_', '-');
  return dashed;
}

std::string HelpOf(const OptionRow& row) {
  std::string help(row.help);
  const std::string value = OptionText(row);
  const bool number = std::holds_alternative<uint32_t*>(row.field) ||
                      std::holds_alternative<uint64_t*>(row.field) ||
                      std::holds_alternative<std::optional<uint32_t>*>(row.field);
  if (number) {
    return help + " (" + (value.empty() ? "" : value + "; ") + std::to_string(row.min) + " to " +
           std::to_string(row.max) + ")";
  }
  return value.empty() ? help : help + " (" + value + ")";
}

void AddRow(CLI::App* app, const OptionRow& row, std::vector<Given>* given) {
  const std::string dashed = "--" + Dashed(row.name);
  const std::string names = row.letter == 0 ? dashed : std::string{'-', row.letter} + "," + dashed;
  if (std::holds_alternative<bool*>(row.field)) {
    app->add_flag_function(
           names,
           [&row, given](int64_t value) {
             given->push_back({&row, value > 0 ? "1" : "0"});
           },
           HelpOf(row))
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    return;
  }
  const bool list = std::holds_alternative<std::vector<std::string>*>(row.field);
  CLI::Option* option = app->add_option_function<std::vector<std::string>>(
      names,
      [&row, given](const std::vector<std::string>& values) {
        for (const std::string& value : values) given->push_back({&row, value});
      },
      HelpOf(row));
  option->type_name(list ? "X..." : "X")
      ->type_size(1)
      ->expected(1, list ? CLI::detail::expected_max_vector_size : 1);
  option->allow_extra_args(false);
}

// Config file first, command line over it.
Err Apply(const Program& program, const std::string& config, const std::vector<Given>& given,
          std::string* why) {
  if (!config.empty()) {
    const Result<std::string> text = ReadWholeFile(config, kConfigBytesMax);
    if (!text.ok()) {
      *why = "config " + config + ": " + std::string(ErrName(text.err()));
      return text.err();
    }
    if (ApplyConfigText(program.rows, program.role, *text, why) != Err::kOk) {
      *why = "config " + config + ": " + *why;
      return Err::kConfig;
    }
  }
  for (const Given& entry : given) {
    std::string cause;
    if (SetOption(*entry.row, entry.value, &cause) != Err::kOk) {
      *why = "--" + Dashed(entry.row->name) + ": " + cause;
      return Err::kConfig;
    }
  }
  if (program.fault != nullptr) *why = program.fault();
  return why->empty() ? Err::kOk : Err::kConfig;
}

// The words of the command line, last first, as CLI11 wants them. "--name=" is taken here: CLI11
// would miss its value, and an empty one is how an option is switched off.
std::vector<std::string> WordsBackwards(const Program& program, int argc, const char* const* argv,
                                        std::vector<Given>* given) {
  std::vector<std::string> words;
  for (int i = argc - 1; i > 0; --i) {
    const std::string_view word = argv[i];
    const auto row =
        std::find_if(program.rows.begin(), program.rows.end(),
                     [&](const OptionRow& each) { return word == "--" + Dashed(each.name) + "="; });
    if (row == program.rows.end()) {
      words.emplace_back(word);
    } else {
      given->push_back({&*row, ""});
    }
  }
  return words;
}

std::string OneLine(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

std::optional<int> ParseCommandLine(const Program& program, int argc, const char* const* argv) {
  const bool server = !program.role.empty();
  CLI::App app{std::string(program.about), std::string(program.name)};
  app.set_help_flag("-h,--help", "print this and exit");
  bool version = false;
  bool check_only = false;
  std::string config;
  std::vector<Given> given;
  app.add_flag("--version", version, "print the version and exit");
  if (server) {
    app.add_option("--config", config, "file of lines role.name = value")->type_name("FILE");
    app.add_flag("--check-config", check_only, "check the options and exit");
  }
  for (const OptionRow& row : program.rows) AddRow(&app, row, &given);
  if (program.arguments != nullptr) {
    app.add_option("arguments", *program.arguments, "")
        ->type_name(std::string(program.arguments_help));
  }
  std::vector<std::string> words = WordsBackwards(program, argc, argv, &given);
  std::string why;
  try {
    app.parse(std::move(words));
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return 0;
  } catch (const std::exception& error) {  // a CLI::ParseError, or a number that is none
    why = error.what();
  }
  if (why.empty() && version) {
    std::printf("%.*s %s\n", static_cast<int>(program.name.size()), program.name.data(), kVersion);
    return 0;
  }
  if (why.empty()) (void)Apply(program, config, given, &why);  // `why` says it all
  if (!why.empty()) {
    std::fprintf(stderr, "%.*s: %s\n", static_cast<int>(program.name.size()), program.name.data(),
                 OneLine(why).c_str());
    return server ? kExitConfig : kExitUsage;
  }
  if (!check_only) return std::nullopt;
  std::puts("the configuration is fine");
  return 0;
}

}  // namespace hayloft
