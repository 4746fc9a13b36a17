#include "launcher/agent/node_facts.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

namespace stillpoint::agent {
namespace {

TEST(Cpu, NeedsEveryFlagOfTheDump) {
  const statefile::CpuRecord dumped{"Old", {"avx", "sse"}}, wider{"New", {"avx", "avx512f", "sse"}};
  EXPECT_TRUE(cpu_can_run(dumped, wider));
  const auto r = cpu_can_run(wider, dumped);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().kind(), ErrorKind::kUnfit);
  EXPECT_NE(r.error().what().find("avx512f"), std::string::npos);
  EXPECT_EQ(r.error().what().find("sse"), std::string::npos);
}

TEST(Cpu, ThisOneIsKnown) {
  const auto cpu = this_cpu();
  EXPECT_FALSE(cpu.model.empty());
  EXPECT_TRUE(std::is_sorted(cpu.flags.begin(), cpu.flags.end()));
  EXPECT_TRUE(std::binary_search(cpu.flags.begin(), cpu.flags.end(), "sse2"));
  EXPECT_TRUE(cpu_can_run(cpu, cpu));
}

TEST(Fit, MissingMountAndOtherMachineAreNamed) {
  statefile::Manifest manifest;
  manifest.machine = machine();
  manifest.cpu = this_cpu();
  manifest.containers.resize(1);
  EXPECT_TRUE(fit_to_continue(manifest));
  manifest.containers[0].mounts.push_back({"/no/such/mount", "nfs4"});
  auto r = fit_to_continue(manifest);
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().what().find("/no/such/mount"), std::string::npos);
  manifest.machine = "pdp11";
  r = fit_to_continue(manifest);
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().what().find("pdp11"), std::string::npos);
}

TEST(Ranks, AreFoundByTheirPidInside) {
  const auto self = static_cast<int32_t>(::getpid());
  const auto records = rank_records({self, 999999}, {::getpid(), 999999999});
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].rank, 0u);
  EXPECT_FALSE(records[0].program.empty());
  EXPECT_GT(records[0].memory, 0u);
  EXPECT_EQ(records[1].rank, 1u);  // one that has ended keeps its place
  EXPECT_EQ(records[1].pid, 999999);
  EXPECT_TRUE(records[1].program.empty());
}

}  // namespace
}  // namespace stillpoint::agent
