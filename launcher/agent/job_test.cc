#include "launcher/agent/job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "common/log.h"
#include "common/wire/job.pb.h"
#include "launcher/agent/testing/fixture.h"

namespace stillpoint::agent {
namespace {

using namespace testing;
using coordinator::Step;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

statefile::Manifest about() {
  statefile::Manifest m;
  m.job = "ring";
  m.ranks = 4;
  return m;
}

// Rank 0 is not on the first node.
std::vector<Seat> seats() {
  return {{.node = "a", .host = "host-a", .ranks = {2}},
          {.node = "b", .host = "host-b", .ranks = {0, 3}},
          {.node = "c", .host = "host-c", .ranks = {1}}};
}

// "kill 74", "signal 2", ...
std::string text(const link::ToSupervisor& m) {
  if (m.has_kill()) return "kill " + std::to_string(m.kill().status());
  if (m.has_signal()) return "signal " + std::to_string(m.signal().number());
  if (m.has_stdin()) return "stdin " + m.stdin().data();
  if (m.has_output_taken()) return "taken " + std::to_string(m.output_taken().next());
  return "?";
}

class JobTest : public ::testing::Test {
 protected:
  JobTest() {
    log::set_listener([this](log::Level, const std::string& line) { said_.push_back(line); });
    for (int i = 0; i < 3; i++) members_.push_back(std::make_unique<FakeMember>(io_));
    job_.emplace(io_.get_executor(), about(), Identity{}, CheckpointPolicy{}, front_, seats());
  }
  ~JobTest() override { log::set_listener({}); }

  Result<> gather() {
    return run(
        io_, job_->gather([this](uint32_t i,
                                 MemberEvents events) -> Task<Result<std::unique_ptr<MemberPort>>> {
          if (missing_ == i) co_return fail(ErrorKind::kPermission, "not here");
          members_[i]->events = std::move(events);
          co_return members_[i]->port();
        }));
  }
  void launch() {
    ASSERT_TRUE(gather());
    const auto r = run(io_, job_->launch({}));
    ASSERT_TRUE(r) << r.error().line();
    front_.calls.clear();
  }
  int finish() {
    run(io_, job_->wait_end());
    return run(io_, job_->finish());
  }
  std::vector<std::string> told(size_t member) const {
    std::vector<std::string> all;
    for (const auto& message : members_[member]->told) all.push_back(text(message));
    return all;
  }

