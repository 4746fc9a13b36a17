#include "launcher/peer/connection.h"

#include <gtest/gtest.h>

#include "common/wire/frame.h"
#include "launcher/peer/testing/fixture.h"

namespace stillpoint::peer {
namespace {

using namespace testing;

Message text(std::string words) {
  Message message;
  message.mutable_reply()->mutable_failure()->set_what(std::move(words));
  return message;
}

class Channel : public ::testing::Test {
 protected:
  void connect(Pair pair, ConnectionLimits limits = {}) {
    here_ = make(std::move(pair.server), limits);
    there_ = make(std::move(pair.client), limits);
  }
  std::unique_ptr<Connection> make(Fd fd, ConnectionLimits limits) {
    return std::make_unique<Connection>(socket_of(io_, std::move(fd)), Party{.where = "n2"},
                                        limits);
  }
  Result<> send(Connection& by, Message message, Milliseconds time = 20s) {
    return run(io_, by.send(std::move(message), Deadline::in(time)));
  }
  Result<std::optional<Message>> receive(Connection& by, Milliseconds time = 20s) {
    return run(io_, by.receive(Deadline::in(time)));
  }
  std::string words(Connection& by) {
    const auto got = receive(by);
    if (!got) return "error: " + got.error().line();
    return *got ? (*got)->reply().failure().what() : "closed";
  }
  void idle(Milliseconds time) {
    Event never(io_.get_executor());
    run(io_, never.wait(Deadline::in(time)));
  }

