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

TEST_CASE("json: bytes that are not UTF-8 become U+FFFD, what is stays as it is") {
  const std::string good = "a\u00e9\u20ac\U0001f600\ud7ff\ue000\U0010ffff";
  CHECK_EQ(Json(good).Dump(), "\"" + good + "\"");
  const std::string mark = "\xef\xbf\xbd";
  const std::pair<std::string, std::string> cases[] = {
      {"caf\xe9.png", "caf" + mark + ".png"},           // Latin-1
      {"\x80", mark},                                   // a byte out of place
      {"\xc0\xaf", mark + mark},                        // longer than needed
      {"\xe0\x9f\xbf", mark + mark + mark},             // the same
      {"\xed\xa0\x80", mark + mark + mark},             // half of a surrogate pair
      {"\xf4\x90\x80\x80", mark + mark + mark + mark},  // above U+10FFFF
      {"\xe2\x82", mark + mark},                        // cut off
      {"\xe2\x82z", mark + mark + "z"},
  };
  for (const auto& [bytes, wanted] : cases) {
    const Json json = Json().Set(bytes, bytes);
    CHECK_EQ(json.Dump(), "{\"" + wanted + "\":\"" + wanted + "\"}");
    CHECK(Json::Parse(json.Dump()).ok());
  }
}

}  // namespace
}  // namespace hayloft
