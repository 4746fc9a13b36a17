// A thread is moved as CRIU would move it, and put back.
#include "criu-glue/criu/threads.h"

#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <optional>

#include "common/fd.h"
#include "common/process.h"
#include "criu-glue/container/cgroup.h"

namespace stillpoint::criu {
namespace {

using namespace std::chrono_literals;
using container::Cgroup;

class SavedThreadsTest : public testing::Test {
 protected:
  void SetUp() override {
    count_ = static_cast<std::atomic<uint64_t>*>(
        ::mmap(nullptr, sizeof *count_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    auto group = Cgroup::create("threads-test-" + std::to_string(::getpid()));
    ASSERT_TRUE(group) << group.error().line();
    group_.emplace(std::move(*group));
  }
  void TearDown() override {
    (void)group_->destroy(Deadline::in(10s));
    ::munmap(count_, sizeof *count_);
  }
  // Counts; with system calls between or without.
  void start(bool calls) {
    auto child = fork_child([&] {
      if (!group_->join()) return 1;
      for (;;) {
        count_->fetch_add(1);
        if (calls) ::poll(nullptr, 0, 1);
      }
    });
    ASSERT_TRUE(child);
    child_ = std::move(*child);
    ASSERT_TRUE(counts());
    ASSERT_TRUE(group_->freeze(Deadline::in(10s)));
  }
  bool counts() {
    const uint64_t before = *count_;
    const auto limit = Deadline::in(5s);
    while (*count_ < before + 5 && !limit.passed()) ::poll(nullptr, 0, 1);
    return *count_ >= before + 5;
  }
  // Into nothing, with all signals blocked: what CRIU's death would leave.
  void move() {
    int status;
    ASSERT_EQ(::ptrace(PTRACE_SEIZE, child_.pid(), nullptr, nullptr), 0);
    ASSERT_EQ(::ptrace(PTRACE_INTERRUPT, child_.pid(), nullptr, nullptr), 0);
    ASSERT_EQ(::waitpid(child_.pid(), &status, __WALL), child_.pid());
    user_regs_struct registers{};
    iovec area{&registers, sizeof registers};
    ASSERT_EQ(::ptrace(PTRACE_GETREGSET, child_.pid(), NT_PRSTATUS, &area), 0);
    registers.rip = 16;
    registers.orig_rax = static_cast<unsigned long>(-1);
    ASSERT_EQ(::ptrace(PTRACE_SETREGSET, child_.pid(), NT_PRSTATUS, &area), 0);
    uint64_t mask = ~uint64_t{0};
    ASSERT_EQ(::ptrace(PTRACE_SETSIGMASK, child_.pid(), sizeof mask, &mask), 0);
    ASSERT_EQ(::ptrace(PTRACE_DETACH, child_.pid(), nullptr, nullptr), 0);
  }

  std::atomic<uint64_t>* count_ = nullptr;
  std::optional<Cgroup> group_;
  Child child_;
};

TEST_F(SavedThreadsTest, AThreadThatWasMovedGoesOnWhereItWas) {
  for (const bool calls : {true, false}) {
    ASSERT_NO_FATAL_FAILURE(start(calls));
    const auto saved = SavedThreads::save(group_->path(), Deadline::in(10s));
    ASSERT_TRUE(saved) << saved.error().line();
    EXPECT_EQ(saved->size(), 1u);
    ASSERT_NO_FATAL_FAILURE(move());
    const auto back = saved->put_back(Deadline::in(10s));
    ASSERT_TRUE(back) << back.error().line();
    ASSERT_TRUE(group_->thaw());
    EXPECT_TRUE(counts());
    const auto status = read_file("/proc/" + std::to_string(child_.pid()) + "/status");
    EXPECT_NE(status->find("SigBlk:\t0000000000000000"), status->npos) << *status;
    child_.kill();
  }
}

TEST_F(SavedThreadsTest, OneThatWasNotMovedIsLeftAlone) {
  ASSERT_NO_FATAL_FAILURE(start(true));
  const auto saved = SavedThreads::save(group_->path(), Deadline::in(10s));
  ASSERT_TRUE(saved);
  EXPECT_TRUE(saved->put_back(Deadline::in(10s)));
  EXPECT_TRUE(saved->put_back(Deadline::in(10s)));
  ASSERT_TRUE(group_->thaw());
  EXPECT_TRUE(counts());
}

TEST_F(SavedThreadsTest, OneThatHasNotSurvivedIsSaid) {
  ASSERT_NO_FATAL_FAILURE(start(true));
  const auto saved = SavedThreads::save(group_->path(), Deadline::in(10s));
  ASSERT_TRUE(saved);
  child_.kill();
  const auto back = saved->put_back(Deadline::in(10s));
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().kind(), ErrorKind::kNotFound);
}

}  // namespace
}  // namespace stillpoint::criu
