// Which of the gateways keeps a file, so that their memories add up: each computes it for himself
// from who there is.
//
// Highest random weight (Thaler, Ravishankar: "Using name-based mappings to increase hit rates",
// IEEE/ACM Transactions on Networking 6(1), 1998): the one whose hash together with the file's is
// the highest. Who joins takes a file from each in the same measure, who leaves gives his to all;
// no others move. A consistent ring would need points and a table for that; with at most some
// hundred gateways this costs a nanosecond each.
//
// Frozen: gateways of different versions must agree. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "common/file_address.h"

namespace hayloft {

// Of a gateway's "IP:PORT", as the nameserver tells it.
uint64_t MemberHash(std::string_view address);
// The index of the owner among the members, whatever their order. REQUIRES: not empty.
size_t OwnerOf(const std::vector<uint64_t>& member_hashes, const FileAddress& address);

}  // namespace hayloft
