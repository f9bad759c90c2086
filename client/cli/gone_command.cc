// `hayloft gone DSP`: an operator's word that a dsp does not come back.

#include <charconv>
#include <cinttypes>

#include "client/cli/session.h"
#include "common/io/json.h"

namespace hayloft {

namespace {

#define HAYLOFT_GONE_OPTIONS(X)                                                               \
  X(bool, even_last, false, 0, 1, "also when blocks lose their last replica: they stay lost") \
  X(bool, yes, false, 0, 1, "do not ask")

struct GoneOptions {
  HAYLOFT_OPTIONS(HAYLOFT_GONE_OPTIONS)
};

int Refused(Err err, const pb::DeclareGoneReply& reply, uint32_t dsp_id) {
  const std::string dsp = "dsp " + std::to_string(dsp_id);
  if (err == Err::kNotFound) return Complain(dsp + " is not known; `hayloft status` lists them");
  if (err != Err::kInvalid) return Complain(Describe(err));
  if (reply.last_copies() == 0) return Complain(dsp + " is up: stop it first");
  return Complain(dsp + " has the last replica of " + std::to_string(reply.last_copies()) +
                  " block(s), whose files would be lost: --even-last");
}

int DeclareGone(uint32_t dsp_id, const GoneOptions& options, const CommandOptions& common) {
  const std::unique_ptr<Session> session = Session::Open(common);
  if (session == nullptr) return kExitFailed;
  pb::DeclareGoneRequest request;
  request.set_dsp_id(dsp_id);
  request.set_even_last(options.even_last);
  const CallDone done = session->AskNameserver(MessageType::kDeclareGone,
                                               request.SerializeAsString(), common.timeout_ms);
  pb::DeclareGoneReply reply;
  const bool read = reply.ParseFromString(done.message);
  if (done.err != Err::kOk) return Refused(done.err, reply, dsp_id);
  if (!read) return Complain(Describe(Err::kCorrupt));
  if (common.json) {
    const Json json = Json().Set("blocks", reply.blocks()).Set("last_copies", reply.last_copies());
    std::printf("%s\n", json.Dump().c_str());
  } else {
    std::printf("dsp %u left the sets of %" PRIu64 " blocks; %" PRIu64 " had no other replica\n",
                dsp_id, reply.blocks(), reply.last_copies());
  }
  return kExitFine;
}

uint32_t ParseNumber(const std::vector<std::string>& arguments) {
  uint32_t number = 0;
  if (arguments.size() != 1) return 0;
  const std::string& text = arguments[0];
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : 0;
}

}  // namespace

int RunGone(int argc, const char* const* argv) {
  CommandOptions common;
  GoneOptions options;
  std::vector<std::string> arguments;
  const Program program{
      .name = "hayloft gone",
      .role = "",
      .about =
          "Gives a dsp up for good; its number is in `hayloft status`. Blocks that wait for "
          "it are sealed without it.",
      .rows = Joined(common.Rows(), options.Rows()),
      .fault = [&]() -> std::string {
        return ParseNumber(arguments) == 0 ? "name one dsp, by its number" : common.Fault();
      },
      .arguments = &arguments,
      .arguments_help = "DSP"};
  if (const auto exit_code = ParseCommandLine(program, argc, argv)) return *exit_code;
  const uint32_t dsp_id = ParseNumber(arguments);
  const std::string what =
      "Dsp " + std::to_string(dsp_id) + " leaves the replica sets of all its blocks, for good.";
  if (!Confirmed(what, options.yes)) return kExitFailed;
  return DeclareGone(dsp_id, options, common);
}

}  // namespace hayloft
