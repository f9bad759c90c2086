#include "common/io/json.h"

#include <doctest/doctest.h>

namespace hayloft {
namespace {

TEST_CASE("json: a value is written and read back as it was, in the order of its members") {
  Json value;
  value.Set("name", "dsp-1-1").Set("pid", 42).Set("up", true).Set("none", Json());
  Json list;
  list.Add("a\"\\\n\x01");
  list.Add(int64_t{-5});
  list.Add(2.5);
  value.Set("list", list).Set("pid", 43);
  const std::string text = value.Dump();
  CHECK_EQ(
      text,
      R"({"name":"dsp-1-1","pid":43,"up":true,"none":null,"list":["a\"\\\u000a\u0001",-5,2.5]})");
  for (const bool pretty : {false, true}) {
    const Result<Json> read = Json::Parse(value.Dump(pretty));
    REQUIRE(read.ok());
    CHECK(*read == value);
  }
}

TEST_CASE("json: an absent member or one of another type reads as zero") {
  const Result<Json> read = Json::Parse(R"({"text":"x","number":7})");
  REQUIRE(read.ok());
  CHECK_EQ((*read)["text"].number(), 0);
  CHECK_EQ((*read)["number"].text(), "");
  CHECK((*read)["none"]["deeper"].is_null());
  CHECK(read->Find("none") == nullptr);
  CHECK((*read)["number"].array().empty());
}

TEST_CASE("json: what is not exactly one value is refused") {
  for (const char* text : {"", "{", "{} {}", "{\"a\":}", "nul", "[1,]", "\"\xff\"", "'a'"}) {
    CHECK_MESSAGE(Json::Parse(text).err() == Err::kCorrupt, text);
  }
  CHECK_EQ(Json::Parse(std::string(100, '[') + std::string(100, ']')).err(), Err::kTooLarge);
}

}  // namespace
}  // namespace hayloft
