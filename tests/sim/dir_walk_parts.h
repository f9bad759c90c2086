// What a walk of a directory shard consists of: images, users with what they were given, messages
// in a bag.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "client/dedup_core.h"
#include "common/content.h"

namespace hayloft::dir_walk {

// 0 and 1 are a forged pair (one SHA-1 and length); 2 is 0's bytes with another type; 3 is another
// image.
struct Image {
  std::string bytes;
  Metadata metadata;
  ContentId content;
};

inline Image MakeImage(int number) {
  Image image;
  image.bytes = number == 1 ? "image one " : number == 3 ? "image three" : "image nil ";
  image.metadata.content_type = number == 2 ? "image/gif" : "image/png";
  image.metadata.sha1.fill(number == 3 ? 3 : 1);
  image.metadata.sha256 = Sha256Of(AsBytes(image.bytes));
  image.content = ContentOf(image.metadata, static_cast<uint32_t>(image.bytes.size()));
  return image;
}

// kDropping: it was a name's, which has another file now.
enum class State { kHeld, kMaybe, kDeleted, kDropping };

// What a user was given, and what he knows of it.
struct Handle {
  int image = 0;
  FileAddress file;
  Nonce nonce{};
  State state = State::kHeld;
  uint64_t deleted_losses = 0;  // that the shard had when its delete began
  bool unknown_delete = false;
  bool unknown_undelete = false;
  bool named = false;
  bool busy = false;
  bool changed = false;  // a delete or undelete was begun
};

enum class Want { kUpload, kDelete, kUndelete, kTakedown, kReadName, kPutName, kAdopt, kUnpin };

struct Request {
  Want want = Want::kUpload;
  int gateway = 0;
  int image = 0;
  bool keyed = false;
  bool named = false;    // an upload that a name is to refer to
  uint64_t version = 0;  // of that name
  size_t handle = SIZE_MAX;
  FileAddress file{};   // of a takedown or unpin
  uint64_t number = 0;  // of an upload
};

struct Message {
  int from = 0;
  uint64_t life = 0;  // of the caller
  bool reply = false;
  RpcCall call{};
  CallDone done{};
};

struct Gateway {
  std::unique_ptr<DedupCore> core;
  uint64_t life = 0;
  std::map<uint64_t, Request> requests;  // by operation
};

struct Weights {
  uint64_t start, deliver, time, commit, crash, gateway, purge, adopt, remove, admin, repeat, lose;
};

}  // namespace hayloft::dir_walk
