// One client's socket: requests are read one after the other, each is answered before the next.
//
//   kHead --request--> kAnswering --ReadBody--> kBody --OnBodyEnd--> kAnswering
//     ^                     | Head, Send
//     +------ sent ----- kSending --must close, input left--> kLingering --> closed
//
// What a client pipelines meanwhile waits in a bounded buffer, then in the socket. A malformed
// request is answered here, and the connection ends. After an answer that ends a connection while
// the client may still be sending, the sending side is shut and a bounded rest discarded: a reset
// would overtake the answer.
//
// Answers leave by sendmsg straight from the caller; EV_WRITE is watched only after EAGAIN. An idle
// connection holds no buffer.
//
// Threads: its loop's. Ownership: borrows all of Shared. It is never destroyed inside one of its
// own calls: the owner waits for the end of the turn (OnClosed is the last call).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "common/buffer.h"
#include "common/io/loop.h"
#include "common/io/tls.h"
#include "common/io/unique_fd.h"
#include "common/metrics.h"
#include "gateway/access_log_shell.h"
#include "gateway/admission.h"
#include "gateway/exchange.h"
#include "gateway/gateway_options.h"
#include "gateway/http_date.h"
#include "gateway/http_parser.h"
#include "gateway/http_semantics.h"
#include "gateway/peer_address.h"
#include "gateway/request_times.h"
#include "gateway/slow_peer_guard.h"

namespace hayloft {

#define HTTP_METRICS(X)                                                             \
  X(Gauge, connections, "client connections now")                                   \
  X(Counter, accepted_total, "client connections accepted")                         \
  X(Counter, refused_total, "client connections refused: too many")                 \
  X(Counter, accept_pauses_total, "times without a descriptor for a connection")    \
  X(Counter, requests_total, "requests parsed")                                     \
  X(Counter, malformed_total, "requests refused by the parser")                     \
  X(Counter, answers_2xx_total, "answers 200 to 299")                               \
  X(Counter, answers_3xx_total, "answers 300 to 399")                               \
  X(Counter, answers_4xx_total, "answers 400 to 499")                               \
  X(Counter, answers_5xx_total, "answers 500 to 599")                               \
  X(Counter, put_off_total, "sockets left for the next turn: 512 had been heard")   \
  X(Counter, received_bytes_total, "bytes received from clients")                   \
  X(Counter, sent_bytes_total, "bytes sent to clients")                             \
  X(Counter, slow_clients_total, "clients given up for slowness, 408 or reset")     \
  X(Counter, idle_closed_total, "connections closed because no request came")       \
  X(Counter, resets_total, "answers broken off because the rest could not be read") \
  X(Counter, tls_handshakes_total, "TLS handshakes done")                           \
  X(Counter, tls_resumed_total, "those of them that resumed a session")             \
  X(Counter, tls_failures_total, "TLS handshakes that failed, or took too long")    \
  X(Counter, tls_plain_http_total, "plain HTTP requests on the TLS port")
struct HttpMetrics {
  HAYLOFT_METRICS("hayloft_gateway_http_", HTTP_METRICS)
};

class HttpConnection {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    // A request's head. Its views live until this returns. Then, at once or later: ReadBody, or
    // Head and Send.
    virtual void OnRequest(HttpConnection* connection, const HttpRequest& request) = 0;
    // After ReadBody. An answer in here leaves the rest unread.
    virtual void OnBody(HttpConnection* connection, Bytes piece) = 0;
    virtual void OnBodyEnd(HttpConnection* connection) = 0;
    // The body is malformed or came too slowly: an answer must follow, the connection's last.
    virtual void OnBodyFault(HttpConnection* connection, const HttpFault& fault) = 0;
    // All of a Send with kMoreFollows has left.
    virtual void OnSent(HttpConnection* connection) = 0;
    virtual void OnClosed(HttpConnection* connection) = 0;
  };
  struct Shared {  // with the other connections of its loop
    Loop* loop = nullptr;
    Handler* handler = nullptr;
    MutableBytes scratch;            // one read goes there
    HttpRequest* request = nullptr;  // one parse goes there
    const GatewayOptions* options = nullptr;
    HttpMetrics* metrics = nullptr;
    RequestTimes* times = nullptr;
    AccessLog* access_log = nullptr;        // null: none is kept
    MemoryBudget* unsent_memory = nullptr;  // what slow readers have not taken
    uint64_t next_request_id = 0;           // begins at random
    uint64_t date_s = 0;                    // what `date` says
    std::array<char, kHttpDateLength> date{};
    const std::atomic<bool>* stopping = nullptr;  // every answer is its connection's last
    TurnShare turn;                               // who is heard in this one
  };
  enum class Rest : uint8_t { kComplete, kMoreFollows };

