// The failure matrix, from a member's side: what it does when its own work fails, and when the
// coordinator falls silent or is lost, in every phase.
#include "launcher/coordinator/member.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace stillpoint::coordinator {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

// A member, and what it did and said last.
class Rig {
 public:
  Rig() : member(limits()) {}

  static Limits limits() {
    Limits limits;
    limits.hold = seconds(100);
    limits.dump = seconds(600);
    return limits;
  }
  void take(const MemberActions& actions) {
    for (const MemberAction& action : actions) {
      if (const auto* work = std::get_if<Do>(&action)) {
        works.push_back(work->work.step);
        working = work->work;
      } else if (const auto* off = std::get_if<CallOff>(&action)) {
        called_off.push_back(off->work.step);
      } else {
        const Answer& answer = std::get<Reply>(action).answer;
        answers.push_back(answer);
      }
    }
  }
  void forget() {
    works.clear();
    answers.clear();
    called_off.clear();
  }
  void command(Step step) {
    Command c = current;
    c.step = step;
    take(member.on_command(c, now));
  }
  void done(Result<std::string> result = std::string("done")) {
    ASSERT_TRUE(working);
    const Work work = *std::exchange(working, std::nullopt);
    take(member.done(work, std::move(result), now));
  }
  // All rounds up to and with this one.
  void until(Step last) {
    for (const Round& round : rounds(current.operation)) {
      if (round.applies(current.stop) && round.failure != Failure::kDecides) {
        command(round.step);
        done();
      }
      if (round.step == last) break;
    }
    forget();
  }
  // Until the member acts by itself.
  void wait() {
    const Time begin = now;
    for (int wakeups = 0; !working && member.next_wakeup(); wakeups++) {
      ASSERT_LT(wakeups, 10) << "it does nothing";
      now = std::max(now, *member.next_wakeup());
      take(member.on_time(now - milliseconds(1)));
      ASSERT_FALSE(working) << "before its time";
      take(member.on_time(now));
    }
    waited = now - begin;
  }
  bool said_yes(Step step) const {
    return answers.size() == 1 && answers[0].step == step && answers[0].result &&
           answers[0].attempt == current.attempt;
  }
  bool said_no() const {
    return answers.size() == 1 && !answers[0].result && answers[0].attempt == current.attempt;
  }

  Member member;
  Time now{5000};
  Duration waited{0};
  Command current{.attempt = 3, .epoch = 9};
  std::optional<Work> working;
  std::vector<Step> works, called_off;
  std::vector<Answer> answers;
};

Rig checkpoint(Step until, bool stop = false) {
  Rig rig;
  rig.current.stop = stop;
  rig.until(until);
  return rig;
}

Rig restart(Step until) {
  Rig rig;
  rig.current.operation = Operation::kRestart;
  rig.until(until);
  return rig;
}

// --- Commands

TEST(Member, DoesWhatItIsToldAndAnswersWhenItIsDone) {
  for (const Operation operation :
       {Operation::kCheckpoint, Operation::kLaunch, Operation::kRestart}) {
    Rig rig;
    rig.current.operation = operation;
    for (const Round& round : rounds(operation)) {
      if (!round.applies(false) || round.failure == Failure::kDecides) continue;
      rig.forget();
      rig.command(round.step);
      EXPECT_THAT(rig.works, ElementsAre(round.step));
      EXPECT_EQ(rig.working->epoch, 9U);
      EXPECT_THAT(rig.answers, IsEmpty());
      rig.done("the text");
      ASSERT_TRUE(rig.said_yes(round.step));
      EXPECT_EQ(*rig.answers[0].result, "the text");
    }
    EXPECT_TRUE(rig.member.idle());
    EXPECT_FALSE(rig.member.next_wakeup());
  }
}

TEST(Member, AskedAgainItAnswersFromMemory) {
  Rig rig = checkpoint(Step::kDump);
  rig.command(Step::kDump);
  EXPECT_TRUE(rig.said_yes(Step::kDump));
  EXPECT_THAT(rig.works, IsEmpty());
  rig.forget();
  rig.command(Step::kLock);  // long past
  EXPECT_THAT(rig.answers, IsEmpty());
  rig.command(Step::kGo);
  rig.command(Step::kGo);  // while it works
  EXPECT_THAT(rig.works, ElementsAre(Step::kGo));
  rig.done();
  EXPECT_TRUE(rig.said_yes(Step::kGo));
}

