#include "common/units.h"

#include <gtest/gtest.h>

namespace stillpoint {
namespace {

TEST(Duration, SlurmsForms) {
  const auto seconds = [](const char* t) { return parse_duration(t)->count() / 1000; };
  EXPECT_EQ(seconds("5"), 300);         // minutes
  EXPECT_EQ(seconds("5:30"), 330);      // minutes:seconds
  EXPECT_EQ(seconds("1:00:01"), 3601);  // hours:minutes:seconds
  EXPECT_EQ(seconds("2-3"), 2 * 86400 + 3 * 3600);
  EXPECT_EQ(seconds("0-1:30"), 5400);
  EXPECT_EQ(seconds("1-00:00:05"), 86405);
}

TEST(Duration, Units) {
  EXPECT_EQ(parse_duration("500ms")->count(), 500);
  EXPECT_EQ(parse_duration("10s")->count(), 10'000);
  EXPECT_EQ(parse_duration("5m")->count(), 300'000);
  EXPECT_EQ(parse_duration("2h")->count(), 7'200'000);
  EXPECT_EQ(parse_duration("1d")->count(), 86'400'000);
}

TEST(Duration, RefusesTheRest) {
  for (const char* bad :
       {"", "0", "0s", "-5", "5x", "s", "1:2:3:4", "1-", "-1", "1.5h", "366d", " 5", "5 ",
        "99999999999999999999", "9223372036854775807d", "1--2", ":", "1:", "0-0"}) {
    const auto r = parse_duration(bad);
    ASSERT_FALSE(r) << bad;
    EXPECT_EQ(r.error().kind(), ErrorKind::kUsage);
  }
}

TEST(Number, Bounds) {
  EXPECT_EQ(*parse_number("8", "-n", 1, 10), 8u);
  for (const char* bad : {"0", "11", "", "x", "1x", "-1", "+1", "18446744073709551616"})
    EXPECT_FALSE(parse_number(bad, "-n", 1, 10)) << bad;
}

TEST(Format, ForPeople) {
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_duration(Milliseconds(850)), "850 ms");
  EXPECT_EQ(format_duration(Milliseconds(12'300)), "12.3 s");
  EXPECT_EQ(format_duration(Milliseconds(245'000)), "4 min 05 s");
  EXPECT_EQ(format_duration(Milliseconds(7'380'000)), "2 h 03 min");
}

}  // namespace
}  // namespace stillpoint
