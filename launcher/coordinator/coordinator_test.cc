// The failure matrix, from the coordinator's side: who says no, dies or falls silent in which
// round, and what the others are told.
#include "launcher/coordinator/coordinator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <ostream>

namespace stillpoint::coordinator {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const Error kBroken(ErrorKind::kNoSpace, "staging is full");
const Error kGone(ErrorKind::kIo, "the connection is lost");

// A coordinator, and what it asked for last.
class Rig {
 public:
  explicit Rig(size_t members = 3) : coordinator(names(members)) {}

  void take(const Actions& actions) {
    for (const Action& action : actions) {
      if (const auto* send = std::get_if<Send>(&action)) {
        if (send->command.step != asked.step || steps.empty()) steps.push_back(send->command.step);
        asked = send->command;
        to = send->to;
        sends++;
      } else if (const auto* begun = std::get_if<Commit>(&action)) {
        steps.push_back(Step::kCommit);
        commit = *begun;
      } else if (const auto* discard = std::get_if<Discard>(&action)) {
        discarded.push_back(discard->epoch);
      } else {
        reports.push_back(std::get<Report>(action));
      }
    }
  }
  void begin(Operation operation, bool stop = false, uint64_t epoch = 1) {
    auto actions = coordinator.begin({operation, epoch, stop}, now);
    ASSERT_TRUE(actions) << actions.error().line();
    take(*actions);
  }
  void answer(MemberId member, Result<std::string> result) {
    take(coordinator.on_answer(member, {asked.attempt, asked.step, std::move(result)}, now));
  }
  void yes(MemberId member) { answer(member, "from " + std::to_string(member)); }
  void all_yes() {
    for (const MemberId member : std::vector(to)) yes(member);
  }
  void outcome(CommitOutcome outcome) {
    take(coordinator.on_commit(asked.attempt, outcome, {}, now));
  }
  // All goes well until this round.
  void until(Step step) {
    for (int rounds = 0; coordinator.step() && coordinator.step() != step; rounds++) {
      ASSERT_LT(rounds, 20) << "never came to " << name(step);
      if (coordinator.step() == Step::kCommit)
        outcome(CommitOutcome::kPermanent);
      else
        all_yes();
    }
  }
  // Time passes until the round ends.
  void wait() {
    const auto step = coordinator.step();
    for (int wakeups = 0; coordinator.step() == step; wakeups++) {
      ASSERT_LT(wakeups, 20000);
      now = *coordinator.next_wakeup();
      take(coordinator.on_time(now));
    }
  }
  const Report& only_report() const {
    EXPECT_EQ(reports.size(), 1U);
    static const Report none;
    return reports.empty() ? none : reports.front();
  }

  Coordinator coordinator;
  Time now{1000};
  Command asked;
  std::vector<MemberId> to;
  int sends = 0;
  std::optional<Commit> commit;
  std::vector<Step> steps;
  std::vector<uint64_t> discarded;
  std::vector<Report> reports;

