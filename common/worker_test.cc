#include "common/worker.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <new>

namespace stillpoint {
namespace {

using namespace std::chrono_literals;

Result<std::string> run(const Worker::Body& body, Deadline deadline = Deadline::in(20s)) {
  auto worker = Worker::start("test work", nullptr, body);
  return worker->finish(deadline);
}

TEST(Worker, ResultErrorAndLargeResult) {
  EXPECT_EQ(*run([](Progress&) { return std::string("done"); }), "done");
  EXPECT_EQ(run([](Progress&) { return std::string(5'000'000, 'x'); })->size(), 5'000'000u);
  const auto failed = run([](Progress&) -> Result<std::string> {
    return fail(ErrorKind::kNoSpace, "full", "make room");
  });
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind(), ErrorKind::kNoSpace);
  EXPECT_EQ(failed.error().line(), "full; make room");
}

TEST(Worker, DeathIsAnError) {
  const auto killed =
      run([](Progress&) { return std::string(1, static_cast<char>(::raise(SIGKILL))); });
  ASSERT_FALSE(killed);
  EXPECT_NE(killed.error().what().find("signal 9"), std::string::npos);
  const auto threw = run([](Progress&) -> Result<std::string> { throw std::bad_alloc(); });
  ASSERT_FALSE(threw);
  EXPECT_NE(threw.error().what().find("memory"), std::string::npos);
}

TEST(Worker, IsEndedAtTheDeadlineWithWhatItStarted) {
  auto pipe = make_pipe();
  const auto late = run(
      [&](Progress&) {
        auto grandchild = fork_child([] { return ::pause(); });
        grandchild->release();
        ::pause();
        return std::string();
      },
      Deadline::in(200ms));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind(), ErrorKind::kTimeout);
  pipe->write.reset();
  char c;
  EXPECT_EQ(::read(pipe->read.get(), &c, 1), 0);  // ends only when the grandchild is gone too
}

TEST(Worker, ReportsProgress) {
  auto worker = Worker::start("test work", nullptr, [](Progress& p) -> Result<std::string> {
    p.total(100);
    p.add(40);
    return std::string();
  });
  ASSERT_TRUE(worker->finish(Deadline::in(20s)));
  EXPECT_EQ(worker->progress().done, 40u);
  EXPECT_EQ(worker->progress().total, 100u);
}

}  // namespace
}  // namespace stillpoint
