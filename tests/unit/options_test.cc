// Options: what a value may be, config files, and the command line's exit codes (F53).
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdio>

#include "common/io/files.h"
#include "common/options.h"

using namespace hayloft;

namespace {

#define TEST_OPTIONS(X)                                              \
  X(uint32_t, heartbeat_ms, 1'000, 50, 60'000, "between heartbeats") \
  X(uint64_t, cache_bytes, 1 << 20, 0, uint64_t{1} << 40, "bytes")   \
  X(std::optional<uint32_t>, shards, {}, 0, 256, "if told")          \
  X(bool, verify, false, 0, 1, "check twice")                        \
  X(std::vector<std::string>, set, {}, 0, 3, "ROLE.OPTION=VALUE")

struct TestOptions {
  HAYLOFT_SERVER_ROLE_OPTIONS(TEST_OPTIONS)
};

// What a command line does: its exit code (-1: the program goes on) and what it wrote.
struct Outcome {
  int exit_code = -1;
  std::string said{};
};
Outcome Run(TestOptions* options, std::vector<const char*> argv, std::string_view role = "dsp",
            std::vector<std::string>* arguments = nullptr) {
  argv.insert(argv.begin(), "hayloft-test");
  std::FILE* said = std::tmpfile();
  std::fflush(stdout);
  const int out = dup(1);
  const int err = dup(2);
  dup2(fileno(said), 1);
  dup2(fileno(said), 2);
  const std::optional<int> code = ParseCommandLine(
      {.name = "hayloft-test",
       .role = role,
       .about = "Tests.",
       .rows = options->Rows(),
       .fault = [options] { return options->heartbeat_ms == 77 ? "77 is odd" : std::string(); },
       .arguments = arguments,
       .arguments_help = "FILE..."},
      static_cast<int>(argv.size()), argv.data());
  std::fflush(stdout);
  dup2(out, 1);
  dup2(err, 2);
  close(out);
  close(err);
  Outcome outcome{.exit_code = code.value_or(-1)};
  std::rewind(said);
  for (int c = std::fgetc(said); c != EOF; c = std::fgetc(said)) outcome.said.push_back(char(c));
  std::fclose(said);
  return outcome;
}

size_t Lines(const std::string& text) { return size_t(std::count(text.begin(), text.end(), '\n')); }

struct TempFile {
  std::string path = "/tmp/hayloft_options_test." + std::to_string(getpid());
  explicit TempFile(std::string_view text) { REQUIRE_EQ(ReplaceFile(path, text), Err::kOk); }
  ~TempFile() { unlink(path.c_str()); }
};

}  // namespace

TEST_CASE("options: dashes on the command line set the fields, all else keeps its default") {
  TestOptions options;
  const Outcome outcome =
      Run(&options, {"--heartbeat-ms=50", "--cache-bytes", "12345678901", "--verify",
                     "--machine=m1", "--set=a=b", "--set", "c=d", "--log-file="});
  CHECK_EQ(outcome.exit_code, -1);
  CHECK_EQ(outcome.said, "");
  CHECK_EQ(options.heartbeat_ms, 50);
  CHECK_EQ(options.cache_bytes, 12345678901);
  CHECK(options.verify);
  CHECK_EQ(options.machine, "m1");
  CHECK_EQ(options.set, std::vector<std::string>{"a=b", "c=d"});
  CHECK_EQ(options.listen, "127.0.0.1:0");
}

TEST_CASE("options: a server answers what is wrong with one line and exit code 78 (F53)") {
  const std::vector<std::vector<const char*>> wrong = {{"--no-such-option=1"},
                                                       {"--heartbeat-ms=49"},
                                                       {"--heartbeat-ms=60001"},
                                                       {"--heartbeat-ms=-5"},
                                                       {"--heartbeat-ms=5x"},
                                                       {"--heartbeat-ms="},
                                                       {"--heartbeat-ms"},
                                                       {"--cache-bytes=1e5"},
                                                       {"--cache-bytes=99999999999999999999"},
                                                       {"--verify=perhaps"},
                                                       {"--machine=a\nb"},
                                                       {"--listen="},
                                                       {"stray"},
                                                       {"--heartbeat-ms=77"},
                                                       {"--set=1", "--set=2", "--set=3", "--set=4"},
                                                       {"--config=/no/such/file"}};
  for (const auto& argv : wrong) {
    TestOptions options;
    const Outcome outcome = Run(&options, argv);
    CAPTURE(argv[0]);
    CHECK_EQ(outcome.exit_code, 78);
    CHECK_EQ(Lines(outcome.said), 1);
    CHECK_EQ(outcome.said.rfind("hayloft-test: ", 0), 0);
  }
}