 private:
  static std::vector<std::string> names(size_t members) {
    std::vector<std::string> names;
    for (size_t i = 0; i < members; i++) names.push_back("node" + std::to_string(i));
    return names;
  }
};

// --- All goes well

TEST(Coordinator, ACheckpointGoesOnBeforeItPacks) {
  Rig rig;
  rig.begin(Operation::kCheckpoint, false, 7);
  rig.until(Step::kAbort);
  EXPECT_THAT(rig.steps,
              ElementsAre(Step::kPrepare, Step::kFreeze, Step::kDrain, Step::kLock, Step::kDump,
                          Step::kGo, Step::kPack, Step::kCommit, Step::kFinish));
  EXPECT_EQ(rig.commit->epoch, 7U);
  EXPECT_EQ(rig.only_report().outcome, Outcome::kDone);
  EXPECT_EQ(rig.only_report().epoch, 7U);
  EXPECT_FALSE(rig.only_report().cause);
  EXPECT_THAT(rig.only_report().unconfirmed, IsEmpty());
  EXPECT_THAT(rig.discarded, IsEmpty());
  EXPECT_THAT(rig.coordinator.answers(Step::kPack), ElementsAre("from 0", "from 1", "from 2"));
  EXPECT_THAT(rig.coordinator.answers(Step::kEnd), IsEmpty());
  EXPECT_FALSE(rig.coordinator.next_wakeup());
}

TEST(Coordinator, AStopStandsUntilTheCommitAndEnds) {
  Rig rig;
  rig.begin(Operation::kCheckpoint, true);
  rig.until(Step::kAbort);
  EXPECT_THAT(rig.steps, ElementsAre(Step::kPrepare, Step::kFreeze, Step::kDrain, Step::kLock,
                                     Step::kDump, Step::kPack, Step::kCommit, Step::kEnd));
  EXPECT_TRUE(rig.asked.stop);
  EXPECT_EQ(rig.only_report().outcome, Outcome::kDone);
  EXPECT_FALSE(rig.coordinator.begin({}, rig.now));  // who has not heard of it may not be revived
}

TEST(Coordinator, LaunchAndRestart) {
  Rig rig;
  rig.begin(Operation::kLaunch);
  rig.until(Step::kAbort);
  EXPECT_THAT(rig.steps, ElementsAre(Step::kCreate, Step::kConnect, Step::kStart));
  rig.steps.clear();
  rig.begin(Operation::kRestart, false, 5);
  rig.until(Step::kAbort);
  EXPECT_THAT(rig.steps, ElementsAre(Step::kPrepare, Step::kCreate, Step::kConnect, Step::kUnpack,
                                     Step::kRestore, Step::kGo));
  EXPECT_EQ(rig.asked.epoch, 5U);
  ASSERT_EQ(rig.reports.size(), 2U);
  for (const Report& report : rig.reports) EXPECT_EQ(report.outcome, Outcome::kDone);
}

TEST(Coordinator, NobodyIsToldToDumpBeforeAllHaveLocked) {
  Rig rig;
  rig.begin(Operation::kCheckpoint);
  rig.until(Step::kLock);
  rig.yes(2);
  rig.yes(0);
  rig.yes(0);  // doubled
  EXPECT_EQ(rig.asked.step, Step::kLock);
  rig.yes(1);
  EXPECT_EQ(rig.asked.step, Step::kDump);
}

TEST(Coordinator, ALargeJob) {
  Rig rig(40000);
  rig.begin(Operation::kCheckpoint);
  rig.until(Step::kAbort);
  EXPECT_EQ(rig.only_report().outcome, Outcome::kDone);
}

// --- Before the decision: any failure in any round undoes everything

struct Case {
  Operation operation;
  bool stop;
  Step step;
};

void PrintTo(const Case& c, std::ostream* out) {
  constexpr const char* kNames[] = {"checkpoint", "launch", "restart"};
  *out << kNames[static_cast<int>(c.operation)] << (c.stop ? "_stop_" : "_") << name(c.step);
}

class BeforeTheDecision : public testing::TestWithParam<Case> {
 protected:
  void fails(const std::function<void(Rig&)>& event, size_t left, const std::string& cause) {
    const Case c = GetParam();
    Rig rig;
    rig.begin(c.operation, c.stop);
    rig.until(c.step);
    rig.yes(0);
    event(rig);
    const bool checkpoint = c.operation == Operation::kCheckpoint;
    EXPECT_EQ(rig.asked.step, checkpoint ? Step::kAbort : Step::kDestroy);
    EXPECT_EQ(rig.to.size(), left);  // everybody who is not lost, whatever they answered
    EXPECT_THAT(rig.reports, IsEmpty());
    EXPECT_THAT(rig.discarded, IsEmpty());  // members may still be writing
    rig.all_yes();
    EXPECT_EQ(rig.only_report().outcome, Outcome::kFailed);
    EXPECT_THAT(rig.only_report().cause->line(), HasSubstr(cause));
    EXPECT_EQ(rig.only_report().unconfirmed.size(), 3 - left);
    EXPECT_EQ(rig.discarded.size(), checkpoint ? 1U : 0U);
    EXPECT_FALSE(rig.commit);
    EXPECT_FALSE(rig.coordinator.busy());
  }
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const auto& [operation, stop] :
       {std::pair(Operation::kCheckpoint, false), std::pair(Operation::kCheckpoint, true),
        std::pair(Operation::kLaunch, false), std::pair(Operation::kRestart, false)})
    for (const Round& round : rounds(operation))
      if (round.failure == Failure::kUndo && round.applies(stop))
        cases.push_back({operation, stop, round.step});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(EveryRound, BeforeTheDecision, testing::ValuesIn(all_cases()));

TEST_P(BeforeTheDecision, AMemberSaysNo) {
  fails([](Rig& rig) { rig.answer(1, fail(kBroken)); }, 3,
        "node node1: " + std::string(name(GetParam().step)) + ": staging is full");
}

TEST_P(BeforeTheDecision, AMemberIsLost) {
  fails([](Rig& rig) { rig.take(rig.coordinator.on_lost(1, kGone, rig.now)); }, 2,
        "node node1: the connection is lost");
}

TEST_P(BeforeTheDecision, AMemberIsSilent) {
  fails(
      [](Rig& rig) {
        rig.yes(2);
        rig.wait();
      },
      3, "node node1: no answer to '" + std::string(name(GetParam().step)) + "'");
}

TEST_P(BeforeTheDecision, TheCallerCancels) {
  fails([](Rig& rig) { rig.take(rig.coordinator.cancel(kBroken, rig.now)); }, 3, "staging is full");
}

TEST(Coordinator, TheFirstCauseIsReported) {
  Rig rig;
  rig.begin(Operation::kCheckpoint);
  rig.until(Step::kDump);
  rig.answer(2, fail(kBroken));
  rig.take(rig.coordinator.on_lost(1, kGone, rig.now));
  rig.answer(0, fail(ErrorKind::kSystem, "cannot thaw"));
  rig.all_yes();
  EXPECT_EQ(rig.only_report().cause->kind(), ErrorKind::kNoSpace);
  ASSERT_EQ(rig.only_report().unconfirmed.size(), 2U);
  EXPECT_EQ(rig.only_report().unconfirmed[1].why.line(), "node node0: abort: cannot thaw");
}

TEST(Coordinator, AnAbortThatIsNotAnsweredEndsAtItsBound) {
  Rig rig;
  rig.begin(Operation::kCheckpoint);
  rig.until(Step::kFreeze);
  rig.answer(0, fail(kBroken));
  rig.yes(0);
  rig.yes(2);
  rig.wait();
  EXPECT_EQ(rig.only_report().outcome, Outcome::kFailed);
  ASSERT_EQ(rig.only_report().unconfirmed.size(), 1U);
  EXPECT_EQ(rig.only_report().unconfirmed[0].member, 1U);
}

TEST(Coordinator, ALateNoOfAnEarlierRoundCounts) {
  Rig rig;
  rig.begin(Operation::kCheckpoint);
  rig.until(Step::kDump);
  rig.take(rig.coordinator.on_answer(1, {rig.asked.attempt, Step::kLock, fail(kBroken)}, rig.now));
  EXPECT_EQ(rig.asked.step, Step::kAbort);
}

// --- The decision and after it

TEST(Coordinator, ALossDuringTheCommitDoesNotTouchIt) {
  Rig rig;
  rig.begin(Operation::kCheckpoint);
  rig.until(Step::kCommit);
  rig.take(rig.coordinator.on_lost(1, kGone, rig.now));
  rig.take(rig.coordinator.on_answer(2, {rig.asked.attempt, Step::kPack, fail(kBroken)}, rig.now));
  rig.take(rig.coordinator.cancel(kBroken, rig.now));
  EXPECT_EQ(rig.coordinator.step(), Step::kCommit);
  rig.outcome(CommitOutcome::kPermanent);
  EXPECT_THAT(rig.to, ElementsAre(0, 2));
  rig.all_yes();
  EXPECT_EQ(rig.only_report().outcome, Outcome::kDone);
  ASSERT_EQ(rig.only_report().unconfirmed.size(), 1U);
  EXPECT_EQ(rig.only_report().unconfirmed[0].why.line(), "node node1: the connection is lost");
}

TEST(Coordinator, ACommitThatFailsIsUndone) {
  for (const bool stop : {false, true}) {
    Rig rig;
    rig.begin(Operation::kCheckpoint, stop);
    rig.until(Step::kCommit);
    rig.take(rig.coordinator.on_commit(rig.asked.attempt, CommitOutcome::kNot, kBroken, rig.now));
    EXPECT_EQ(rig.asked.step, Step::kAbort);
    rig.all_yes();
    EXPECT_EQ(rig.only_report().outcome, Outcome::kFailed);
    EXPECT_EQ(rig.only_report().cause->line(), "staging is full");
    EXPECT_THAT(rig.discarded, ElementsAre(1));
  }
}

TEST(Coordinator, WhatMayBePermanentIsKept) {
  for (const bool stop : {false, true}) {
    Rig rig;
    rig.begin(Operation::kCheckpoint, stop);
    rig.until(Step::kCommit);
    rig.outcome(CommitOutcome::kUnknown);
    EXPECT_EQ(rig.asked.step, Step::kFinish);  // after a stop too: nobody is ended
    rig.all_yes();
    EXPECT_EQ(rig.only_report().outcome, Outcome::kUnknown);
    EXPECT_TRUE(rig.only_report().cause);
    EXPECT_THAT(rig.discarded, IsEmpty());
    EXPECT_TRUE(rig.coordinator.begin({}, rig.now));  // the job runs
  }
}

TEST(Coordinator, ACommitThatHangsIsUnknownAndItsLateOutcomeIgnored) {
  Rig rig;
  rig.begin(Operation::kCheckpoint);
  rig.until(Step::kCommit);
  rig.wait();
  EXPECT_EQ(rig.asked.step, Step::kFinish);
  rig.outcome(CommitOutcome::kNot);
  EXPECT_EQ(rig.asked.step, Step::kFinish);
  rig.all_yes();
  EXPECT_EQ(rig.only_report().outcome, Outcome::kUnknown);
  EXPECT_EQ(rig.only_report().cause->kind(), ErrorKind::kTimeout);
}

TEST(Coordinator, AnOutcomeOfAnotherAttemptIsIgnored) {
  Rig rig;
  rig.begin(Operation::kCheckpoint);
  rig.until(Step::kCommit);
  rig.take(
      rig.coordinator.on_commit(rig.asked.attempt + 1, CommitOutcome::kPermanent, {}, rig.now));
  EXPECT_EQ(rig.coordinator.step(), Step::kCommit);
}

TEST(Coordinator, AfterTheCommitNothingUndoesIt) {
  Rig rig;
  rig.begin(Operation::kCheckpoint);
  rig.until(Step::kFinish);
  rig.answer(0, fail(kBroken));
  rig.take(rig.coordinator.on_lost(1, kGone, rig.now));
  rig.wait();  // for member 2
  EXPECT_EQ(rig.only_report().outcome, Outcome::kDone);
  EXPECT_FALSE(rig.only_report().cause);
  EXPECT_EQ(rig.only_report().unconfirmed.size(), 3U);
  EXPECT_THAT(rig.discarded, IsEmpty());
}

// --- Messages

TEST(Coordinator, OnlyWhoHasNotAnsweredIsAskedAgainAndLessAndLessOften) {
  Rig rig;
  rig.begin(Operation::kCheckpoint);
  rig.yes(1);
  std::vector<Duration> pauses;
  for (int i = 0; i < 7; i++) {
    const Time before = rig.now;
    rig.now = *rig.coordinator.next_wakeup();
    rig.take(rig.coordinator.on_time(rig.now - milliseconds(1)));
    EXPECT_EQ(rig.sends, 1 + i);
    rig.take(rig.coordinator.on_time(rig.now));
    EXPECT_EQ(rig.sends, 2 + i);
    EXPECT_THAT(rig.to, ElementsAre(0, 2));
    pauses.push_back(rig.now - before);
  }
  EXPECT_THAT(pauses, ElementsAre(milliseconds(500), milliseconds(1000), milliseconds(2000),
                                  milliseconds(4000), milliseconds(8000), milliseconds(8000),
                                  milliseconds(8000)));
}

TEST(Coordinator, WhatIsStaleOrMakesNoSenseIsIgnored) {
  Rig rig(1);
  rig.begin(Operation::kCheckpoint);
  rig.until(Step::kFreeze);
  const auto answer = [&](MemberId from, uint64_t attempt, Step step, Result<std::string> result) {
    rig.take(rig.coordinator.on_answer(from, {attempt, step, std::move(result)}, rig.now));
    EXPECT_EQ(rig.coordinator.step(), Step::kFreeze);
  };
  const uint64_t attempt = rig.asked.attempt;
  answer(0, attempt - 1, Step::kFreeze, "");
  answer(0, attempt - 1, Step::kFreeze, fail(kBroken));
  answer(0, attempt + 1, Step::kFreeze, "");
  answer(0, attempt, Step::kPrepare, "");
  answer(0, attempt, Step::kDump, "");
  answer(0, attempt, static_cast<Step>(200), "");
  answer(1, attempt, Step::kFreeze, "");
  answer(0xffffffff, attempt, Step::kFreeze, fail(kBroken));
  rig.take(rig.coordinator.on_lost(7, kGone, rig.now));
  EXPECT_EQ(rig.coordinator.step(), Step::kFreeze);
}

TEST(Coordinator, TheLostAreNotListenedTo) {
  Rig rig;
  rig.begin(Operation::kCheckpoint);
  rig.until(Step::kFinish);
  rig.take(rig.coordinator.on_lost(1, kGone, rig.now));
  rig.yes(1);
  rig.yes(0);
  EXPECT_THAT(rig.reports, IsEmpty());
  rig.yes(2);
  EXPECT_EQ(rig.only_report().unconfirmed.size(), 1U);
}

TEST(Coordinator, AnswersWithoutAnOperationAreIgnored) {
  Rig rig;
  rig.yes(0);
  rig.outcome(CommitOutcome::kPermanent);
  rig.take(rig.coordinator.on_time(rig.now));
  rig.take(rig.coordinator.cancel(kBroken, rig.now));
  EXPECT_THAT(rig.steps, IsEmpty());
  EXPECT_THAT(rig.reports, IsEmpty());
}

// --- Beginning

TEST(Coordinator, AnEpochIsNeverUsedTwice) {
  Rig rig;
  rig.begin(Operation::kCheckpoint, false, 4);
  rig.answer(0, fail(kBroken));
  rig.all_yes();
  EXPECT_EQ(rig.only_report().epoch, 4U);
  rig.begin(Operation::kCheckpoint, false, 4);  // it was removed, so the store offers it again
  EXPECT_EQ(rig.asked.epoch, 5U);
  EXPECT_EQ(rig.coordinator.epoch(), 5U);
  EXPECT_EQ(rig.asked.attempt, 2U);
}

TEST(Coordinator, OneOperationAtATime) {
  Rig rig;
  rig.begin(Operation::kCheckpoint);
  auto second = rig.coordinator.begin({}, rig.now);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind(), ErrorKind::kBusy);
  EXPECT_EQ(rig.coordinator.step(), Step::kPrepare);
}

TEST(Coordinator, NothingIsBegunWithALostMember) {
  Rig rig;
  rig.take(rig.coordinator.on_lost(2, kGone, rig.now));
  auto actions = rig.coordinator.begin({}, rig.now);
  ASSERT_FALSE(actions);
  EXPECT_EQ(actions.error().line(), "node node2: the connection is lost");
  EXPECT_FALSE(rig.coordinator.busy());
}

TEST(Coordinator, AJobHasMembersButNotAnyNumber) {
  EXPECT_FALSE(Coordinator({}).begin({}, Time(0)));
  EXPECT_FALSE(Coordinator(std::vector<std::string>(kMostMembers + 1)).begin({}, Time(0)));
}

}  // namespace
}  // namespace stillpoint::coordinator