  asio::io_context io_;
  FakeFrontEnd front_;
  std::vector<std::string> said_;
  std::vector<std::unique_ptr<FakeMember>> members_;
  std::optional<uint32_t> missing_;
  std::optional<Job> job_;
};

TEST_F(JobTest, AMemberThatCannotBeMadeIsNamedAndTheOthersLeave) {
  missing_ = 1;
  const auto r = gather();
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().kind(), ErrorKind::kPermission);
  EXPECT_EQ(r.error().line(), "node b: not here");
  run(io_, job_->disband());
  EXPECT_EQ(members_[0]->left, 1);
  EXPECT_EQ(members_[1]->left, 0);
  EXPECT_EQ(members_[2]->left, 1);
}

TEST_F(JobTest, LaunchTellsEachWhereTheOthersAre) {
  ASSERT_TRUE(gather());
  for (uint32_t i = 0; i < 3; i++)
    members_[i]->answer = [i](const auto& command) -> Result<std::string> {
      job::Created created;
      created.set_node("10.0.0." + std::to_string(i));
      created.set_port(i == 2 ? 0 : 1000 + i);  // the third has no tunnel
      return command.step == Step::kCreate ? created.SerializeAsString() : std::string();
    };
  link::Start start;
  start.set_job("ring");
  ASSERT_TRUE(run(io_, job_->launch(start)));
  for (uint32_t i = 0; i < 3; i++) {
    job::FarEnds ends;
    ASSERT_TRUE(ends.ParseFromString(members_[i]->details[Step::kConnect]));
    ASSERT_EQ(ends.far_end_size(), 2);
    EXPECT_EQ(ends.far_end(1).index(), 1u);
    EXPECT_EQ(ends.far_end(1).node(), "10.0.0.1");
    EXPECT_EQ(ends.far_end(1).port(), 1001u);
    link::Start told;
    ASSERT_TRUE(told.ParseFromString(members_[i]->details[Step::kStart]));
    EXPECT_EQ(told.job(), "ring");
    EXPECT_EQ(told.node(), i);
    ASSERT_EQ(told.nodes_size(), 3);
    EXPECT_EQ(told.nodes(1).hostname(), "host-b");
    EXPECT_EQ(told.nodes(1).address(), "100.64.0.2");
    EXPECT_THAT(told.nodes(1).ranks(), ElementsAre(0u, 3u));
  }
  EXPECT_THAT(front_.calls, ElementsAre("serve", "input 0 open"));
}

TEST_F(JobTest, TheFirstFailureIsTheStatus) {
  launch();
  members_[2]->end(0);
  members_[0]->end(7, "rank 2 has failed");
  EXPECT_FALSE(job_->ended());
  members_[0]->end(9, "said twice");
  members_[1]->end(143, "rank 0 was killed");
  EXPECT_TRUE(job_->ended());
  EXPECT_TRUE(job_->failed());
  EXPECT_EQ(finish(), 7);
  EXPECT_THAT(said_, Contains("error: job ring: rank 2 has failed"));
  for (const auto& member : members_) EXPECT_EQ(member->left, 1);
}

TEST_F(JobTest, EndsWellWhenAllHave) {
  launch();
  for (const auto& member : members_) {
    EXPECT_FALSE(job_->ended());
    member->end(0);
  }
  EXPECT_FALSE(job_->failed());
  members_[1]->leaves = fail(ErrorKind::kTimeout, "it stays");
  EXPECT_EQ(finish(), 0);
  EXPECT_THAT(said_, ElementsAre("warning: node b: it stays"));
}

TEST_F(JobTest, ALostMemberEndsTheJobOnAll) {
  launch();
  members_[1]->lose("nothing was heard");
  EXPECT_THAT(told(0), ElementsAre("kill 74"));
  EXPECT_THAT(told(2), ElementsAre("kill 74"));
  EXPECT_EQ(members_[0]->told[0].kill().reason(), "node b was lost: nothing was heard");
  EXPECT_FALSE(job_->ended());  // the others have to say so
  members_[0]->end(143);
  members_[2]->end(143);
  EXPECT_EQ(finish(), 74);
  EXPECT_THAT(said_, Contains("error: job ring: node b was lost: nothing was heard"));
}

TEST_F(JobTest, OneThatHasEndedMayBeLost) {
  launch();
  members_[1]->end(0);
  members_[1]->lose("its node was switched off");
  EXPECT_THAT(told(0), IsEmpty());
  members_[0]->end(0);
  members_[2]->end(0);
  EXPECT_EQ(finish(), 0);
}

TEST_F(JobTest, InputIsForRankZeroAlone) {
  launch();
  link::Stdin in;
  in.set_data("words");
  front_.events.input(in);
  EXPECT_THAT(told(0), IsEmpty());
  EXPECT_THAT(told(1), ElementsAre("stdin words"));
  EXPECT_THAT(told(2), IsEmpty());

  link::FromSupervisor hello, taken;
  hello.mutable_hello()->set_started(true);
  hello.mutable_hello()->set_stdin_taken(12);
  taken.mutable_stdin_taken()->set_offset(17);
  for (const auto& member : members_) {
    member->events.news(hello);
    member->events.news(taken);
  }
  EXPECT_THAT(front_.calls, ElementsAre("input 12 open", "taken 17"));
}

TEST_F(JobTest, OutputIsAcknowledgedWhereItCameFrom) {
  launch();
  link::FromSupervisor news;
  news.mutable_output()->set_data("hi");
  members_[2]->events.news(news);
  EXPECT_THAT(front_.calls, ElementsAre("output 2 hi"));
  front_.events.written(2, 8);
  front_.events.written(3, 9);  // there is no such part
  EXPECT_THAT(told(0), IsEmpty());
  EXPECT_THAT(told(1), IsEmpty());
  EXPECT_THAT(told(2), ElementsAre("taken 8"));
}

TEST_F(JobTest, SignalsGoToAllAndTheSecondRequestToEndKills) {
  launch();
  front_.events.signal(SIGUSR1);
  front_.events.signal(SIGINT);
  for (size_t i = 0; i < 3; i++) EXPECT_THAT(told(i), ElementsAre("signal 10", "signal 2"));
  front_.events.signal(SIGTERM);
  for (size_t i = 0; i < 3; i++)
    EXPECT_THAT(told(i), ElementsAre("signal 10", "signal 2", "kill 143"));
  EXPECT_FALSE(job_->ended());
  front_.events.signal(SIGUSR1);
  EXPECT_FALSE(job_->ended());
  front_.events.signal(SIGINT);  // and the third does not wait
  EXPECT_TRUE(job_->ended());
  EXPECT_EQ(finish(), 130);
}

TEST_F(JobTest, WhoseReaderHasGoneIsKilled) {
  launch();
  front_.events.gone("nobody reads", 141);
  for (size_t i = 0; i < 3; i++) EXPECT_THAT(told(i), ElementsAre("kill 141"));
}

TEST_F(JobTest, ASignalCallsTheBeginningOff) {
  ASSERT_TRUE(gather());
  members_[0]->answer = [this](const auto& command) -> std::optional<Result<std::string>> {
    if (command.step != Step::kCreate) return std::string();
    asio::post(io_, [this] { front_.events.signal(SIGTERM); });
    return {};
  };
  const auto r = run(io_, job_->launch({}));
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().exit_status(), 128 + SIGTERM);
  for (size_t i = 0; i < 3; i++) {
    EXPECT_THAT(told(i), IsEmpty());
    EXPECT_THAT(members_[i]->commands, ElementsAre("create", "destroy"));
  }
  EXPECT_THAT(front_.calls, ElementsAre("serve"));
}

