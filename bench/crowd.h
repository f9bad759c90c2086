// Clients as an overloaded server meets them: each has given up when kPatience is over, and who is
// refused comes back a second later, as Retry-After says.
//
//   crowd  so many of them, each asks again as soon as it is answered
//   flood  so many requests a second, whatever becomes of the others
//
// What counts is the answer that came in time: one that its client no longer waits for is work for
// nothing. Threads: one; Run blocks.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/cli/http_load.h"

namespace hayloft {

class Crowd {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kPatience{1'000};
  static constexpr std::chrono::milliseconds kComesBack{1'000};
  static constexpr size_t kFloodersMax = 4'000;  // under way at the same time

  struct Counts {
    uint64_t good = 0;
    uint64_t refused = 0;         // 429 and 503
    uint64_t no_retry_after = 0;  // of those
    uint64_t given_up = 0;
    uint64_t broken = 0;  // no answer, a wrong one, or none at all after the connection was closed
    uint64_t not_sent = 0;        // nobody was left to ask: kFloodersMax were under way
    std::vector<double> took_us;  // of the good ones
  };
  // What a client asks, and whether an answer other than a refusal is right.
  struct Asks {
    std::function<std::string()> path;
    Bytes body;  // empty: GET
    std::function<bool(const LoadAnswer&)> is_right;
  };

  Crowd(std::string address, Asks asks) : address_(std::move(address)), asks_(std::move(asks)) {}

  Counts RunCrowd(size_t clients, Clock::duration length) {
    for (size_t i = 0; i < clients; ++i) AddClient()->due = Clock::now();
    Run(length, /*a_second=*/0);
    return counts_;
  }
  Counts RunFlood(uint64_t a_second, Clock::duration length) {
    Run(length, a_second);
    return counts_;
  }

 private:
  struct Client {
    std::unique_ptr<LoadConnection> connection;
    bool busy = false;
    Clock::time_point begun;
    Clock::time_point due = Clock::time_point::max();  // when it asks again
  };

  Client* AddClient() {
    Client* client = &clients_.emplace_back();
    client->connection = std::make_unique<LoadConnection>(
        &loop_, address_, [this, client](const LoadAnswer& answer) { OnAnswer(client, answer); });
    client->connection->SetPostLines("Hayloft-Dedup: no\r\n");  // they all bring one image
    return client;
  }
  void Run(Clock::duration length, uint64_t a_second) {
    flood_ = a_second > 0;
    begun_ = Clock::now();
    end_ = begun_ + length;
    tick_ = loop_.Every(1, [this, a_second] { Tick(a_second); });
    loop_.Run();
    tick_.reset();
  }
  void Tick(uint64_t a_second) {
    const Clock::time_point now = Clock::now();
    const bool over = now >= end_;
    bool busy = false;
    for (Client& client : clients_) {
      if (client.busy && now - client.begun >= kPatience) {
        ++counts_.given_up;
        client.connection->GiveUp();
        Free(&client, now);
      }
      if (!over && !client.busy && now >= client.due) Ask(&client);
      busy |= client.busy;
    }
    if (over && !busy) return loop_.Stop();
    if (over || a_second == 0) return;
    const double elapsed_s = std::chrono::duration<double>(now - begun_).count();
    const auto wanted = static_cast<uint64_t>(elapsed_s * static_cast<double>(a_second));
    for (; flooded_ < wanted; ++flooded_) Flood();
  }
  void Flood() {
    if (idle_.empty() && clients_.size() < kFloodersMax) idle_.push_back(AddClient());
    if (idle_.empty()) {
      ++counts_.not_sent;
      return;
    }
    Client* client = idle_.back();
    idle_.pop_back();
    Ask(client);
  }
  void Ask(Client* client) {
    client->busy = true;
    client->due = Clock::time_point::max();
    client->begun = Clock::now();
    client->connection->Send(asks_.path(), asks_.body);
  }
  void Free(Client* client, Clock::time_point due) {
    client->busy = false;
    if (flood_) {
      idle_.push_back(client);
    } else {
      client->due = due;
    }
  }
  void OnAnswer(Client* client, const LoadAnswer& answer) {
    const Clock::time_point now = Clock::now();
    const bool refused = answer.status == 429 || answer.status == 503;
    if (refused) {
      ++counts_.refused;
      if (!answer.retry_after) ++counts_.no_retry_after;
    } else if (!asks_.is_right(answer)) {
      ++counts_.broken;
    } else {
      ++counts_.good;
      counts_.took_us.push_back(
          std::chrono::duration<double, std::micro>(now - client->begun).count());
    }
    Free(client, refused ? now + kComesBack : now);
    if (!flood_ && !refused && now < end_) Ask(client);
  }

  const std::string address_;
  const Asks asks_;
  Loop loop_;
  Loop::Handle tick_;
  std::deque<Client> clients_;
  std::vector<Client*> idle_;  // of a flood
  bool flood_ = false;
  uint64_t flooded_ = 0;
  Clock::time_point begun_, end_;
  Counts counts_;
};

}  // namespace hayloft