  asio::io_context io_;
  std::unique_ptr<Connection> here_, there_;
};

TEST_F(Channel, MessagesArriveInOrderBothWays) {
  for (const bool tcp : {true, false}) {
    connect(tcp ? tcp_pair() : unix_pair());
    const std::string large(900'000, 'x');
    for (int i = 0; i < 8; i++) ASSERT_TRUE(send(*here_, text(std::to_string(i) + large)));
    ASSERT_TRUE(send(*there_, text("back")));
    for (int i = 0; i < 8; i++) EXPECT_TRUE(words(*there_) == std::to_string(i) + large);
    EXPECT_EQ(words(*here_), "back");
  }
  EXPECT_EQ(send(*here_, text(std::string(wire::kMostFrameBytes, 'x'))).error().kind(),
            ErrorKind::kInternal);
}

TEST_F(Channel, ReceiveEndsAtItsDeadlineAndTheConnectionGoesOn) {
  connect(tcp_pair());
  EXPECT_EQ(receive(*there_, 20ms).error().kind(), ErrorKind::kTimeout);
  ASSERT_TRUE(send(*here_, text("late")));
  EXPECT_EQ(words(*there_), "late");
}

TEST_F(Channel, HeartbeatsKeepAnIdleConnection) {
  connect(tcp_pair(), {.node_timeout = 400ms});
  idle(1500ms);
  ASSERT_TRUE(send(*here_, text("still there")));
  EXPECT_EQ(words(*there_), "still there");
}

TEST_F(Channel, SilenceIsLoss) {
  for (const bool tcp : {true, false}) {
    auto pair = tcp ? tcp_pair() : unix_pair();
    here_ = make(std::move(pair.server), {.node_timeout = 300ms});
    const auto start = Deadline::Clock::now();
    const auto got = receive(*here_);
    const auto took = Deadline::Clock::now() - start;
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().kind(), ErrorKind::kIo);
    EXPECT_TRUE(contains(got.error(), "n2: nothing was heard for 300 ms")) << got.error().line();
    EXPECT_GE(took, 300ms);
    EXPECT_LT(took, 5s);
    EXPECT_EQ(send(*here_, text("x")).error().kind(), ErrorKind::kIo);
    // It has sent heartbeats until then.
    char bytes[64];
    EXPECT_GT(::recv(pair.client.get(), bytes, sizeof bytes, MSG_DONTWAIT), 0);
  }
}

TEST_F(Channel, SendWaitsForAPeerThatTakesNothing) {
  auto pair = tcp_pair();
  here_ = make(std::move(pair.server), {.most_queued = 1 << 20});
  size_t sent = 0;
  Result<> outcome;
  const std::string large(500'000, 'x');
  while (sent < 200 && (outcome = send(*here_, text(large), 200ms))) sent++;
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().kind(), ErrorKind::kTimeout);
  EXPECT_LT(sent, 100u);  // what the kernel's buffers and the queue hold
  there_ = make(std::move(pair.client), {});
  for (size_t i = 0; i < sent; i++) EXPECT_EQ(words(*there_).size(), large.size());
  EXPECT_TRUE(send(*here_, text("again")));
  EXPECT_EQ(words(*there_), "again");
}

TEST_F(Channel, UnreadMessagesHoldThePeerBack) {
  connect(tcp_pair(), {.most_queued = 1 << 20, .most_unread = 2});
  size_t sent = 0;
  while (sent < 200 && send(*here_, text(std::string(500'000, 'x')), 100ms)) sent++;
  EXPECT_LT(sent, 100u);
  for (size_t i = 0; i < sent; i++) EXPECT_EQ(words(*there_).size(), 500'000u);
  ASSERT_TRUE(send(*there_, text("fine")));
  EXPECT_EQ(words(*here_), "fine");
}

TEST_F(Channel, UnreadMessagesAreNoSilence) {
  connect(tcp_pair(), {.node_timeout = 300ms, .most_unread = 1});
  for (int i = 0; i < 5; i++) ASSERT_TRUE(send(*here_, text(std::to_string(i))));
  idle(1200ms);
  for (int i = 0; i < 5; i++) EXPECT_EQ(words(*there_), std::to_string(i));
  ASSERT_TRUE(send(*there_, text("fine")));
  EXPECT_EQ(words(*here_), "fine");
}

TEST_F(Channel, CloseLetsEverythingArrive) {
  connect(tcp_pair());
  for (int i = 0; i < 10; i++) ASSERT_TRUE(send(*here_, text(std::to_string(i))));
  Result<> closed = fail(ErrorKind::kInternal, "not yet");
  Event done(io_.get_executor());
  asio::co_spawn(io_, here_->close(Deadline::in(20s)), [&](const std::exception_ptr&, Result<> r) {
    closed = std::move(r);
    done.set();
  });
  for (int i = 0; i < 10; i++) EXPECT_EQ(words(*there_), std::to_string(i));
  EXPECT_EQ(words(*there_), "closed");
  EXPECT_TRUE(run(io_, there_->close(Deadline::in(20s))));
  run(io_, done.wait(Deadline::in(20s)));
  EXPECT_TRUE(closed) << closed.error().line();
}

TEST_F(Channel, CloseIsBounded) {
  auto pair = tcp_pair();
  here_ = make(std::move(pair.server), {});
  ASSERT_TRUE(send(*here_, text("x")));
  EXPECT_EQ(run(io_, here_->close(Deadline::in(100ms))).error().kind(), ErrorKind::kTimeout);
}

TEST_F(Channel, NonsenseEndsIt) {
  const std::pair<std::string, std::string> cases[] = {
      {std::string("\xff\xff\xff\xff", 4), "4294967295 bytes"},
      {wire::frame("\xff\xff"), "cannot be understood"},
      {wire::frame(""), "cannot be understood"},
      {wire::frame(text("abc").SerializeAsString()).substr(0, 6), "in the middle"},
      {std::string("\x01", 1), "in the middle"}};
  for (const auto& [bytes, says] : cases) {
    auto pair = tcp_pair();
    here_ = make(std::move(pair.server), {});
    ASSERT_TRUE(write_all(pair.client.get(), wire::frame(text("good").SerializeAsString())));
    ASSERT_TRUE(write_all(pair.client.get(), bytes));
    ::shutdown(pair.client.get(), SHUT_WR);
    EXPECT_EQ(words(*here_), "good");
    const auto got = receive(*here_);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().kind(), ErrorKind::kProtocol);
    EXPECT_TRUE(contains(got.error(), says)) << got.error().line();
  }
}

TEST_F(Channel, AnotherProcessTakesItUp) {
  auto pair = tcp_pair();
  const int other_end = pair.client.get();
  connect(std::move(pair));
  for (const char* word : {"one", "two", "three"}) ASSERT_TRUE(send(*there_, text(word)));
  EXPECT_EQ(words(*here_), "one");
  auto released = run(io_, here_->release(Deadline::in(20s)));
  ASSERT_TRUE(released) << released.error().line();
  auto child = fork_child([&] {
    ::close(other_end);
    asio::io_context io;  // of its own: the kernel's part of the other is shared with the parent
    auto taken = Connection::resume(io.get_executor(), std::move(*released), {});
    std::string heard;
    for (int i = 0; i < 2; i++)
      heard += (*run(io, (*taken)->receive(Deadline::in(20s))))->reply().failure().what() + ";";
    (void)run(io, (*taken)->send(text(heard), Deadline::in(20s)));
    return run(io, (*taken)->close(Deadline::in(20s))) ? 0 : 1;
  });
  released->socket.reset();
  here_.reset();
  EXPECT_EQ(words(*there_), "two;three;");
  EXPECT_EQ(words(*there_), "closed");
  there_.reset();
  EXPECT_TRUE(child->wait(Deadline::in(20s), "the child")->ok());
}

TEST_F(Channel, ReleaseWaitsForTheEndOfAMessage) {
  for (const bool whole : {true, false}) {
    auto pair = tcp_pair();
    here_ = make(std::move(pair.server), {});
    const std::string bytes = wire::frame(text("in two parts").SerializeAsString());
    ASSERT_TRUE(write_all(pair.client.get(), bytes.substr(0, 7)));
    idle(20ms);
    std::optional<Result<Released>> released;
    Event done(io_.get_executor());
    asio::co_spawn(io_, here_->release(Deadline::in(300ms)),
                   [&](const std::exception_ptr&, Result<Released> r) {
                     released.emplace(std::move(r));
                     done.set();
                   });
    idle(20ms);
    EXPECT_FALSE(released);
    if (whole) {
      ASSERT_TRUE(write_all(pair.client.get(), bytes.substr(7)));
    }
    run(io_, done.wait(Deadline::in(20s)));
    ASSERT_EQ(released->has_value(), whole);
    if (whole) {
      EXPECT_EQ((*released)->unread.size(), 1u);
    }
  }
}

TEST_F(Channel, GoesWhileOthersWait) {
  connect(tcp_pair());
  Result<std::optional<Message>> got;
  Event done(io_.get_executor());
  asio::co_spawn(io_, there_->receive(Deadline::in(20s)),
                 [&](const std::exception_ptr&, Result<std::optional<Message>> r) {
                   got = std::move(r);
                   done.set();
                 });
  here_.reset();
  run(io_, done.wait(Deadline::in(20s)));
  ASSERT_TRUE(got);
  EXPECT_FALSE(*got);
}

}  // namespace
}  // namespace stillpoint::peer
