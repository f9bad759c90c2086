#include "tests/sim/sim_net.h"

#include <algorithm>
#include <cinttypes>

#include "common/codec.h"

namespace hayloft {

namespace {

constexpr uint64_t kConnectUs = 1'000'000;  // a connect into nowhere is given up then

CallDone Ended(Err err) {
  CallDone done;
  done.err = err;
  return done;
}

const char* TypeName(MessageType type) {
  const MessageRow* row = FindMessage(static_cast<uint16_t>(type));
  return row == nullptr ? "unknown" : row->name.data();
}

}  // namespace

void SimNet::Start(const std::string& address, Process process) {
  ASSERT(!processes_.contains(address));
  processes_[address] = {std::move(process), next_life_++};
}

void SimNet::Stop(const std::string& address) {
  const auto found = processes_.find(address);
  ASSERT(found != processes_.end());
  const uint64_t life = found->second.life;
  processes_.erase(found);
  std::erase_if(deliveries_, [&](const auto& row) { return row.second.to == address; });
  std::erase_if(flights_, [&](const auto& row) { return row.second.from_life == life; });
  for (const auto& [number, flight] : flights_) {
    if (flight.to_life == life) BreakFlight(number);
  }
}

// The caller hears of it, unless the packet that says so is lost too: then it waits for its
// timeout.
void SimNet::BreakFlight(uint64_t number) {
  const Flight& flight = flights_.at(number);
  if (Loses(flight.asked.to, flight.asked.from)) return;
  events_->After(Delay(), [this, number] { Finish(number, Ended(Err::kUnavailable)); });
}

void SimNet::BreakConnections(const std::string& a, const std::string& b) {
  trace_->Note("net break %s %s", a.c_str(), b.c_str());
  for (auto& [number, flight] : flights_) {
    const std::string& from = flight.asked.from;
    const std::string& to = flight.asked.to;
    const bool between = (from == a && to == b) || (from == b && to == a);
    if (!between) continue;
    flight.to_life = 0;  // what is still on the way does not arrive
    BreakFlight(number);
  }
}

uint64_t SimNet::Delay() {
  if (weather_.late_percent > 0 && random_->Chance(weather_.late_percent)) {
    return random_->Below(weather_.late_us_max);
  }
  return random_->Between(weather_.delay_us_min, weather_.delay_us_max);
}

bool SimNet::Loses(const std::string& from, const std::string& to) {
  if (cuts_.contains({from, to})) return true;
  return weather_.lost_percent > 0 && random_->Chance(weather_.lost_percent);
}

// A frame over the bounds of its row would close a real connection.
void SimNet::CheckBounds(MessageType type, size_t message_size, const Buffer& payload) {
  const MessageRow* row = FindMessage(static_cast<uint16_t>(type));
  ASSERT(row != nullptr);
  if (message_size > row->message_bytes_max || payload.size() > row->payload_bytes_max) {
    trace_->Fail("%s of %zu + %zu bytes is over its bounds", TypeName(type), message_size,
                 payload.size());
  }
}

void SimNet::Call(const std::string& from, RpcCall&& call) {
  const auto caller = processes_.find(from);
  ASSERT(caller != processes_.end());
  ASSERT(call.timeout_ms > 0);
  CheckBounds(call.type, call.message.size(), call.payload);
  if (call.payload_crc_known && call.payload_crc != Crc32c(call.payload.bytes())) {
    trace_->Fail("%s from %s names a wrong CRC of its payload", TypeName(call.type), from.c_str());
  }
  const auto target = processes_.find(call.address);
  const uint64_t number = next_flight_++;
  flights_[number] = {.asked = {.from = from,
                                .to = call.address,
                                .type = call.type,
                                .us = events_->now_us(),
                                .message = call.message},
                      .from_life = caller->second.life,
                      .to_life = target == processes_.end() ? 0 : target->second.life,
                      .call_id = call.call_id};
  if (watch_.on_call) watch_.on_call(call);
  events_->After(uint64_t{call.timeout_ms} * 1000,
                 [this, number] { Finish(number, Ended(Err::kTimeout)); });
  const bool cut = cuts_.contains({from, call.address}) || cuts_.contains({call.address, from});
  if (target == processes_.end()) {
    events_->After(cut ? kConnectUs : Delay(),
                   [this, number] { Finish(number, Ended(Err::kUnavailable)); });
    return;
  }
  Send(number, call);
  if (weather_.doubled_percent > 0 && random_->Chance(weather_.doubled_percent)) {
    Send(number, call);
  }
}

void SimNet::Send(uint64_t number, const RpcCall& call) {
  const Flight& flight = flights_.at(number);
  if (Loses(flight.asked.from, flight.asked.to)) return;
  RpcRequest request;
  request.token.connection = flight.from_life;
  request.type = call.type;
  request.message = call.message;
  request.payload = call.payload.Share();
  request.payload_crc = Crc32c(call.payload.bytes());
  const uint64_t deadline_us = events_->now_us() + uint64_t{call.timeout_ms} * 1000;
  events_->After(Delay(), [this, number, to = flight.asked.to, life = flight.to_life, deadline_us,
                           request = std::move(request)]() mutable {
    // A late request arrives also when its caller has given up, but not at another life of its
    // target: the connection it was sent on is gone.
    const auto target = processes_.find(to);
    if (target == processes_.end() || target->second.life != life) return;
    const auto waiting = flights_.find(number);
    if (waiting != flights_.end() && waiting->second.to_life != life) return;
    request.token.request_id = next_delivery_++;
    const Now now = target->second.process.now();
    const uint64_t left_us = deadline_us - std::min(deadline_us, events_->now_us());
    request.deadline_ms = now.mono_ms + left_us / 1000;
    deliveries_[request.token.request_id] = {to, number, request.type};
    trace_->Note("net %s -> %s #%" PRIu64, TypeName(request.type), to.c_str(), number);
    target->second.process.on_request(std::move(request));
  });
}

void SimNet::Reply(const std::string& from, RpcReply&& reply) {
  const auto found = deliveries_.find(reply.token.request_id);
  if (found == deliveries_.end()) {
    trace_->Fail("%s answered a %s twice, or one it never got", from.c_str(), TypeName(reply.type));
    return;
  }
  const Delivery delivery = found->second;
  deliveries_.erase(found);
  ASSERT(delivery.to == from);
  if (delivery.type != reply.type) {
    trace_->Fail("%s answered a %s with a %s", from.c_str(), TypeName(delivery.type),
                 TypeName(reply.type));
  }
  CheckBounds(reply.type, reply.message.size(), reply.payload);
  if (reply.payload_crc_known && reply.payload_crc != Crc32c(reply.payload.bytes())) {
    trace_->Fail("%s answered a %s with a wrong CRC", from.c_str(), TypeName(reply.type));
  }
  const auto waiting = flights_.find(delivery.flight);
  if (waiting == flights_.end()) return;
  if (Loses(from, waiting->second.asked.from)) return;
  CallDone done;
  done.err = reply.err;
  done.message = std::move(reply.message);
  done.payload = std::move(reply.payload);
  events_->After(Delay(), [this, flight = delivery.flight, done = std::move(done)]() mutable {
    Finish(flight, std::move(done));
  });
}

void SimNet::Finish(uint64_t number, CallDone&& done) {
  const auto found = flights_.find(number);
  if (found == flights_.end()) return;  // it has its answer, or its caller died
  const Flight flight = std::move(found->second);
  flights_.erase(found);
  const auto caller = processes_.find(flight.asked.from);
  ASSERT(caller != processes_.end() && caller->second.life == flight.from_life);
  done.call_id = flight.call_id;
  trace_->Note("net %s <- %s #%" PRIu64 " %s", TypeName(flight.asked.type), flight.asked.to.c_str(),
               number, ErrName(done.err).data());
  if (watch_.on_answer) watch_.on_answer(flight.asked, done);
  caller->second.process.on_done(std::move(done));
}

std::string SimNet::DescribeUnanswered() const {
  std::string text;
  for (const auto& [number, delivery] : deliveries_) {
    text += std::string(TypeName(delivery.type)) + " at " + delivery.to + "; ";
  }
  return text;
}

}  // namespace hayloft
