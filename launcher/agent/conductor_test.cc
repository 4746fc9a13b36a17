#include "launcher/agent/conductor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/agent/testing/fixture.h"

namespace stillpoint::agent {
namespace {

using namespace testing;
using coordinator::Command;
using coordinator::CommitOutcome;
using coordinator::Operation;
using coordinator::Outcome;
using coordinator::Step;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ConductorTest : public ::testing::Test {
 protected:
  ConductorTest() {
    limits_.retry = 20ms;
    for (uint32_t i = 0; i < 3; i++) {
      auto& member = *members_.emplace_back(std::make_unique<FakeMember>(io_));
      member.events.answered = [this, i](const auto& a) { conductor().answered(i, a); };
      member.events.lost = [this, i](const Error& why) { conductor().lost(i, why); };
      member.answer = [this, i](const Command& c) {
        log_.push_back(std::string(name(c.step)) + " " + std::to_string(i));
        return said(i, c);
      };
      ports_.push_back(member.port());
    }
    handlers_.commit = [this](uint64_t epoch) -> Task<CommitSaid> {
      log_.push_back("commit " + std::to_string(epoch));
      co_return CommitSaid{commit_, {}};
    };
    handlers_.discard = [this](uint64_t epoch) -> Task<> {
      co_await pause(30ms);
      log_.push_back("discard " + std::to_string(epoch));
    };
  }
  Conductor& conductor() {
    if (!conductor_) {
      conductor_.emplace(io_.get_executor(), std::vector<std::string>{"a", "b", "c"}, limits_);
      conductor_->set_members(ports_);
    }
    return *conductor_;
  }
  Result<coordinator::Report> perform(Operation operation, bool stop = false) {
    conductor().set_handlers(handlers_);
    return run(io_, conductor().perform({operation, 5, stop}));
  }
  // What a member does at a step instead of saying yes.
  using Say = std::function<std::optional<Result<std::string>>()>;
  void at(uint32_t member, Step step, Say say) { says_[{member, step}] = std::move(say); }
  std::optional<Result<std::string>> said(uint32_t member, const Command& command) {
    const auto found = says_.find({member, command.step});
    if (found != says_.end()) return found->second();
    return std::string(name(command.step)) + " by " + std::to_string(member);
  }

  asio::io_context io_;
  coordinator::Limits limits_;
  std::vector<std::unique_ptr<FakeMember>> members_;
  std::vector<std::unique_ptr<MemberPort>> ports_;
  Conductor::Handlers handlers_;
  CommitOutcome commit_ = CommitOutcome::kPermanent;
  std::map<std::pair<uint32_t, Step>, Say> says_;
  std::vector<std::string> log_;
  std::optional<Conductor> conductor_;
};

TEST_F(ConductorTest, AllAreAskedRoundByRound) {
  const auto report = perform(Operation::kLaunch);
  ASSERT_TRUE(report) << report.error().line();
  EXPECT_EQ(report->outcome, Outcome::kDone);
  EXPECT_THAT(log_, ElementsAre("create 0", "create 1", "create 2", "connect 0", "connect 1",
                                "connect 2", "start 0", "start 1", "start 2"));
  const auto answers = conductor().answers(Step::kConnect);
  EXPECT_THAT(std::vector<std::string>(answers.begin(), answers.end()),
              ElementsAre("connect by 0", "connect by 1", "connect by 2"));
}

TEST_F(ConductorTest, TheNextRoundWaitsForTheSlowest) {
  at(1, Step::kCreate, [&]() -> std::optional<Result<std::string>> {
    if (members_[1]->commands.size() < 3) return {};  // asked again and again
    return std::string("late");
  });
  ASSERT_EQ(perform(Operation::kLaunch)->outcome, Outcome::kDone);
  EXPECT_THAT(log_,
              ElementsAre("create 0", "create 1", "create 2", "create 1", "create 1", "connect 0",
                          "connect 1", "connect 2", "start 0", "start 1", "start 2"));
}

TEST_F(ConductorTest, BeforeIsAwaitedBeforeACommandGoesOut) {
  handlers_.before = [&](const Command& command) -> Task<> {
    log_.push_back("before " + std::string(name(command.step)));
    co_await pause(5ms);
    log_.push_back("ready");
  };
  ASSERT_EQ(perform(Operation::kLaunch)->outcome, Outcome::kDone);
  EXPECT_THAT(log_, ElementsAre("before create", "ready", "create 0", "create 1", "create 2",
                                "before connect", "ready", "connect 0", "connect 1", "connect 2",
                                "before start", "ready", "start 0", "start 1", "start 2"));
}

TEST_F(ConductorTest, EachGetsDetailsOfItsOwn) {
  handlers_.details = [](coordinator::MemberId member, const Command& command) {
    return "for " + std::to_string(member) + " at " + std::string(name(command.step));
  };
  ASSERT_EQ(perform(Operation::kLaunch)->outcome, Outcome::kDone);
  EXPECT_EQ(members_[0]->details[Step::kCreate], "for 0 at create");
  EXPECT_EQ(members_[2]->details[Step::kStart], "for 2 at start");
}

TEST_F(ConductorTest, ALossUndoes) {
  at(1, Step::kConnect, [&]() -> std::optional<Result<std::string>> {
    asio::post(io_, [&] { members_[1]->lose("the cable is cut"); });
    return {};
  });
  const auto report = perform(Operation::kLaunch);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->outcome, Outcome::kFailed);
  EXPECT_EQ(report->cause->line(), "node b: the cable is cut");
  EXPECT_THAT(members_[0]->commands, ElementsAre("create", "connect", "destroy"));
  EXPECT_THAT(members_[1]->commands, ElementsAre("create", "connect"));
  EXPECT_THAT(members_[2]->commands, ElementsAre("create", "connect", "destroy"));
  ASSERT_EQ(report->unconfirmed.size(), 1u);
  EXPECT_EQ(report->unconfirmed[0].member, 1u);
  const auto next = perform(Operation::kLaunch);
  ASSERT_FALSE(next);
  EXPECT_THAT(next.error().line(), HasSubstr("the cable is cut"));
}

TEST_F(ConductorTest, ANoUndoes) {
  at(2, Step::kStart, [] { return Result<std::string>(fail(ErrorKind::kNoSuchProgram, "none")); });
  const auto report = perform(Operation::kLaunch);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->outcome, Outcome::kFailed);
  EXPECT_EQ(report->cause->kind(), ErrorKind::kNoSuchProgram);
  for (const auto& member : members_) EXPECT_EQ(member->commands.back(), "destroy");
}

