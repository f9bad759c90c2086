#include "gateway/cache_control.h"

#include <doctest/doctest.h>

#include "common/options.h"

using namespace hayloft;

TEST_CASE("cache_control: a year and immutable, unless the options say otherwise") {
  GatewayOptions options;
  CHECK_EQ(CacheControl(options, std::nullopt), "public, max-age=31536000, immutable");
  options.immutable = false;
  options.max_age_s = 60;
  options.s_maxage_s = 86'400;
  CHECK_EQ(CacheControl(options, std::nullopt), "public, max-age=60, s-maxage=86400");
  options.stale_while_revalidate_s = 30;
  options.stale_if_error_s = 3'600;
  CHECK_EQ(CacheControl(options, std::nullopt),
           "public, max-age=60, s-maxage=86400, stale-while-revalidate=30, stale-if-error=3600");
  options.immutable = true;
  options.max_age_s = 0;
  options.s_maxage_s = 0;
  options.stale_while_revalidate_s = options.stale_if_error_s = 0;
  CHECK_EQ(CacheControl(options, std::nullopt), "public, max-age=0");
}

TEST_CASE("cache_control: nothing is kept beyond the life of the URL (S15)") {
  GatewayOptions options;
  CHECK_EQ(CacheControl(options, 0), "no-store");
  CHECK_EQ(CacheControl(options, 1), "public, max-age=1, immutable, must-revalidate");
  CHECK_EQ(CacheControl(options, 40'000'000),
           "public, max-age=31536000, immutable, must-revalidate");
  options.max_age_s = 60;
  options.s_maxage_s = 600;
  options.stale_while_revalidate_s = 30;
  options.stale_if_error_s = 3'600;
  CHECK_EQ(CacheControl(options, 700),
           "public, max-age=60, s-maxage=600, immutable, must-revalidate");
  CHECK_EQ(CacheControl(options, 10),
           "public, max-age=10, s-maxage=10, immutable, must-revalidate");
}

TEST_CASE("cache_control: an absent file is not kept, or for a short time") {
  GatewayOptions options;
  CHECK_EQ(NotFoundCacheControl(options, std::nullopt), "no-store");
  options.not_found_max_age_s = 10;
  CHECK_EQ(NotFoundCacheControl(options, std::nullopt), "public, max-age=10");
  CHECK_EQ(NotFoundCacheControl(options, 3), "public, max-age=3");
  CHECK_EQ(NotFoundCacheControl(options, 0), "no-store");
  const OptionRows rows = options.Rows();
  std::string why;
  CHECK_EQ(SetOption(*FindOption(rows, "not_found_max_age_s"), "3601", &why), Err::kInvalid);
  CHECK_EQ(SetOption(*FindOption(rows, "not_found_max_age_s"), "3600", &why), Err::kOk);
}

TEST_CASE("cache_control: what a name leads to is kept for a short while") {
  GatewayOptions options;
  CHECK_EQ(NameCacheControl(options, std::nullopt), "public, max-age=60");
  CHECK_EQ(NameCacheControl(options, 5), "public, max-age=5, must-revalidate");
  CHECK_EQ(NameCacheControl(options, 0), "no-store");
  options.name_max_age_s = 0;
  CHECK_EQ(NameCacheControl(options, std::nullopt), "no-cache");
  CHECK_EQ(NameCacheControl(options, 0), "no-store");
}
