// S16: how long a compare of a secret takes says nothing about how much of a guess was right.
//
// As dudect does it (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?", 2017): the
// same check of two classes of guesses, in random order, and Welch's t-test on their times.
//
//   class 0   the first byte is wrong
//   class 1   only the last byte is wrong: a compare that stops at the first difference takes
//             longer
//
// Both classes lie in the same memory when they are checked: two places may differ by a cache line,
// and that would be found too. A machine with other things to do spoils times in one direction: it
// makes some longer. So the slowest of both classes together are left out, at several thresholds,
// and the median of some rounds counts, the least of three if it is high. That the test can fail is
// shown by a compare that stops early, which it must find.
#include <doctest/doctest.h>
#include <x86intrin.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "common/delete_token.h"
#include "common/key_file.h"
#include "common/signed_url.h"

using namespace hayloft;

namespace {

constexpr size_t kSamples = 20'000;  // of a round
constexpr size_t kRounds = 7;
// dudect's own threshold for "definitely". Of noise alone |t| is hardly ever above 4.5.
constexpr double kLeak = 10;

struct Welford {
  void Add(double x) {
    ++n;
    const double delta = x - mean;
    mean += delta / n;
    m2 += delta * (x - mean);
  }
  double n = 0, mean = 0, m2 = 0;
};

double WelchT(const Welford& a, const Welford& b) {
  if (a.n < 100 || b.n < 100) return 0;
  const double spread = a.m2 / (a.n - 1) / a.n + b.m2 / (b.n - 1) / b.n;
  return spread > 0 ? std::abs(a.mean - b.mean) / std::sqrt(spread) : 0;
}

uint64_t Ticks() {
  unsigned processor = 0;
  const uint64_t ticks = __rdtscp(&processor);
  _mm_lfence();
  return ticks;
}

// What is timed, and what makes it a case of class 0 or 1 before that.
struct Probe {
  std::function<void(int)> prepare;
  std::function<bool()> check;
};

bool g_sink = false;  // what is checked is not left out by the compiler
void Note(bool fits) {
  volatile bool* sink = &g_sink;
  *sink = fits;
}

// The largest |t| over some croppings of one round.
double RoundT(const Probe& probe, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::pair<uint64_t, int>> samples;
  samples.reserve(kSamples);
  for (size_t i = 0; i < kSamples; ++i) {
    const int which = static_cast<int>(random() & 1);
    probe.prepare(which);
    const uint64_t begin = Ticks();
    Note(probe.check());
    samples.push_back({Ticks() - begin, which});
  }
  std::sort(samples.begin(), samples.end());
  double largest = 0;
  for (const size_t percent : {50, 75, 90}) {
    Welford classes[2];
    const uint64_t slowest = samples[kSamples * percent / 100].first;
    for (const auto& [ticks, which] : samples) {
      if (ticks <= slowest) classes[which].Add(static_cast<double>(ticks));
    }
    largest = std::max(largest, WelchT(classes[0], classes[1]));
  }
  return largest;
}

// The median of some rounds. Neither class may fit.
double MedianT(const Probe& probe) {
  std::vector<double> rounds;
  for (size_t round = 0; round < kRounds; ++round) rounds.push_back(RoundT(probe, round));
  std::sort(rounds.begin(), rounds.end());
  return rounds[kRounds / 2];
}

// A leak is there each time; what other work on the machine does to one median, it is not.
double LastingT(const Probe& probe) {
  for (const int which : {0, 1}) {
    probe.prepare(which);
    REQUIRE_FALSE(probe.check());
  }
  double least = MedianT(probe);
  for (int again = 0; again < 2 && least >= kLeak; ++again) {
    least = std::min(least, MedianT(probe));
  }
  return least;
}

// base64url text with another character at `place`, of the same kind: a decoder may branch on its
// input, which tells a guesser nothing that he did not write himself.
std::string Changed(std::string text, size_t place) {
  const char c = text[place];
  REQUIRE((std::isalnum(c) != 0));
  text[place] = static_cast<char>(c == 'z' || c == 'Z' || c == '9' ? c - 1 : c + 1);
  return text;
}

// A hash that differs from `hash` in one byte.
Sha256 Differing(Sha256 hash, size_t place) {
  hash[place] ^= 1;
  return hash;
}

}  // namespace

