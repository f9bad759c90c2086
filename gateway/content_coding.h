// Which form of a file a client takes: its bytes as they are, or as zstd where they are stored so
// (Accept-Encoding, RFC 9110 section 12.5.3; the coding "zstd", RFC 8878). Pure.
//
// Only what lies on the disk in that form is sent in it, so the choice is between two, and a client
// without Accept-Encoding gets the bytes as they are. They are also sent to one that takes neither
// ("identity;q=0"): RFC 9110 leaves that to us, a file is of more use than a 406, and the answer
// for a file that exists in one form only need not vary.
#pragma once

#include "gateway/http_parser.h"

namespace hayloft {

// Whether zstd is what the client wants more, or as much: then it is fewer bytes. "*" stands for a
// coding that the client may not know: it weighs less than identity, unless it says otherwise.
bool PrefersZstd(const HttpRequest& request);

}  // namespace hayloft
