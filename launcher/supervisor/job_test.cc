#include "launcher/supervisor/job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <numeric>

namespace stillpoint::supervisor {
namespace {

using ::testing::HasSubstr;

struct Recorder : Job::Actions {
  std::vector<std::string> done;
  void signal_rank(uint32_t rank, pid_t, int number) override {
    done.push_back("signal " + std::to_string(number) + " to " + std::to_string(rank));
  }
  void kill_rest() override { done.push_back("kill rest"); }
  void settle() override { done.push_back("settle"); }
  void failing(const Ending& cause) override { done.push_back("failing: " + cause.reason); }
  void ended() override { done.push_back("ended"); }
  long count(const std::string& what) const { return std::count(done.begin(), done.end(), what); }
};

class JobTest : public ::testing::Test {
 protected:
  void start(uint32_t ranks) {
    std::vector<uint32_t> numbers(ranks);
    std::iota(numbers.begin(), numbers.end(), 0);
    start(numbers);
  }
  void start(const std::vector<uint32_t>& ranks) {
    job.begin(ranks);
    for (const uint32_t rank : ranks) job.rank_started(rank, pid_of(rank));
  }
  static pid_t pid_of(uint32_t rank) { return static_cast<pid_t>(100 + rank); }
  void exits(uint32_t rank, int code, bool children_left = true) {
    job.exited({{pid_of(rank), {.code = code, .signal = 0}}}, children_left);
  }
  void dies(uint32_t rank, int signal, bool children_left = true) {
    job.exited({{pid_of(rank), {.code = 0, .signal = signal}}}, children_left);
  }
  void ticks(int count) {
    for (int i = 0; i < count; i++) job.tick();
  }