TEST(Member, WhatMakesNoSenseIsIgnoredOrRefused) {
  Rig rig = checkpoint(Step::kPrepare);
  const Command good = rig.current;
  for (const Command& bad :
       {Command{}, Command{.attempt = 4, .step = static_cast<Step>(99)},
        Command{.attempt = 4, .operation = static_cast<Operation>(9)},
        Command{.attempt = 4, .step = Step::kCommit}, Command{.attempt = 4, .step = Step::kDestroy},
        Command{.attempt = 2, .step = Step::kAbort},
        Command{.attempt = 3, .operation = Operation::kLaunch, .step = Step::kCreate}})
    rig.take(rig.member.on_command(bad, rig.now));
  EXPECT_THAT(rig.works, IsEmpty());
  EXPECT_THAT(rig.answers, IsEmpty());
  rig.current = good;
  rig.command(Step::kDump);  // neither frozen nor locked
  EXPECT_TRUE(rig.said_no());
  EXPECT_THAT(rig.works, ElementsAre(Step::kAbort));
}

TEST(Member, NobodyIsEndedWithoutAStopAndNothingPackedRemovedForNonsense) {
  Rig rig = checkpoint(Step::kPack);
  rig.command(Step::kEnd);
  EXPECT_TRUE(rig.said_no());
  EXPECT_THAT(rig.works, IsEmpty());
}

TEST(Member, DoneOfOtherWorkIsIgnored) {
  Rig rig = checkpoint(Step::kPrepare);
  rig.command(Step::kFreeze);
  Work other = *rig.working;
  other.attempt = 2;
  rig.take(rig.member.done(other, std::string(), rig.now));
  EXPECT_THAT(rig.answers, IsEmpty());
  rig.done();
  EXPECT_TRUE(rig.said_yes(Step::kFreeze));
}

// --- Its own work fails

TEST(Member, WorkThatFailsIsANoForTheWholeAttemptAndUndoneAtOnce) {
  for (const Step step :
       {Step::kPrepare, Step::kFreeze, Step::kLock, Step::kDump, Step::kGo, Step::kPack}) {
    Rig rig;
    for (const Round& round : rounds(Operation::kCheckpoint)) {
      rig.command(round.step);
      if (round.step == step) break;
      rig.done();
    }
    rig.forget();
    rig.done(fail(ErrorKind::kNoSpace, "full"));
    EXPECT_TRUE(rig.said_no()) << name(step);
    EXPECT_THAT(rig.works, ElementsAre(Step::kAbort));
    rig.forget();
    rig.command(Step::kAbort);  // told meanwhile
    rig.done();
    EXPECT_TRUE(rig.said_yes(Step::kAbort));
    EXPECT_THAT(rig.works, IsEmpty());
    rig.forget();
    rig.command(step);  // late
    EXPECT_TRUE(rig.said_no());
    EXPECT_TRUE(rig.member.idle());
  }
}

// --- Abort

TEST(Member, AnAbortCallsOffWhatIsUnderWayAndIsAnsweredWhenAllIsUndone) {
  Rig rig = checkpoint(Step::kLock);
  rig.command(Step::kDump);
  rig.command(Step::kAbort);
  rig.command(Step::kDump);  // overtaken
  EXPECT_THAT(rig.called_off, ElementsAre(Step::kDump));
  EXPECT_THAT(rig.answers, IsEmpty());
  rig.forget();
  rig.done();
  EXPECT_THAT(rig.works, ElementsAre(Step::kAbort));
  rig.forget();
  rig.done();
  EXPECT_TRUE(rig.said_yes(Step::kAbort));
  rig.command(Step::kAbort);
  EXPECT_EQ(rig.answers.size(), 2U);
  rig.command(Step::kGo);
  EXPECT_FALSE(rig.answers.back().result);
  EXPECT_THAT(rig.works, IsEmpty());
}

TEST(Member, AnAbortThatOvertakesThePrepare) {
  Rig rig;
  rig.command(Step::kAbort);
  EXPECT_TRUE(rig.said_yes(Step::kAbort));
  rig.forget();
  rig.command(Step::kPrepare);
  EXPECT_TRUE(rig.said_no());
  EXPECT_THAT(rig.works, IsEmpty());
  EXPECT_TRUE(rig.member.idle());
}

