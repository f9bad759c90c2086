// The lines of an answer that say what a file is, from its needle's head. Pure.
#pragma once

#include <string>
#include <string_view>

#include "common/file_address.h"
#include "common/needle.h"
#include "gateway/http_semantics.h"

namespace hayloft {

// Checked when it was stored; a header must not be forged by a block that was tampered with.
std::string_view TypeOf(const Metadata& metadata);

// What the uploader wants to be sent with it, and what keeps its type from doing harm.
void AddFileFields(const Metadata& metadata, ResponseHead* out);

// All lines of "200 OK" with the whole file as it lies on the disk, behind those that every answer
// has, with the empty one. Empty if what is sent depends on the request (it is stored encoded), or
// if the head can't be read.
std::string WholeFileLines(const FileAddress& address, const NeedleHead& head,
                           std::string_view cache_control);

}  // namespace hayloft
