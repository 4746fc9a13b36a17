// The whole protocol against chance: thousands of runs, each made from its seed alone.  A failure
// names its seed; STILLPOINT_TEST_SEED=that repeats the run and prints what happened in it.
#include "launcher/coordinator/testing/simulation.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace stillpoint::coordinator::testing {
namespace {

constexpr uint64_t kSeeds = 8000;

TEST(Simulation, EveryPromiseIsKeptWhateverGoesWrong) {
  if (const char* chosen = std::getenv("STILLPOINT_TEST_SEED")) {
    EXPECT_EQ(Simulation(std::strtoull(chosen, nullptr, 10), true).run(), "");
    return;
  }
  int succeeded = 0, failed = 0, harmless = 0;
  for (uint64_t seed = 1; seed <= kSeeds; seed++) {
    Simulation simulation(seed);
    ASSERT_EQ(simulation.run(), "") << "STILLPOINT_TEST_SEED=" << seed << " repeats it";
    succeeded += simulation.succeeded();
    failed += simulation.failed();
    if (!simulation.faults().grave()) harmless++;
  }
  // Both ways out are well trodden.
  EXPECT_GT(succeeded, 8000);
  EXPECT_GT(failed, 2000);
  EXPECT_GT(harmless, 1600);
}

}  // namespace
}  // namespace stillpoint::coordinator::testing
