#include "common/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
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

// What a detached process finds out about itself, in memory that it shares with us.
struct Found {
  pid_t pid, session, parent;
  bool kept, others_closed, streams_open, signals_default, nothing_blocked;
  bool done;
};

TEST(ForkDetached, LivesByItselfWithWhatItWasGiven) {
  auto* found = static_cast<Found*>(
      ::mmap(nullptr, sizeof(Found), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  auto go = make_pipe(), over = make_pipe(), other = make_pipe();
  ASSERT_TRUE(go && over && other);
  auto* const pipe_before = ::signal(SIGPIPE, SIG_IGN);
  sigset_t block, before;
  sigemptyset(&block);
  sigaddset(&block, SIGUSR1);
  ::sigprocmask(SIG_BLOCK, &block, &before);
  // In no order, and one of them twice.
  const std::vector<int> keep = {over->write.get(), go->read.get(), over->write.get()};
  const auto detached = fork_detached(keep, [&] {
    char byte;
    const bool told = ::read(go->read.get(), &byte, 1) == 1;
    found->pid = ::getpid(), found->session = ::getsid(0), found->parent = ::getppid();
    found->kept = told && ::fcntl(over->write.get(), F_GETFD) >= 0;
    found->others_closed = true;
    for (const int fd : {go->write.get(), over->read.get(), other->read.get(), other->write.get()})
      found->others_closed = found->others_closed && ::fcntl(fd, F_GETFD) < 0;
    found->streams_open =
        ::fcntl(0, F_GETFD) >= 0 && ::fcntl(1, F_GETFD) >= 0 && ::fcntl(2, F_GETFD) >= 0;
    found->signals_default = ::signal(SIGPIPE, SIG_DFL) == SIG_DFL;
    sigset_t now;
    ::sigprocmask(SIG_BLOCK, nullptr, &now);
    found->nothing_blocked = sigisemptyset(&now);
    found->done = true;
    return 0;
  });
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  ::signal(SIGPIPE, pipe_before);
  ASSERT_TRUE(detached) << detached.error().line();  // while it waits for us
  EXPECT_FALSE(found->done);
  bool left = true;
  EXPECT_FALSE(reap_any(left));
  EXPECT_FALSE(left);  // it is nobody's, and who forked it has been waited for
  ASSERT_TRUE(write_all(go->write.get(), "."));
  over->write.reset();
  char byte;
  EXPECT_EQ(::read(over->read.get(), &byte, 1), 0);  // until it has ended
  ASSERT_TRUE(found->done);
  EXPECT_NE(found->pid, ::getpid());
  EXPECT_NE(found->parent, ::getpid());
  EXPECT_NE(found->session, ::getsid(0));
  EXPECT_NE(found->session, found->pid);  // so that no terminal it opens becomes its own
  EXPECT_TRUE(found->kept);
  EXPECT_TRUE(found->others_closed);
  EXPECT_TRUE(found->streams_open);
  EXPECT_TRUE(found->signals_default);
  EXPECT_TRUE(found->nothing_blocked);
  ::munmap(found, sizeof(Found));
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
