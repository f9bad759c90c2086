#include "nameserver/ns_gateways.h"

#include <algorithm>
#include <charconv>
#include <string_view>

namespace hayloft {

namespace {

constexpr uint64_t kPauseMs = 2 * kGatewayHelloMs;
constexpr size_t kAddressBytesMax = 64;

// "IP:PORT", "[IPv6]:PORT": numbers only, so that no name service decides who gets an image. What
// looks like one and is none costs those who call it a failed call.
bool IsAddress(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || text.size() > kAddressBytesMax) return false;
  const std::string_view port_text = text.substr(colon + 1);
  std::string_view host = text.substr(0, colon);
  uint16_t port = 0;
  const auto [end, err] = std::from_chars(port_text.begin(), port_text.end(), port);
  if (err != std::errc() || end != port_text.end() || port == 0) return false;
  const bool v6 = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (v6) host = host.substr(1, host.size() - 2);
  const std::string_view allowed = v6 ? "0123456789abcdefABCDEF:." : "0123456789.";
  return !host.empty() && host.find_first_not_of(allowed) == std::string_view::npos &&
         host.find(v6 ? ':' : '.') != std::string_view::npos;
}

}  // namespace

Err NsGateways::Hear(const std::string& request, Now now, pb::GatewayHelloReply* reply) {
  pb::GatewayHelloRequest message;
  if (!message.ParseFromString(request)) return Err::kInvalid;
  if (!IsAddress(message.address())) return Err::kInvalid;
  if (!any_heard_ || now.mono_ms - last_ms_ >= kPauseMs) since_ms_ = now.mono_ms;
  any_heard_ = true;
  last_ms_ = now.mono_ms;
  if (message.leaves()) {
    heard_ms_.erase(message.address());
  } else {
    heard_ms_[message.address()] = now.mono_ms;
  }
  std::erase_if(heard_ms_,
                [&](const auto& heard) { return now.mono_ms - heard.second >= kGatewayHeardMs; });
  if (heard_ms_.size() > kGatewaysMax) {
    heard_ms_.erase(
        std::min_element(heard_ms_.begin(), heard_ms_.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; }));
  }
  for (const auto& [address, heard_ms] : heard_ms_) reply->add_addresses(address);
  reply->set_settled(now.mono_ms - since_ms_ >= kGatewayHeardMs);
  return Err::kOk;
}

}  // namespace hayloft
