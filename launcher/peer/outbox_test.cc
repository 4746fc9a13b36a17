#include "launcher/peer/outbox.h"

#include <gtest/gtest.h>

#include "common/wire/frame.h"
#include "launcher/peer/testing/fixture.h"

namespace stillpoint::peer {
namespace {

using namespace testing;

Message text(const std::string& words) {
  Message message;
  message.mutable_reply()->mutable_failure()->set_what(words);
  return message;
}

class OutboxTest : public ::testing::Test {
 protected:
  void connect(ConnectionLimits limits = {}) {
    auto pair = tcp_pair();
    here_ = std::make_shared<Connection>(socket_of(io_, std::move(pair.server)),
                                         Party{.where = "n2"}, limits);
    there_ = std::make_unique<Connection>(socket_of(io_, std::move(pair.client)),
                                          Party{.where = "n1"}, limits);
    box_.emplace(io_.get_executor(), here_, [this](const Error& e) { failures_.push_back(e); });
  }
  std::string heard() {
    const auto got = run(io_, there_->receive(Deadline::in(20s)));
    if (!got) return "error: " + got.error().line();
    return *got ? (*got)->reply().failure().what() : "closed";
  }
  bool sent_all(Milliseconds time) { return run(io_, box_->sent_all(Deadline::in(time))); }

  asio::io_context io_;
  std::shared_ptr<Connection> here_;
  std::unique_ptr<Connection> there_;
  std::vector<Error> failures_;
  std::optional<Outbox> box_;
};

TEST_F(OutboxTest, KeepsTheOrder) {
  connect({.most_queued = 1 << 16});  // so that most of it has to wait
  const std::string large(100'000, 'x');
  for (int i = 0; i < 30; i++) box_->put(text(std::to_string(i) + ":" + large));
  for (int i = 0; i < 30; i++) EXPECT_TRUE(heard() == std::to_string(i) + ":" + large) << i;
  EXPECT_TRUE(sent_all(20s));
  box_->put(text("and after a rest"));
  EXPECT_EQ(heard(), "and after a rest");
  EXPECT_TRUE(failures_.empty());
}

TEST_F(OutboxTest, SaysWhenAllIsSent) {
  connect({.most_queued = 1 << 16, .most_unread = 1});
  EXPECT_TRUE(sent_all(0ms));  // there is nothing
  for (int i = 0; i < 60; i++) box_->put(text(std::string(500'000, 'x')));
  EXPECT_FALSE(sent_all(100ms));  // more than the kernel's buffers hold, and nobody reads
  for (int i = 0; i < 60; i++) EXPECT_EQ(heard().size(), 500'000u);
  EXPECT_TRUE(sent_all(20s));
}

TEST_F(OutboxTest, AFailureIsToldOnce) {
  connect();
  there_.reset();  // with nothing said
  const auto deadline = Deadline::in(20s);
  while (failures_.empty() && !deadline.passed()) {
    box_->put(text(std::string(100'000, 'x')));
    (void)sent_all(100ms);
  }
  ASSERT_EQ(failures_.size(), 1u);
  EXPECT_EQ(failures_[0].kind(), ErrorKind::kIo) << failures_[0].line();
  box_->put(text("into the void"));
  EXPECT_TRUE(sent_all(20s));  // nothing is waited for any more
  EXPECT_EQ(failures_.size(), 1u);
}

TEST_F(OutboxTest, MessagesThatDoNotFitFail) {
  connect();
  box_->put(text("first"));
  box_->put(text(std::string(wire::kMostFrameBytes, 'x')));
  box_->put(text("never"));
  EXPECT_EQ(heard(), "first");
  EXPECT_TRUE(sent_all(20s));
  ASSERT_EQ(failures_.size(), 1u);
  EXPECT_EQ(failures_[0].kind(), ErrorKind::kInternal) << failures_[0].line();
  EXPECT_EQ(heard(), "closed");  // so that nobody waits for what does not come
  EXPECT_FALSE(run(io_, here_->receive(Deadline::in(20s))));
}

TEST_F(OutboxTest, GoesWhileItSends) {
  connect({.most_queued = 1 << 16, .most_unread = 1});
  for (int i = 0; i < 60; i++) box_->put(text(std::string(500'000, 'x')));
  EXPECT_FALSE(sent_all(100ms));
  bool waited = false;
  auto wait = [&]() -> Task<> { waited = co_await box_->sent_all(Deadline::in(20s)); };
  asio::co_spawn(io_, wait(), [](const std::exception_ptr&) {});
  io_.restart();
  io_.poll();
  box_.reset();
  here_.reset();
  there_.reset();  // the message under way fails, and nobody is told
  const auto deadline = Deadline::in(20s);
  while (!waited && !deadline.passed()) io_.run_one_for(100ms);
  EXPECT_TRUE(waited);
  EXPECT_TRUE(failures_.empty());
}

}  // namespace
}  // namespace stillpoint::peer