  Recorder actions;
  Job job{actions};
};

TEST_F(JobTest, EndsWellWhenAllHave) {
  start(2);
  exits(1, 0);
  EXPECT_FALSE(job.has_ended());
  exits(0, 0, false);
  EXPECT_TRUE(job.has_ended());
  EXPECT_EQ(job.ending().status, 0);
  EXPECT_EQ(job.ending().reason, "");
  EXPECT_EQ(actions.done, std::vector<std::string>{"ended"});
}

TEST_F(JobTest, TheFirstFailureDecidesAndEndsTheOthers) {
  start(3);
  exits(1, 7);
  EXPECT_EQ(actions.count("signal 15 to 0"), 1);
  EXPECT_EQ(actions.count("signal 18 to 2"), 1);  // CONT, so that a stopped one hears it
  EXPECT_EQ(actions.count("signal 15 to 1"), 0);
  dies(0, SIGTERM);
  exits(2, 9, false);
  EXPECT_TRUE(job.has_ended());
  EXPECT_EQ(job.ending().status, 7);
  EXPECT_EQ(job.ending().reason, "rank 1 ended with exit status 7");
}

TEST_F(JobTest, KillsAfterTheGraceTime) {
  start(2);
  dies(0, SIGSEGV);
  ticks(Job::kGraceTicks - 1);
  EXPECT_EQ(actions.count("signal 9 to 1"), 0);
  ticks(1);
  EXPECT_EQ(actions.count("signal 9 to 1"), 1);
  dies(1, SIGKILL, false);
  EXPECT_TRUE(job.has_ended());
  EXPECT_EQ(job.ending().status, 139);
  EXPECT_EQ(job.ending().reason, "rank 0 was killed by signal 11 (Segmentation fault)");
}

TEST_F(JobTest, GivesUpOnWhatCannotBeKilled) {
  start(1);
  job.end({143, "the end"});
  ticks(Job::kGraceTicks + Job::kGiveUpTicks - 1);
  EXPECT_FALSE(job.has_ended());
  ticks(1);
  EXPECT_TRUE(job.has_ended());
  EXPECT_THAT(job.ending().reason, HasSubstr("cannot be killed"));
}

TEST_F(JobTest, OfSeveralDeathsTheOneBySignalIsTheCause) {
  start(2);
  job.exited({{pid_of(0), {.code = 1, .signal = 0}}, {pid_of(1), {.code = 0, .signal = SIGBUS}}},
             false);
  EXPECT_EQ(job.ending().status, 128 + SIGBUS);
}

TEST_F(JobTest, MpiAbortDecidesIfNobodyDiedOfItself) {
  start(3);
  job.connected(2);
  job.aborted(2, 5);
  EXPECT_EQ(actions.done, std::vector<std::string>{"settle"});
  job.aborted(1, 6);
  job.settled();
  EXPECT_EQ(actions.count("signal 15 to 2"), 1);
  dies(0, SIGTERM);
  dies(1, SIGTERM);
  dies(2, SIGTERM, false);
  EXPECT_EQ(job.ending().status, 5);
  EXPECT_EQ(job.ending().reason, "rank 2 called MPI_Abort(5)");
  job.settled();  // the timer's last word changes nothing
  EXPECT_EQ(actions.count("ended"), 1);
}

// Its peers notice the death of a rank, and abort, before the kernel tells us of it.
TEST_F(JobTest, ADeathShortlyAfterAnAbortIsItsCause) {
  start(3);
  job.aborted(1, 14);
  dies(2, SIGSEGV);
  EXPECT_EQ(actions.count("signal 15 to 1"), 1);
  EXPECT_EQ(job.ending().reason, "rank 2 was killed by signal 11 (Segmentation fault)");
  exits(1, 14);
  exits(0, 0, false);
  EXPECT_EQ(job.ending().status, 139);
}

TEST_F(JobTest, TheExitOfTheRankThatAbortedIsNoNews) {
  start(2);
  job.aborted(1, 5);
  exits(1, 3);
  job.settled();
  EXPECT_EQ(job.ending().status, 5);
}

TEST_F(JobTest, AnAbortWithCodeZeroIsAFailure) {
  start(1);
  job.aborted(0, 256);
  job.settled();
  EXPECT_EQ(job.ending().status, 1);
}

TEST_F(JobTest, MpiProgramsMustFinalize) {
  start(2);
  job.connected(0);
  job.connected(1);
  job.finalized(0);
  exits(0, 0);
  EXPECT_TRUE(actions.done.empty());
  exits(1, 0, false);
  EXPECT_EQ(job.ending().status, 1);
  EXPECT_EQ(job.ending().reason, "rank 1 ended without calling MPI_Finalize");
}

TEST_F(JobTest, AllRanksOrNoneCallInit) {
  start(2);
  exits(0, 0);
  EXPECT_TRUE(actions.done.empty());
  job.connected(1);
  EXPECT_EQ(actions.count("signal 15 to 1"), 1);
  EXPECT_EQ(job.ending().reason, "rank 0 ended without calling MPI_Init, which rank 1 did");
}

TEST_F(JobTest, ARankMayRunOneMpiProgramAfterAnother) {
  start(1);
  job.connected(0);
  job.finalized(0);
  job.connected(0);
  exits(0, 0, false);
  EXPECT_EQ(job.ending().status, 1);  // the second one did not finalize
}

TEST_F(JobTest, ProcessesThatRanksLeaveGetAMoment) {
  start(1);
  exits(0, 0, true);
  EXPECT_FALSE(job.has_ended());
  ticks(Job::kLingerTicks - 1);
  EXPECT_EQ(actions.count("kill rest"), 0);
  ticks(1);
  EXPECT_EQ(actions.count("kill rest"), 1);
  EXPECT_FALSE(job.has_ended());
  job.exited({{999, {}}}, false);
  EXPECT_TRUE(job.has_ended());
  EXPECT_EQ(job.ending().status, 0);
}

TEST_F(JobTest, AfterAFailureTheyGetNone) {
  start(1);
  exits(0, 1, true);
  EXPECT_EQ(actions.count("kill rest"), 1);
  ticks(Job::kGiveUpTicks);
  EXPECT_TRUE(job.has_ended());
  EXPECT_EQ(actions.count("ended"), 1);
}

TEST_F(JobTest, SignalsGoToTheRunning) {
  start(3);
  exits(1, 0);
  job.signal(SIGUSR1);
  EXPECT_EQ(actions.done, (std::vector<std::string>{"signal 10 to 0", "signal 10 to 2"}));
}

TEST_F(JobTest, AStartThatFailsHalfwayEndsWhatRuns) {
  job.begin({0, 1, 2});
  job.rank_started(0, pid_of(0));
  job.end({127, "cannot run"});
  EXPECT_EQ(actions.count("signal 15 to 0"), 1);
  EXPECT_FALSE(job.has_ended());
  dies(0, SIGTERM, false);
  EXPECT_TRUE(job.has_ended());
  EXPECT_EQ(job.ending().status, 127);
}

TEST_F(JobTest, AStartThatFailsAtOnceHasEnded) {
  job.begin({0, 1});
  job.end({127, "cannot run"});
  EXPECT_TRUE(job.has_ended());
}

TEST_F(JobTest, TheFirstCauseStands) {
  start(1);
  job.end({1, "first"});
  job.end({2, "second"});
  EXPECT_EQ(job.ending().reason, "first");
}

TEST_F(JobTest, RanksAreCalledByTheirNumbersInTheWholeJob) {
  start({1, 3, 8});
  EXPECT_EQ(job.rank(3)->pid, pid_of(3));
  EXPECT_EQ(job.rank(0), nullptr);
  EXPECT_EQ(job.rank(9), nullptr);
  job.connected(2);  // of another node
  exits(3, 7);
  EXPECT_EQ(actions.count("signal 15 to 8"), 1);
  EXPECT_EQ(job.ending().reason, "rank 3 ended with exit status 7");
}

TEST_F(JobTest, TheOthersHearOfACauseOnce) {
  start({2, 3});
  exits(2, 7);
  exits(3, 8, false);
  EXPECT_EQ(actions.count("failing: rank 2 ended with exit status 7"), 1);
  job.lost_elsewhere({74, "lost"});
  EXPECT_EQ(std::ranges::count_if(actions.done, [](auto& d) { return d.starts_with("fail"); }), 1);
}

TEST_F(JobTest, ACauseFromElsewhereIsNotTold) {
  start({2, 3});
  job.failed_elsewhere({139, "rank 0 was killed"});
  EXPECT_EQ(actions.count("failing: rank 0 was killed"), 0);
  EXPECT_EQ(actions.count("signal 15 to 3"), 1);
  exits(2, 143);
  dies(3, SIGTERM, false);
  EXPECT_EQ(job.ending().status, 139);
  EXPECT_EQ(job.ending().reason, "rank 0 was killed");
}

TEST_F(JobTest, AnAbortMayBeTheAnswerToWhatHappenedElsewhere) {
  start({2, 3});
  job.aborted(2, 1);
  job.lost_elsewhere({74, "node n1 is gone"});
  EXPECT_EQ(actions.count("failing: node n1 is gone"), 1);  // nobody else might know
  job.settled();
  EXPECT_EQ(job.ending().reason, "node n1 is gone");
}

TEST_F(JobTest, StrangersElsewhereAreStrangersAllTheSame) {
  start({2, 3});
  job.stranger_elsewhere(0);
  EXPECT_TRUE(actions.done.empty());
  job.connected(3);
  EXPECT_EQ(job.ending().reason, "rank 0 ended without calling MPI_Init, which rank 3 did");
}

TEST_F(JobTest, OneWithoutMpiIsKnown) {
  start({2, 3});
  EXPECT_EQ(job.stranger(), std::nullopt);
  exits(3, 0);
  EXPECT_EQ(job.stranger(), 3U);
}

}  // namespace
}  // namespace stillpoint::supervisor