TEST_F(ConductorTest, SilenceEndsAtTheBound) {
  limits_.connect = 100ms;
  at(0, Step::kConnect, [] { return std::optional<Result<std::string>>(); });
  const auto report = perform(Operation::kLaunch);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->outcome, Outcome::kFailed);
  EXPECT_EQ(report->cause->kind(), ErrorKind::kTimeout);
  EXPECT_THAT(report->cause->line(), HasSubstr("node a: no answer to 'connect'"));
}

TEST_F(ConductorTest, CancelUndoes) {
  at(1, Step::kCreate, [&]() -> std::optional<Result<std::string>> {
    asio::post(io_, [&] { conductor().cancel(Error(ErrorKind::kUsage, "not any more")); });
    return {};
  });
  const auto report = perform(Operation::kLaunch);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->outcome, Outcome::kFailed);
  EXPECT_EQ(report->cause->line(), "not any more");
  for (const auto& member : members_)
    EXPECT_THAT(member->commands, ElementsAre("create", "destroy"));
}

TEST_F(ConductorTest, ACheckpointIsCommittedOnceAllHavePacked) {
  const auto report = perform(Operation::kCheckpoint);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->outcome, Outcome::kDone);
  EXPECT_EQ(report->epoch, 5u);
  ASSERT_EQ(log_.size(), 7 * 3 + 1 + 3u);
  EXPECT_EQ(log_[20], "pack 2");
  EXPECT_EQ(log_[21], "commit 5");
  EXPECT_EQ(log_[22], "finish 0");
}

TEST_F(ConductorTest, ACommitThatFailsUndoes) {
  commit_ = CommitOutcome::kNot;
  const auto report = perform(Operation::kCheckpoint);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->outcome, Outcome::kFailed);
  EXPECT_EQ(members_[0]->commands.back(), "abort");
  EXPECT_EQ(log_.back(), "discard 5");
}

TEST_F(ConductorTest, DiscardIsAwaited) {
  at(0, Step::kLock, [] { return Result<std::string>(fail(ErrorKind::kSystem, "no")); });
  const auto report = perform(Operation::kCheckpoint);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->outcome, Outcome::kFailed);
  EXPECT_EQ(log_.back(), "discard 5");  // done when perform() returns
  says_.clear();
  EXPECT_EQ(perform(Operation::kCheckpoint)->epoch, 6u);
}

TEST_F(ConductorTest, NoneBeginsWhileAnotherDiscards) {
  std::optional<ErrorKind> second;
  handlers_.discard = [&](uint64_t) -> Task<> {
    co_await pause(10ms);
    auto r = co_await conductor().perform({Operation::kLaunch, 0, false});
    if (!r) second = r.error().kind();
  };
  at(0, Step::kLock, [] { return Result<std::string>(fail(ErrorKind::kSystem, "no")); });
  EXPECT_EQ(perform(Operation::kCheckpoint)->outcome, Outcome::kFailed);
  EXPECT_EQ(second, ErrorKind::kBusy);
}

TEST_F(ConductorTest, OneAtATime) {
  std::optional<ErrorKind> second;
  at(1, Step::kCreate, [&]() -> std::optional<Result<std::string>> {
    if (members_[1]->commands.size() > 1) return std::string("at last");
    auto try_another = [&]() -> Task<> {
      auto r = co_await conductor().perform({Operation::kLaunch, 0, false});
      if (!r) second = r.error().kind();
    };
    asio::co_spawn(io_, try_another(), [](const std::exception_ptr&) {});
    return {};
  });
  ASSERT_EQ(perform(Operation::kLaunch)->outcome, Outcome::kDone);
  EXPECT_EQ(second, ErrorKind::kBusy);
}

}  // namespace
}  // namespace stillpoint::agent