  // `tls` is null for plain HTTP.
  HttpConnection(Shared* shared, UniqueFd fd, std::unique_ptr<TlsStream> tls);
  HttpConnection(const HttpConnection&) = delete;  // the loop holds its address

  // Takes the request's body; sends "100 Continue" first if the client waits for it.
  void ReadBody();
  // Takes no more of the body, which is not at its end: an answer will follow, the connection's
  // last.
  void AbandonBody();
  // Between these nothing more of the body is read, but for what has been received already.
  void PauseBody();
  void ResumeBody();
  // Begins the one answer to the current request, with the fields that every answer has.
  ResponseHead Head(int status);
  // Behind ResponseHead::End a short body may be appended to it.
  std::string* out() { return &out_; }
  // Sends what is in out(), then the payload.
  void Send(Buffer payload, Rest rest);
  void SendAll() { Send({}, Rest::kComplete); }
  // Makes room in the budget of what readers have not taken, before more is read for this one.
  // False when it is full; to be tried again.
  bool ReserveUnsent(uint64_t bytes) { return unsent_.bytes() > 0 || unsent_.TryGrowTo(bytes); }
  // Breaks the answer off so that the client notices: never a short body that looks whole.
  void Reset();
  // Refuses with an answer before any request, and ends.
  void Refuse(int status, std::string_view message);
  void CloseIfIdle();
  void OnTick(uint64_t now_ms);

  bool closed() const { return state_ == State::kClosed; }
  bool answering() const { return state_ == State::kAnswering; }
  // For how long the current request has been here before anybody read it: because others were
  // heard first, or, if it is the first of its connection, because that lay in the listener's
  // backlog.
  uint64_t UnreadMs() const;
  // The current request waits. A client that shuts its side meanwhile has either gone or still
  // reads: the two look alike, until something is sent to it. So it gets an interim answer, which a
  // client of HTTP/1.1 passes over, and the kernel of one that has gone answers with a reset.
  void NoteWaits();
  // Not worked for any more; one of HTTP/1.0 that has shut its side counts as gone.
  bool PeerGone() const;
  bool is_head() const { return is_head_; }  // the request is HEAD: no body in the answer

  // Header lines, each with its CRLF, that any answer to the current request has besides. They must
  // live as long as this.
  void AddToAnswer(std::string_view lines) { more_lines_ = lines; }

  // For the access log, Server-Timing and the histograms.
  void NoteKind(RequestKind kind) { kind_ = kind; }
  // The store has answered, `dsp` in its name. `cache` is a constant as in X-Cache, or empty.
  void NoteStore(std::string_view dsp, std::string_view cache);
  // The name of the key that allowed the request.
  void NoteUser(std::string_view name) {
    if (access_ != nullptr) access_->user = name;
  }

  uint64_t id = 0;       // the owner's
  PeerAddress peer{};    // likewise
  bool counted = false;  // likewise
  Exchange exchange;     // likewise

 private:
  enum class State : uint8_t { kHead, kBody, kAnswering, kSending, kLingering, kClosed };

