// What a client and its calls can be told. Plain structs: set what you need, keep the rest.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace hayloft {

struct Options {
  // "IP:PORT" of the cluster's nameservers, separated by commas. Needed.
  // `hayloft cluster up` prints it; `hayloft status --json` has it.
  std::string cluster;

  // "IP:PORT,IP:PORT" of the nodes of each shard of the cluster's directory, in order, as its
  // gateways have them. Then what is stored already is not stored again, and a delete takes away
  // one uploader's reference. Empty: there is none, or puts go past it and deletes are refused.
  std::vector<std::string> directory;

  // File with the cluster's secret, DIR/secret of `hayloft cluster up`: readable by its owner only.
  // Who has it may store, read and delete anything; keep it where your gateways keep theirs.
  // Empty: only for a cluster that runs without a secret.
  std::string key_file;

  // Deadline of a call that sets none of its own, in milliseconds: all tries and pauses included.
  uint32_t timeout_ms = 10'000;

  // Calls in flight; one more is answered kBusy. At most 16,384.
  uint32_t in_flight_max = 16'384;

  // Bytes of images being put, those that PutStream gathers included; a put beyond it is answered
  // kBusy, an image that is larger by itself kTooLarge. Gets cost what they read.
  uint64_t put_bytes_max = uint64_t{1} << 30;
};

// `timeout_ms` of every call: 0 means Options::timeout_ms.

struct PutOptions {
  // Kept if it is well-formed and the bytes don't contradict it. Empty: seen from the bytes.
  std::string content_type;
  // Names and values of your own, stored with the image; 8 KiB with the content type. A gateway
  // sends those named "x-hayloft-...", "surrogate-key" and "cache-tag" with the image: kInvalid
  // unless name and value are fit for that (docs/http.md, "Fields").
  std::map<std::string, std::string> fields;
  // With a directory. False: stored as an image of its own, whatever is there already.
  bool dedup = true;
  // With a directory: 16 to 128 visible characters that name this put. When its answer got lost,
  // the same put with the same key, within a day, gets the same answer, and not another reference
  // whose token nobody has. Not with PutBatch. Empty: none.
  std::string idempotency_key;
  uint32_t timeout_ms = 0;
};

struct GetOptions {
  uint64_t offset = 0;           // first byte wanted
  uint64_t length = 0;           // at most so many bytes; 0: to the end
  bool include_deleted = false;  // also what was deleted and isn't purged yet
  uint32_t timeout_ms = 0;
};

struct StatOptions {
  uint32_t timeout_ms = 0;
};

// Delete and undelete.
struct DeleteOptions {
  // The token that came with the put (Stored::delete_token). Given: it must be this image's, else
  // kDenied; pass on here what your own users show you. Empty: the key file is authority enough,
  // unless there is a directory.
  std::string token;
  // With a directory: the image itself, whoever put it, instead of one uploader's reference; what
  // was taken down comes back by an undelete with this only. Needs no token.
  bool takedown = false;
  uint32_t timeout_ms = 0;
};

}  // namespace hayloft