TEST_CASE("options: a command takes arguments and exits 2 when it is used wrongly") {
  TestOptions options;
  std::vector<std::string> arguments;
  CHECK_EQ(Run(&options, {"--heartbeat-ms=1"}, "", &arguments).exit_code, 2);
  CHECK_EQ(Run(&options, {"a", "--verify", "b", "-"}, "", &arguments).exit_code, -1);
  CHECK_EQ(arguments, std::vector<std::string>{"a", "b", "-"});
}

TEST_CASE("options: help, version and check-config say it and exit 0") {
  TestOptions options;
  const Outcome help = Run(&options, {"--help"});
  CHECK_EQ(help.exit_code, 0);
  CHECK_NE(help.said.find("--heartbeat-ms"), std::string::npos);
  CHECK_NE(help.said.find("1000; 50 to 60000"), std::string::npos);
  CHECK_NE(help.said.find("if told (0 to 256)"), std::string::npos);
  CHECK_EQ(Run(&options, {"--version"}).exit_code, 0);
  CHECK_EQ(Run(&options, {"--check-config", "--heartbeat-ms=50"}).exit_code, 0);
  CHECK_EQ(Run(&options, {"--check-config", "--heartbeat-ms=1"}).exit_code, 78);
}

TEST_CASE("options: a number that may be left out is not 0 then") {
  TestOptions options;
  CHECK_EQ(Run(&options, {}).exit_code, -1);
  CHECK_FALSE(options.shards.has_value());
  CHECK_EQ(Run(&options, {"--shards=0"}).exit_code, -1);
  CHECK_EQ(options.shards, 0);
  CHECK_EQ(Run(&options, {"--shards=257"}).exit_code, 78);
}

TEST_CASE("options: a config file sets its own role's options, the command line wins") {
  const TempFile file(
      "# all of the cluster\n\n dsp.heartbeat_ms = 60 \r\ndsp.machine=rack 7\ngateway.loops = 3\n");
  const std::string flag = "--config=" + file.path;
  TestOptions options;
  CHECK_EQ(Run(&options, {flag.c_str(), "--cache-bytes=7"}).exit_code, -1);
  CHECK_EQ(options.heartbeat_ms, 60);
  CHECK_EQ(options.machine, "rack 7");
  CHECK_EQ(options.cache_bytes, 7);
  CHECK_EQ(Run(&options, {flag.c_str(), "--heartbeat-ms=51"}).exit_code, -1);
  CHECK_EQ(options.heartbeat_ms, 51);
}

TEST_CASE("options: a config file with a mistake is refused with the line's number (F53)") {
  const std::vector<std::string_view> wrong = {"dsp.no_such = 1",       "dsb.heartbeat_ms = 60",
                                               "heartbeat_ms = 60",     "dsp.heartbeat_ms 60",
                                               "dsp.heartbeat_ms = 10", "[dsp]",
                                               "dsp.verify = maybe"};
  for (const std::string_view line : wrong) {
    CAPTURE(line);
    TestOptions options;
    std::string why;
    const OptionRows rows = options.Rows();
    CHECK_EQ(ApplyConfigText(rows, "dsp", "# fine\n" + std::string(line), &why), Err::kConfig);
    CHECK_EQ(why.rfind("line 2: ", 0), 0);
  }
}

TEST_CASE("options: a list of names is split at commas") {
  CHECK_EQ(SplitList("a, b,,c,"), std::vector<std::string>{"a", "b", "c"});
  CHECK(SplitList("").empty());
  CHECK_EQ(SplitLists({"a,b", "c"}), std::vector<std::vector<std::string>>{{"a", "b"}, {"c"}});
}