TEST(Member, AnAbortThatCannotThawSaysSo) {
  Rig rig = checkpoint(Step::kDump);
  rig.command(Step::kAbort);
  rig.done(fail(ErrorKind::kSystem, "cannot thaw"));
  EXPECT_TRUE(rig.said_no());
  rig.command(Step::kAbort);
  EXPECT_FALSE(rig.answers.back().result);
}

// --- The coordinator falls silent

TEST(Silence, BeforeTheFreezeStagingIsRemoved) {
  Rig rig = checkpoint(Step::kPrepare);
  rig.wait();
  EXPECT_EQ(rig.waited, Rig::limits().prepare + Rig::limits().slack);
  EXPECT_THAT(rig.works, ElementsAre(Step::kAbort));
  EXPECT_TRUE(rig.said_no());
}

TEST(Silence, FrozenItThawsAtTheHoldLimitAndNeverDumps) {
  for (const Step step : {Step::kDrain, Step::kLock}) {
    Rig rig = checkpoint(step);
    rig.wait();
    EXPECT_LE(rig.waited, Rig::limits().hold);
    EXPECT_THAT(rig.works, ElementsAre(Step::kAbort));
    rig.done();
    for (const Step later : {step, Step::kLock, Step::kDump}) {  // also what it had said yes to
      rig.forget();
      rig.command(later);
      EXPECT_TRUE(rig.said_no());
      EXPECT_THAT(rig.works, IsEmpty());
    }
  }
}

TEST(Silence, DumpedItThawsButItsDumpStaysGood) {
  Rig rig = checkpoint(Step::kDump);
  rig.wait();
  EXPECT_EQ(rig.waited, Rig::limits().hold);
  EXPECT_THAT(rig.works, ElementsAre(Step::kGo));
  EXPECT_THAT(rig.answers, IsEmpty());
  rig.command(Step::kGo);  // meets its own
  rig.done();
  EXPECT_TRUE(rig.said_yes(Step::kGo));
  EXPECT_THAT(rig.works, ElementsAre(Step::kGo));
  rig.forget();
  rig.command(Step::kPack);
  rig.done();
  EXPECT_TRUE(rig.said_yes(Step::kPack));
}

TEST(Silence, ThawedAndNeverToldToPackItGivesTheDumpUp) {
  Rig rig = checkpoint(Step::kDump);
  rig.wait();
  rig.done();
  rig.wait();
  EXPECT_THAT(rig.works, ElementsAre(Step::kGo, Step::kAbort));
  EXPECT_TRUE(rig.said_no());
}

TEST(Silence, PackedItKeepsTheStatefile) {
  Rig rig = checkpoint(Step::kPack);
  rig.wait();
  EXPECT_THAT(rig.works, ElementsAre(Step::kFinish));
  rig.done();
  EXPECT_TRUE(rig.member.idle());
  EXPECT_THAT(rig.answers, IsEmpty());
  rig.command(Step::kFinish);
  EXPECT_TRUE(rig.said_yes(Step::kFinish));
  rig.forget();
  rig.command(Step::kAbort);  // now it is known
  EXPECT_THAT(rig.works, ElementsAre(Step::kAbort));
}

TEST(Silence, InAStopTheHoldLimitEndsWithTheDump) {
  Rig rig = checkpoint(Step::kDump, true);
  rig.wait();
  EXPECT_EQ(rig.waited, Rig::limits().dump + Rig::limits().slack);
  EXPECT_THAT(rig.works, ElementsAre(Step::kAbort));
  Rig locked = checkpoint(Step::kLock, true);
  locked.wait();
  EXPECT_LE(locked.waited, Rig::limits().hold);
}

TEST(Silence, PackedInAStopItEndsRatherThanRunOn) {
  Rig rig = checkpoint(Step::kPack, true);
  rig.wait();
  EXPECT_THAT(rig.works, ElementsAre(Step::kEnd));
  rig.done();
  rig.command(Step::kEnd);
  EXPECT_TRUE(rig.said_yes(Step::kEnd));
}

TEST(Silence, RestoredItDestroysAndNeverResumes) {
  Rig rig = restart(Step::kRestore);
  rig.wait();
  EXPECT_THAT(rig.works, ElementsAre(Step::kDestroy));
  EXPECT_TRUE(rig.said_no());
  rig.done();
  rig.forget();
  rig.command(Step::kGo);
  EXPECT_TRUE(rig.said_no());
  EXPECT_THAT(rig.works, IsEmpty());
}

