#include "client/file_fields.h"

#include <doctest/doctest.h>

using namespace hayloft;

TEST_CASE("file_fields: names that HTTP carries, and those that it cannot carry or that are ours") {
  for (const char* name : {"surrogate-key", "cache-tag", "x-hayloft-a", "x-hayloft-"}) {
    CHECK(IsHttpFieldName(name));
  }
  for (const char* name :
       {"", "name", "x-hayloft", "X-Hayloft-a", "set-cookie", "surrogate-keys"}) {
    CHECK_FALSE(IsHttpFieldName(name));
    CHECK_FALSE(IsSendable(name, "x"));
  }
  const auto fault = [](const std::string& own) { return CheckHttpField("x-hayloft-" + own, "x"); };
  CHECK_EQ(fault("a"), FieldFault::kNone);
  CHECK_EQ(fault("album-7_!#$%&'*+.^`|~"), FieldFault::kNone);
  CHECK_EQ(fault(std::string(54, 'a')), FieldFault::kNone);
  CHECK_EQ(fault(std::string(55, 'a')), FieldFault::kName);
  for (const std::string& own :
       {std::string(), std::string("A"), std::string("a b"), std::string("a:"),
        std::string("a\r\nx"), std::string("a\0", 2), std::string("\xc3\xbc")}) {
    CHECK_EQ(fault(own), FieldFault::kName);
  }
  for (const char* own : {"id", "delete-token", "sha256", "version"}) {
    CHECK_EQ(fault(own), FieldFault::kReserved);
  }
  CHECK_EQ(fault("ids"), FieldFault::kNone);
}

TEST_CASE("file_fields: S12: no value can end its line") {
  for (const char* name : {"x-hayloft-a", "surrogate-key", "cache-tag"}) {
    CHECK_EQ(CheckHttpField(name, "a, b  c;~!"), FieldFault::kNone);
    CHECK_EQ(CheckHttpField(name, ""), FieldFault::kNone);
    for (int byte = 0; byte < 256; ++byte) {
      const std::string value = {'a', static_cast<char>(byte), 'b'};
      const bool fits = byte >= 0x20 && byte <= 0x7e;
      CHECK_EQ(CheckHttpField(name, value), fits ? FieldFault::kNone : FieldFault::kValue);
      CHECK_EQ(IsSendable(name, value), fits);
    }
    CHECK_EQ(CheckHttpField(name, " a"), FieldFault::kValue);
    CHECK_EQ(CheckHttpField(name, "a "), FieldFault::kValue);
  }
}

TEST_CASE("file_fields: one tag has at most 1,024 bytes") {
  const std::string tag(kCacheTagBytesMax, 't');
  CHECK_EQ(CheckHttpField("surrogate-key", tag + " " + tag), FieldFault::kNone);
  CHECK_EQ(CheckHttpField("cache-tag", tag + "," + tag), FieldFault::kNone);
  CHECK_EQ(CheckHttpField("surrogate-key", "a " + tag + "t"), FieldFault::kTag);
  CHECK_EQ(CheckHttpField("cache-tag", tag + "t,a"), FieldFault::kTag);
  CHECK_EQ(CheckHttpField("surrogate-key", tag + "," + tag), FieldFault::kTag);
  CHECK_EQ(CheckHttpField("x-hayloft-a", tag + tag), FieldFault::kNone);
}
