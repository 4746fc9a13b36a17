#include "common/async/event.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

namespace stillpoint {
namespace {

using namespace std::chrono_literals;

TEST(Event, WakesAllWhoWait) {
  asio::io_context io;
  Event event(io.get_executor());
  int woken = 0;
  const auto wait = [&]() -> Task<> {
    co_await event.wait();
    woken++;
  };
  for (int i = 0; i < 3; i++) asio::co_spawn(io, wait(), asio::detached);
  asio::post(io, [&] { event.set(); });
  io.run();
  EXPECT_EQ(woken, 3);
}

TEST(Event, DeadlineEndsTheWaitOfOneAlone) {
  asio::io_context io;
  Event event(io.get_executor());
  std::vector<bool> outcomes;
  const auto wait = [&](Deadline deadline) -> Task<> {
    const bool set = co_await event.wait(deadline);
    outcomes.push_back(set);
    if (!set) event.set();
  };
  asio::co_spawn(io, wait(Deadline::in(20s)), asio::detached);
  asio::co_spawn(io, wait(Deadline::in(10ms)), asio::detached);
  io.run();
  EXPECT_EQ(outcomes, (std::vector<bool>{false, true}));
}

TEST(ForAll, RunsAllAtOnceAndReturnsWhenTheLastHasEnded) {
  asio::io_context io;
  std::vector<std::string> log;
  Event go(io.get_executor());
  const auto each = [&](size_t i) -> Task<> {
    log.push_back("begin " + std::to_string(i));
    if (i == 1) {
      co_await go.wait();
      log.push_back("end 1");
    }
    if (i == 2) go.set();  // for which 1 waits
  };
  const auto all = [&]() -> Task<> {
    co_await for_all(io.get_executor(), 3, each);
    log.push_back("over");
  };
  asio::co_spawn(io, all(), asio::detached);
  io.run();
  EXPECT_EQ(log, (std::vector<std::string>{"begin 0", "begin 1", "begin 2", "end 1", "over"}));
}

TEST(ForAll, OfNoneIsOver) {
  asio::io_context io;
  bool over = false;
  const auto none = [&]() -> Task<> {
    co_await for_all(io.get_executor(), 0, [](size_t) -> Task<> { co_return; });
    over = true;
  };
  asio::co_spawn(io, none(), asio::detached);
  io.run();
  EXPECT_TRUE(over);
}

TEST(Ticker, TicksWhileItLivesAndNotAfter) {
  asio::io_context io;
  int ticks = 0;
  auto ticker = std::make_unique<Ticker>(io.get_executor(), 3ms, [&] { ticks++; });
  while (ticks < 3) io.run_one();
  // Ended by a handler that is due just before the next tick: both are queued together, and
  // cancelling the timer comes too late for the tick.
  asio::steady_timer end(io, 1ms);
  end.async_wait([&](const boost::system::error_code&) { ticker.reset(); });
  const Deadline both_due = Deadline::in(10ms);
  while (!both_due.passed()) {
  }
  const int before = ticks;
  io.run();
  EXPECT_EQ(ticks, before);
}

TEST(Finish, GivesTheResultProgressAndTheDeadline) {
  asio::io_context io;
  Result<std::string> good, late;
  const auto work = [&]() -> Task<> {
    auto quick = Worker::start("quick", nullptr, [](Progress&) { return std::string("done"); });
    good = co_await finish(std::move(*quick), Deadline::in(20s));
    auto slow = Worker::start("slow", nullptr, [](Progress&) {
      ::pause();
      return std::string();
    });
    late = co_await finish(std::move(*slow), Deadline::in(50ms));
  };
  asio::co_spawn(io, work(), asio::detached);
  io.run();
  EXPECT_EQ(good.value(), "done");
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind(), ErrorKind::kTimeout);
}

}  // namespace
}  // namespace stillpoint