TEST(Silence, RunningItWaitsForNothing) {
  Rig rig = restart(Step::kGo);
  EXPECT_FALSE(rig.member.next_wakeup());
  rig.take(rig.member.on_coordinator_lost(rig.now));
  EXPECT_THAT(rig.works, IsEmpty());
}

// --- The coordinator is lost: the same, at once

TEST(Lost, WhileItWaits) {
  const auto lost = [](Rig rig) {
    rig.take(rig.member.on_coordinator_lost(rig.now));
    return rig.works;
  };
  EXPECT_THAT(lost(checkpoint(Step::kPrepare)), ElementsAre(Step::kAbort));
  EXPECT_THAT(lost(checkpoint(Step::kLock)), ElementsAre(Step::kAbort));
  EXPECT_THAT(lost(checkpoint(Step::kDump)), ElementsAre(Step::kAbort));
  EXPECT_THAT(lost(checkpoint(Step::kPack)), ElementsAre(Step::kFinish));
  EXPECT_THAT(lost(checkpoint(Step::kPack, true)), ElementsAre(Step::kEnd));
  EXPECT_THAT(lost(restart(Step::kRestore)), ElementsAre(Step::kDestroy));
  EXPECT_THAT(lost(restart(Step::kGo)), IsEmpty());
}

TEST(Lost, WhileItWorks) {
  Rig rig = checkpoint(Step::kLock);
  rig.command(Step::kDump);
  rig.take(rig.member.on_coordinator_lost(rig.now));
  EXPECT_THAT(rig.called_off, ElementsAre(Step::kDump));
  rig.forget();
  rig.done();
  EXPECT_LE(*rig.member.next_wakeup(), rig.now);
  rig.take(rig.member.on_time(rig.now));
  EXPECT_THAT(rig.works, ElementsAre(Step::kAbort));
}

// --- The next attempt

TEST(NextAttempt, EndsTheOneBeforeFirst) {
  struct Case {
    Step reached, winds_up;
  };
  for (const auto& [reached, winds_up] :
       {Case{Step::kLock, Step::kAbort}, Case{Step::kPack, Step::kFinish}}) {
    Rig rig = checkpoint(reached);
    rig.current.attempt = 4;
    rig.current.epoch = 10;
    rig.command(Step::kPrepare);
    EXPECT_THAT(rig.works, ElementsAre(winds_up));
    EXPECT_EQ(rig.working->epoch, 9U);
    rig.done();
    EXPECT_THAT(rig.works, ElementsAre(winds_up, Step::kPrepare));
    EXPECT_EQ(rig.working->epoch, 10U);
    rig.done();
    EXPECT_TRUE(rig.said_yes(Step::kPrepare));
  }
}

TEST(NextAttempt, DoesNotHurryWhatLetsTheJobGoOn) {
  Rig rig = checkpoint(Step::kPack);
  rig.command(Step::kFinish);
  rig.current.attempt = 4;
  rig.command(Step::kPrepare);
  EXPECT_THAT(rig.called_off, IsEmpty());
  rig.done();
  EXPECT_THAT(rig.works, ElementsAre(Step::kFinish, Step::kPrepare));
}

TEST(NextAttempt, DestroysWhatAnEarlierLaunchLeft) {
  Rig rig;
  rig.current.operation = Operation::kLaunch;
  rig.until(Step::kStart);
  rig.current.attempt = 4;
  rig.command(Step::kCreate);
  EXPECT_THAT(rig.works, ElementsAre(Step::kDestroy));
  rig.done();
  EXPECT_THAT(rig.works, ElementsAre(Step::kDestroy, Step::kCreate));
}

TEST(NextAttempt, CallsOffAndOldCommandsAreIgnored) {
  Rig rig = checkpoint(Step::kGo);
  rig.command(Step::kPack);
  rig.current.attempt = 4;
  rig.command(Step::kPrepare);
  EXPECT_THAT(rig.called_off, ElementsAre(Step::kPack));
  rig.done(fail(ErrorKind::kSystem, "called off"));
  rig.done();  // the abort
  rig.done();  // prepare
  rig.forget();
  rig.current.attempt = 3;
  rig.command(Step::kAbort);
  rig.command(Step::kPack);
  EXPECT_THAT(rig.works, IsEmpty());
  EXPECT_THAT(rig.answers, IsEmpty());
}

}  // namespace
}  // namespace stillpoint::coordinator
