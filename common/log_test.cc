#include "common/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace stillpoint::log {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Listening : public ::testing::Test {
 protected:
  Listening() {
    set_listener([this](Level level, const std::string& text) {
      heard_.push_back(std::to_string(static_cast<int>(level)) + " " + text);
    });
  }
  ~Listening() override {
    set_listener({});
    set_level(Level::kInfo);
  }
  std::vector<std::string> heard_;
};

TEST_F(Listening, HearsEveryLineWithItsLevel) {
  ::testing::internal::CaptureStderr();
  set_level(Level::kDebug);
  debug("a");
  info("b\nb");
  warning("c");
  error("d");
  EXPECT_THAT(heard_, ElementsAre("0 a", "1 b b", "2 warning: c", "3 error: d"));
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST_F(Listening, RelaysWhatSaysItselfWhatItIs) {
  relay(Level::kWarning, "warning: from \x1b elsewhere");
  relay(Level::kInfo, "plain");
  EXPECT_THAT(heard_, ElementsAre("2 warning: from   elsewhere", "1 plain"));
}

TEST_F(Listening, IsSparedWhatIsBelowTheLevel) {
  set_level(Level::kWarning);
  info("a");
  relay(Level::kInfo, "b");
  EXPECT_THAT(heard_, IsEmpty());
}

TEST_F(Listening, EndsAndLinesGoToStandardErrorAgain) {
  set_listener({});
  ::testing::internal::CaptureStderr();
  relay(Level::kError, "error: there");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "stillpoint: error: there\n");
  EXPECT_THAT(heard_, IsEmpty());
}

}  // namespace
}  // namespace stillpoint::log
