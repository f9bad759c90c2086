// LevelDB's files read by pread instead of through a mapping.
//
// A page of a mapping that the disk cannot read is SIGBUS, which would end the process for a store
// that can be rebuilt; by pread it is an error that quarantines the store. And mapped tables count
// as memory of the process, several bytes for each image of a dsp.
#pragma once

#include <leveldb/env.h>

namespace hayloft {

// One for the process; lives as long as it.
leveldb::Env* PreadEnv();

}  // namespace hayloft
