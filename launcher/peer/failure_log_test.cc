#include "launcher/peer/failure_log.h"

#include <gtest/gtest.h>

#include <vector>

namespace stillpoint::peer {
namespace {

TEST(FailureLog, OneLineAMinuteForEachAddress) {
  std::vector<std::string> lines;
  FailureLog log([&](const std::string& line) { lines.push_back(line); });
  const auto start = FailureLog::Clock::now();
  for (int i = 0; i < 100; i++) log.tell("10.0.0.1", "nonsense", start);
  log.tell("10.0.0.2", "late", start);
  EXPECT_EQ(lines, (std::vector<std::string>{"10.0.0.1: nonsense", "10.0.0.2: late"}));
  log.tell("10.0.0.1", "nonsense", start + FailureLog::kInterval);
  log.tell("10.0.0.2", "late", start + FailureLog::kInterval);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[2], "10.0.0.1: nonsense (and 99 more since the last such line)");
  EXPECT_EQ(lines[3], "10.0.0.2: late");
}

TEST(FailureLog, ForgetsTheOldestAddress) {
  size_t lines = 0;
  FailureLog log([&](const std::string&) { lines++; });
  const auto start = FailureLog::Clock::now();
  for (size_t i = 0; i <= FailureLog::kMostAddresses; i++)
    log.tell("address " + std::to_string(i), "x", start + std::chrono::milliseconds(i));
  EXPECT_EQ(lines, FailureLog::kMostAddresses + 1);
  const auto later = start + std::chrono::seconds(1);
  log.tell("address 0", "x", later);  // forgotten, so told again, in place of address 1
  EXPECT_EQ(lines, FailureLog::kMostAddresses + 2);
  log.tell("address 2", "x", later);
  EXPECT_EQ(lines, FailureLog::kMostAddresses + 2);
}

}  // namespace
}  // namespace stillpoint::peer
