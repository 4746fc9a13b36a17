#include "common/process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

namespace stillpoint {
namespace {

using namespace std::chrono_literals;

TEST(Child, ExitStatusAndSignal) {
  auto exits = fork_child([] { return 7; });
  auto exit = exits->wait(Deadline::in(10s), "the child");
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->status(), 7);
  auto dies = fork_child([] { return ::raise(SIGKILL); });
  exit = dies->wait(Deadline::in(10s), "the child");
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->status(), 128 + SIGKILL);
  EXPECT_FALSE(exit->ok());
}

TEST(Child, WaitIsBoundedAndSaysForWhat) {
  auto child = fork_child([] { return ::pause(); });
  auto exit = child->wait(Deadline::in(10ms), "the sleeper");
  ASSERT_FALSE(exit);
  EXPECT_EQ(exit.error().kind(), ErrorKind::kTimeout);
  EXPECT_NE(exit.error().what().find("the sleeper"), std::string::npos);
}

TEST(Child, DestructorLeavesNothing) {
  pid_t pid = 0;
  {
    auto child = fork_child([] { return ::pause(); });
    pid = child->pid();
  }
  EXPECT_EQ(::kill(pid, 0), -1);
}

TEST(ReapAny, TellsEndsFromRunningFromNothing) {
  bool left = true;
  EXPECT_FALSE(reap_any(left));
  EXPECT_FALSE(left);
  auto stays = fork_child([] { return ::pause(); });
  EXPECT_FALSE(reap_any(left));
  EXPECT_TRUE(left);
  const pid_t pid = stays->pid();
  stays->send(SIGKILL);
  std::optional<Reaped> reaped;
  for (const auto deadline = Deadline::in(10s); !reaped && !deadline.passed();)
    reaped = reap_any(left);
  ASSERT_TRUE(reaped);
  EXPECT_EQ(reaped->pid, pid);
  EXPECT_EQ(reaped->exit.signal, SIGKILL);
  stays->release();
}

TEST(RunProgram, OutputAndStatus) {
  auto out = run_program({"sh", "-c", "echo hello; echo err >&2; exit 3"}, Deadline::in(10s));
  ASSERT_TRUE(out);
  EXPECT_EQ(out->out, "hello\nerr\n");
  EXPECT_EQ(out->exit.status(), 3);
  out = run_program({"/no/such/program"}, Deadline::in(10s));
  ASSERT_TRUE(out);
  EXPECT_EQ(out->exit.status(), 127);
  out = run_program({"sleep", "60"}, Deadline::in(50ms));
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().kind(), ErrorKind::kTimeout);
}

}  // namespace
}  // namespace stillpoint
