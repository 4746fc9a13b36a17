// Needs root and a machine that can dump.
#include "criu-glue/criu/fitness.h"

#include <gtest/gtest.h>

namespace stillpoint::criu {
namespace {

TEST(Fitness, ThisMachineIsFit) {
  const auto all = examine();
  EXPECT_EQ(all.size(), 8u);
  for (const Fitness& f : all) {
    EXPECT_TRUE(f.ok) << f.name << ": " << f.found << "; " << f.remedy;
    EXPECT_FALSE(f.found.empty()) << f.name;
    EXPECT_TRUE(f.remedy.empty()) << f.name;
  }
}

}  // namespace
}  // namespace stillpoint::criu
