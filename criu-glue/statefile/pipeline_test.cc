#include "criu-glue/statefile/pipeline.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <vector>

namespace stillpoint::statefile {
namespace {

Result<> fail_at(uint64_t job) {
  return fail(ErrorKind::kIo, "job " + std::to_string(job));
}

TEST(Pipeline, CrewFitsIntoMemory) {
  constexpr size_t kMiB = 1 << 20;
  for (size_t per_thread : {kMiB, 3 * kMiB, 20 * kMiB}) {
    const Crew crew = make_crew(64, per_thread, kMiB);
    EXPECT_LE(crew.threads * per_thread + crew.slots * kMiB, 48 * kMiB);
    EXPECT_GE(crew.threads, 2u);
    EXPECT_GT(crew.slots, crew.threads);
  }
  EXPECT_EQ(make_crew(64, 100 * kMiB, kMiB).threads, 1u);
  EXPECT_EQ(make_crew(4, kMiB, kMiB).threads, 4u);
  EXPECT_GE(make_crew(0, kMiB, kMiB).threads, 1u);
}

TEST(Pipeline, ConsumesInOrder) {
  for (unsigned threads : {1u, 2u, 7u})
    for (uint64_t jobs : {0u, 1u, 3u, 1000u}) {
      std::vector<uint64_t> slots(threads + 2), consumed;
      auto result = run_ordered(
          {threads, threads + 2}, jobs,
          [&](unsigned, unsigned slot, uint64_t job) -> Result<> {
            slots[slot] = job * job;
            return {};
          },
          [&](unsigned slot, uint64_t job) -> Result<> {
            EXPECT_EQ(slots[slot], job * job);
            consumed.push_back(job);
            return {};
          });
      ASSERT_TRUE(result);
      ASSERT_EQ(consumed.size(), jobs);
      for (uint64_t i = 0; i < jobs; ++i) EXPECT_EQ(consumed[i], i);
    }
}

TEST(Pipeline, OrderedReportsTheFirstFailure) {
  for (int round = 0; round < 50; ++round) {
    uint64_t consumed = 0;
    auto result = run_ordered(
        {4, 6}, 500,
        [&](unsigned, unsigned, uint64_t job) { return job >= 100 ? fail_at(job) : Result<>(); },
        [&](unsigned, uint64_t) -> Result<> {
          ++consumed;
          return {};
        });
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().what(), "job 100");
    EXPECT_EQ(consumed, 100u);
  }
  auto result = run_ordered(
      {4, 6}, 500, [](unsigned, unsigned, uint64_t) { return Result<>(); },
      [](unsigned, uint64_t job) { return job == 9 ? fail_at(job) : Result<>(); });
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().what(), "job 9");
}

TEST(Pipeline, FedDoesEveryJobOnce) {
  for (unsigned threads : {1u, 2u, 7u})
    for (uint64_t jobs : {0u, 1u, 3u, 1000u}) {
      std::vector<uint64_t> slots(threads + 2);
      std::vector<std::atomic<int>> done(jobs);
      auto result = run_fed(
          {threads, threads + 2}, jobs,
          [&](unsigned slot, uint64_t job) -> Result<> {
            slots[slot] = job;
            return {};
          },
          [&](unsigned, unsigned slot, uint64_t job) -> Result<> {
            EXPECT_EQ(slots[slot], job);
            ++done[job];
            return {};
          });
      ASSERT_TRUE(result);
      for (const auto& count : done) EXPECT_EQ(count, 1);
    }
}

TEST(Pipeline, FedReportsTheFirstFailure) {
  for (int round = 0; round < 50; ++round) {
    auto result = run_fed(
        {4, 6}, 500, [](unsigned, uint64_t) { return Result<>(); },
        [](unsigned, unsigned, uint64_t job) { return job >= 100 ? fail_at(job) : Result<>(); });
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().what(), "job 100");
    result = run_fed(
        {4, 6}, 500, [](unsigned, uint64_t job) { return job == 60 ? fail_at(job) : Result<>(); },
        [](unsigned, unsigned, uint64_t job) { return job == 59 ? fail_at(job) : Result<>(); });
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().what(), "job 59");
  }
}

}  // namespace
}  // namespace stillpoint::statefile
