// The query of a URL: which parameters it has, and what they say. Pure.
//
// Names are compared as they stand: nobody needs to write a name of ours with a '%', and two ways
// to write one are two keys to a cache. Of parameters that are given twice the first one counts.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace hayloft {

// As it stands in the query; empty for "name" and "name=". nullopt: there is no such parameter.
std::optional<std::string_view> QueryValue(std::string_view query, std::string_view name);

// A value with its %XX decoded and '+' read as a space, as forms write it (WHATWG URL section 5.1).
// nullopt: a '%' without two hex digits behind it, or more than `bytes_max` bytes.
std::optional<std::string> DecodeQueryValue(std::string_view value, size_t bytes_max);

// The same of a part of a path, where '+' is itself.
std::optional<std::string> DecodePercent(std::string_view text, size_t bytes_max);

}  // namespace hayloft
