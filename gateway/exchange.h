// What the gateway remembers of a request between its head and the end of its answer. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/buffer.h"
#include "common/codec.h"
#include "common/content.h"
#include "common/delete_token.h"
#include "common/file_address.h"
#include "common/result.h"
#include "gateway/byteranges.h"
#include "gateway/conditions.h"
#include "gateway/memory_budget.h"
#include "gateway/multipart.h"
#include "gateway/names.h"
#include "gateway/ranges.h"
#include "gateway/rate_limiter.h"
#include "gateway/upload_headers.h"

namespace hayloft {

// What is told of a file once it is stored.
struct StoredFile {
  uint64_t size = 0;
  std::string content_type;  // the client's, then the one that is stored
  Sha1 sha1{};
  Sha256 sha256{};
  Nonce nonce{};           // of the reference that its uploader has
  bool duplicate = false;  // it was there already
};

struct UploadState {
  explicit UploadState(MemoryBudget* budget) : charge(budget) {}
  Hasher hasher;          // of the bytes so far
  Buffer raw;             // grows with what has come, never by the client's word
  uint64_t size_max = 0;  // Content-Length, or the bound
  MemoryCharge charge;
  StoredFile file;
  UploadHeaders headers;
};

// A form with files (multipart/form-data), each of which is stored while the next one is received.
struct FormState {
  struct File {
    HttpFault fault;  // status 0: it is stored, or will be
    Err err = Err::kOk;
    FileAddress address;
    StoredFile stored;
    int status() const { return err != Err::kOk ? ErrHttpStatus(err) : fault.status; }
  };
  explicit FormState(std::string_view boundary) : parser(boundary) {}
  MultipartParser parser;
  std::vector<File> files;     // in the order of their parts
  bool in_file = false;        // files.back() is being received
  bool may_be_absent = false;  // it has an empty name: what a browser sends when none was chosen
  size_t storing = 0;          // parts that are whole and not yet stored
  // Those of them that the store has no room for yet, with the index of their file.
  std::deque<std::pair<size_t, std::unique_ptr<UploadState>>> waiting;
  bool paused = false;         // its body is, until fewer are being stored
  bool ended = false;          // nothing more is received: answered when the last put has ended
  HttpFault fault;             // why it ended early
  uint64_t retry_after_s = 1;  // with 429 and 503
  uint64_t bytes_left = UINT64_MAX;  // of the whole body, by the URL that allows it
};

struct DownloadState {
  enum class Step : uint8_t {
    kFirstRun,     // head and bytes in one read
    kHeadFirst,    // what is to be sent, if anything, depends on the head
    kHeadForSize,  // the range was refused: 416 names the size
    kNextRun,
  };
  Step step = Step::kFirstRun;
  bool head_only = false;      // HEAD
  bool prefers_zstd = false;   // where the file is stored so
  bool as_zstd = false;        // it is sent so: sizes, offsets, tag and conditions are of that form
  bool doubtful = false;       // it comes from a replica that may not know of a delete
  bool by_cdn = false;         // asked for by a CDN
  bool from_cache = false;     // the head came from there
  bool memory_only = false;    // this call is for what is in memory
  const char* cache = "miss";  // X-Cache
  std::optional<std::string> save_as{};  // ?download; empty: a name of our own
  Conditions conditions;                 // for the bytes as they are
  Conditions zstd_conditions;
  std::vector<RangeSpec> ranges;            // as asked for; empty: all of it
  std::unique_ptr<ByterangesBody> parts{};  // when several of them are sent
  ByteRange run;                            // that was asked for; `length` at most
  uint64_t next_offset = 0;                 // without parts: of what is sent
  uint64_t end_offset = 0;
};

// Files that are brought into memory.
struct WarmState {
  std::string body;
  std::vector<FileAddress> ids;
  size_t next = 0;                                          // of those
  size_t reading = 0;                                       // under way
  std::vector<std::pair<std::string, std::string>> failed;  // id, and why
};

// A request for a name, or for the list of them.
struct NameState {
  std::string name;
  std::string head;      // KeptHead
  std::string token;     // as sent; empty: none
  bool of_file = false;  // it is to name a file that is there already
  // The name as it is now.
  bool there = false;
  uint64_t version = 0;
  Nonce token_nonce{};  // of one that is not there: what it will have
  // What it is to get: a reference to this file.
  FileAddress address;
  ContentId content;
  StoredFile file;
  // Of the list.
  NamesQuery query;
  std::vector<pb::DirNameListReply> shards;  // what each has said
  uint32_t shards_left = 0;                  // to be heard
  Err err = Err::kOk;                        // of any of them
};

// What a request asks of the store first, once it is let in.
enum class Work : uint8_t {
  kReadHead,
  kReadRun,
  kReadKept,  // of what is in memory, when a dsp has said that it may be sent
  kReadName,
  kListNames,
  kDescribe,  // the last that reads
  kStore,
  kStorePart,
  kPutName,  // of a file that is there
  kDeleteName,
  kDelete,
  kUndelete
};

// What the URL that allows a request narrows it to; most allow all or are none.
struct UrlBounds {
  uint64_t body_bytes_max = UINT64_MAX;
  std::string type{};    // what each uploaded file must turn out to be; empty: anything
  std::string key_id{};  // with `nonce`
  std::string nonce{};   // to be spent when the request is carried out; empty: none
  uint64_t until_s = 0;  // the URL is honoured
};

inline constexpr const char* kOverloaded =
    "More is asked for than the store can do now; try again later.";
inline constexpr const char* kBeyondUrl = "The body is larger than the signed URL allows.";

struct Exchange {
  FileAddress address;
  std::array<char, kAddressTextLength + 2> etag{};  // the id between quotes; NULs without one
  // The rest of the life of the URL, when that has an end: nothing may be cached for longer.
  std::optional<uint64_t> seconds_left;
  Work work = Work::kReadHead;
  Work work_on_disk = Work::kReadHead;  // of a read of what is in no memory
  bool refused = false;                 // an upload whose body is thrown away before it is told so
  uint64_t store_asked_ms = 0;          // when a read's last call began
  std::unique_ptr<UrlBounds> bounds;    // null: none
  std::string uploader;                 // id of the key that allows it; empty: none
  UploadTerms terms;                    // of an upload
  Nonce token_nonce{};                  // of a delete: what its token rests on
  // Whose rate limits the request and its body count against, while there are any.
  RateKey address_rate_key{};
  std::optional<RateKey> name_rate_key{};  // of the key that allows it
  DownloadState download;
  std::unique_ptr<UploadState> upload;
  std::unique_ptr<FormState> form;
  std::unique_ptr<WarmState> warm;
  std::unique_ptr<NameState> name;  // null: it is about none
  std::string_view id() const { return {&etag[1], kAddressTextLength}; }
  std::string_view etag_text() const { return {etag.data(), etag.size()}; }
  // Of the file as zstd: other bytes have another tag.
  std::string zstd_etag() const { return "\"" + std::string(id()) + "-zstd\""; }
};

}  // namespace hayloft
