// What every server does first, before it touches anything.
#pragma once

#include <sys/types.h>

#include <string>

#include "common/result.h"

namespace hayloft {

// Raises the limit of descriptors to the hard one, ignores SIGPIPE (a peer that hangs up is an
// error of a write), writes no core files (they would hold secrets), and keeps up to 16 MiB of
// freed memory an arena for the next requests.
void PrepareProcess();

// How many descriptors this process may have at once.
uint64_t OpenFilesMax();

// Whether others than its owner may do something with a file that holds a secret. What systemd's
// LoadCredential hands to a service shows the mask of an access list in place of the group's
// rights.
bool IsOpenToOthers(const std::string& path, mode_t mode);

// The text of a file that holds secrets. kConfig with "cannot read PATH: cause" or the like in
// `why`, which quotes nothing of it: unreadable, open to other users, larger than that.
Result<std::string> ReadSecretFile(const std::string& path, uint64_t size_bytes_max,
                                   std::string* why);

// The secret in a cluster key file, without the newline at its end. kConfig with one line of cause
// in `why`: unreadable, open to other users, or shorter than 32 bytes. An empty path is an empty
// key.
Result<std::string> ReadClusterKey(const std::string& path, std::string* why);

// One line "NAME: cause" on stderr.
void SayFault(const std::string& name, const std::string& why);

inline constexpr int kExitConfig = 78;     // EX_CONFIG: nothing was touched
inline constexpr int kExitDisk = 74;       // EX_IOERR: the disk failed
inline constexpr int kExitTemporary = 75;  // EX_TEMPFAIL: a full disk, no descriptors; try again

}  // namespace hayloft