  size_t ReadBytesMax() const;
  ssize_t Receive(MutableBytes into);
  void NoteHandshake();
  void TlsFailed();
  void WatchHandshake();
  void OnTurn();
  void OnReadable();
  void OnEof();
  void AskIfThere();
  void Take(std::string_view bytes);
  void DigestPending();
  size_t Digest(std::string_view input);
  size_t DigestHead(std::string_view input);
  size_t DigestBody(std::string_view input);
  void BeginRequest();
  void EndRequest(bool broken);
  void LogRequest(uint64_t whole_us, bool broken);
  void AddServerTiming(ResponseHead* head) const;
  void NoteRequest(const HttpRequest& request);
  void NoteRequestId(std::string_view wanted);
  void Fault(const HttpFault& fault);
  void BodyEnded();
  void Flush();
  bool SendSome();
  void HoldUnsent();
  void Sent();
  void AnswerDone();
  void Linger();
  void Close();
  void CloseInOrder();
  void PauseReading();
  void ResumeReading();
  uint64_t AcknowledgedBytes() const;

  Shared* const shared_;
  UniqueFd fd_;
  std::unique_ptr<TlsStream> tls_;  // null: plain HTTP
  bool greeted_ = false;            // its handshake was counted
  State state_ = State::kHead;

  // Input. `pending_` begins where the current request does, or the next.
  std::string pending_;
  size_t parsed_size_ = 0;  // of pending_, already found to be no whole head
  bool digesting_ = false;
  bool reading_paused_ = false;
  bool peer_closed_ = false;
  uint64_t unheard_since_ms_ = 0;  // it has something to say, and others came first; 0: not so
  uint64_t unheard_ms_ = 0;        // for so long, before what was read last
  uint64_t state_since_ms_ = 0;
  uint64_t lingered_bytes_ = 0;

  // The current request.
  bool keep_alive_ = true;
  bool is_head_ = false;
  bool body_left_ = false;  // of it has not been read
  bool expects_continue_ = false;
  bool takes_interim_ = false;  // HTTP/1.1
  bool waits_ = false;
  bool asked_if_there_ = false;
  bool chunked_ = false;
  uint64_t body_wire_bytes_left_ = 0;  // not chunked
  uint64_t body_bytes_ = 0;
  uint64_t body_before_pause_ = 0;  // of those; the rate is taken of what came since
  ChunkedDecoder decoder_;
  SlowPeerGuard slow_peer_;
  bool in_request_ = false;  // its answer has not ended
  bool stored_ = false;      // store_us_ is known
  RequestKind kind_ = RequestKind::kOther;
  int status_ = 0;                        // 0: the answer has not begun
  uint64_t began_us_ = 0;                 // the head was whole
  uint64_t asked_us_ = 0;                 // the body was, too
  uint64_t store_us_ = 0;                 // from then on until the store answered
  uint64_t first_byte_us_ = 0;            // since began_us_
  std::unique_ptr<AccessRecord> access_;  // only when a log is kept
  std::string_view more_lines_;           // of the answer's head
  uint8_t request_id_size_ = 0;
  std::array<char, 64> request_id_;

  // Output.
  std::string out_;
  Buffer payload_;
  MemoryCharge unsent_;
  size_t sent_ = 0;  // of out_ and payload_
  uint64_t written_bytes_ = 0;
  uint64_t answer_begin_bytes_ = 0;
  bool closes_ = false;
  Rest rest_ = Rest::kComplete;

  Loop::Handle readable_;
  Loop::Handle writable_;  // only while the socket is full
  Loop::Handle resumed_;   // TLS: reads what is left of a record
};

// An error answer: {"error": code, "message": message}.
struct ErrorAnswer {
  int status = 500;
  std::string_view code{};  // snake_case; empty: the status's own
  std::string_view message{};
  HttpHeader field{};                           // one more, if it has a name
  uint64_t retry_after_s = kRetryAfterSeconds;  // with 429 and 503
  std::string_view cache_control = "no-store";
};
void AnswerError(HttpConnection* connection, const ErrorAnswer& answer);

}  // namespace hayloft