TEST_CASE("timing: a compare that stops at the first difference is found (S16)") {
  const Sha256 secret = Sha256Of(AsBytes("secret"));
  Sha256 guess{};
  const auto stops_early = [&] {
    const volatile uint8_t* a = secret.data();
    const volatile uint8_t* b = guess.data();
    size_t i = 0;
    while (i < secret.size() && a[i] == b[i]) ++i;
    return i == secret.size();
  };
  const auto prepare = [&](int which) { guess = Differing(secret, which == 0 ? 0 : 31); };
  CHECK_GT(LastingT({prepare, stops_early}), kLeak);
}

TEST_CASE("timing: a compare of 32 bytes takes as long wherever they differ (S16)") {
  const Sha256 secret = Sha256Of(AsBytes("secret"));
  Sha256 guess{};
  const auto prepare = [&](int which) { guess = Differing(secret, which == 0 ? 0 : 31); };
  CHECK_LT(LastingT({prepare, [&] { return EqualInConstantTime(secret, guess); }}), kLeak);
}

TEST_CASE("timing: delete tokens (S16)") {
  const ClusterKey key{.number = 1, .bytes = std::string(32, 'k')};
  const FileAddress file{.block_id = 7, .file_id = FileId::Of(3, 99)};
  const std::string token = MakeDeleteToken(key, file, Nonce{1, 2, 3});
  REQUIRE(CheckDeleteToken(key, file, token).has_value());
  // The MAC begins behind 17 bytes; its last byte is in the last but one character.
  const std::string guesses[2] = {Changed(token, 24), Changed(token, token.size() - 2)};
  std::string guess = token;
  const auto prepare = [&](int which) {
    std::copy(guesses[which].begin(), guesses[which].end(), guess.begin());
  };
  CHECK_LT(LastingT({prepare, [&] { return CheckDeleteToken(key, file, guess).has_value(); }}),
           kLeak);
}

TEST_CASE("timing: tokens of names (S16)") {
  const ClusterKey key{.number = 1, .bytes = std::string(32, 'k')};
  const Nonce nonce{1, 2, 3};
  const std::string token = MakeNameToken(key, "logo", nonce);
  REQUIRE(CheckNameToken(key, "logo", nonce, token));
  const std::string guesses[2] = {Changed(token, 24), Changed(token, token.size() - 2)};
  std::string guess = token;
  const auto prepare = [&](int which) {
    std::copy(guesses[which].begin(), guesses[which].end(), guess.begin());
  };
  CHECK_LT(LastingT({prepare, [&] { return CheckNameToken(key, "logo", nonce, guess); }}), kLeak);
}

TEST_CASE("timing: upload keys (S16)") {
  const std::string text = UploadKeyText({1, 2, 3});
  const Sha256 hash = Sha256Of(AsBytes(text));
  // Nobody can choose the hash of a guess byte by byte; here the file holds one that is nearly it.
  std::vector<UploadKey> keys = {{.name = "a", .hash = hash}};
  REQUIRE(FindUploadKey(keys, text) != nullptr);
  const auto prepare = [&](int which) { keys[0].hash = Differing(hash, which == 0 ? 0 : 31); };
  CHECK_LT(LastingT({prepare, [&] { return FindUploadKey(keys, text) != nullptr; }}), kLeak);
}

TEST_CASE("timing: signatures of URLs (S16)") {
  const SigningKey key{.id = "k1", .secret = std::string(32, 's')};
  const SignedRequest request{.method = "GET", .path = "/AAAAAAAAAAAAAAAAAA"};
  const std::string query = *SignedQuery(
      key, {.method = request.method, .path = request.path, .expires_s = 1'800'000'000});
  const SignedParameters right = FindSignedParameters(query);
  REQUIRE(SignatureFits(key, request, right));
  SignedParameters guess = right;
  const auto prepare = [&](int which) { guess.mac = Differing(right.mac, which == 0 ? 0 : 31); };
  CHECK_LT(LastingT({prepare, [&] { return SignatureFits(key, request, guess); }}), kLeak);
}