TEST_F(JobTest, RestartGivesTheSlowestTimes) {
  ASSERT_TRUE(gather());
  for (int i = 0; i < 3; i++)
    members_[static_cast<size_t>(i)]->answer = [i](const auto& command) -> Result<std::string> {
      if (command.step != Step::kGo) return std::string();
      return i == 2 ? "nonsense"
                    : to_text({.read = 10ms * i, .check = 7ms, .restore = 30ms - 10ms * i});
    };
  const auto times = run(io_, job_->restart(5));
  ASSERT_TRUE(times) << times.error().line();
  EXPECT_EQ(times->read, 10ms);
  EXPECT_EQ(times->check, 7ms);
  EXPECT_EQ(times->restore, 30ms);
}

TEST_F(JobTest, StoppedAtACheckpoint) {
  launch();
  job_->stopped_at_checkpoint();
  EXPECT_THAT(front_.calls, ElementsAre("drop"));
  EXPECT_EQ(finish(), kStoppedAtCheckpoint);
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(JobTest, LooksAtAllThatAnswer) {
  launch();
  for (const auto& [member, rank] : {std::pair(0u, 2u), {1u, 3u}, {1u, 0u}, {2u, 1u}}) {
    control::RankStatus status;
    status.set_rank(rank);
    members_[member]->ranks.push_back(status);
  }
  members_[2]->silent = true;
  std::vector<std::string> seen;
  for (const auto& rank : run(io_, job_->look(Deadline::in(20s))))
    seen.push_back(std::to_string(rank.rank()) + " on " + rank.node());
  EXPECT_THAT(seen, ElementsAre("0 on b", "2 on a", "3 on b"));
}

TEST_F(JobTest, ProgressIsTheSumOfThoseInThePhase) {
  launch();
  job_->show_progress(&front_);
  members_[0]->events.progress("packing", {.done = 10, .total = 100});
  members_[1]->events.progress("dumping", {.done = 1, .total = 2});
  members_[2]->events.progress("packing", {.done = 5, .total = 50});
  EXPECT_THAT(front_.calls, ElementsAre("packing 10/100", "dumping 1/2", "packing 15/150"));
}

}  // namespace
}  // namespace stillpoint::agent
