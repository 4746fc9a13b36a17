#include "common/async/event.h"

#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>

namespace stillpoint {

namespace {
constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);  // errors as values
}

void Event::set() {
  set_ = true;
  timer_->cancel();  // wakes all who wait
}

Task<> Event::wait() {
  while (!set_) co_await timer_->async_wait(kQuietly);
}

Task<bool> Event::wait(Deadline deadline) {
  // The shared timer never fires by itself; a private one bounds this wait by waking the shared
  // one's waiters.
  asio::steady_timer bound(timer_->get_executor(), deadline.at());
  bound.async_wait([timer = timer_](const boost::system::error_code& error) {
    if (!error) timer->cancel();
  });
  while (!set_ && !deadline.passed()) co_await timer_->async_wait(kQuietly);
  co_return set_;
}

struct Ticker::State {
  asio::steady_timer timer;
  std::chrono::milliseconds interval;
  std::function<void()> tick;
  bool stopped = false;
};

Ticker::Ticker(const asio::any_io_executor& executor, std::chrono::milliseconds interval,
               std::function<void()> tick)
    : state_(std::make_shared<State>(asio::steady_timer(executor), interval, std::move(tick))) {
  arm(state_);
}

Ticker::~Ticker() {
  state_->stopped = true;
  state_->timer.cancel();
}

void Ticker::arm(const std::shared_ptr<State>& state) {
  state->timer.expires_after(state->interval);
  state->timer.async_wait([state](const boost::system::error_code& error) {
    if (error || state->stopped) return;
    state->tick();
    arm(state);
  });
}

Task<Result<std::string>> finish(Worker worker, Deadline deadline,
                                 std::function<void(WorkDone)> on_progress) {
  const auto executor = co_await asio::this_coro::executor;
  // Shared with the timer's handler, which may be queued already when this coroutine ends.
  auto pipe = std::make_shared<asio::posix::stream_descriptor>(executor, ::dup(worker.fd()));
  asio::steady_timer bound(executor, deadline.at());
  bound.async_wait([pipe](const boost::system::error_code& error) {
    if (!error) pipe->cancel();
  });
  for (;;) {
    co_await pipe->async_wait(asio::posix::stream_descriptor::wait_read, kQuietly);
    if (auto result = worker.read()) co_return std::move(*result);
    if (deadline.passed()) {
      worker.kill();
      co_return fail(ErrorKind::kTimeout, worker.name() + " took too long and was ended");
    }
    if (on_progress) on_progress(worker.progress());
  }
}

Task<> for_all(const asio::any_io_executor& executor, size_t n,
               std::function<Task<>(size_t)> each) {
  Event over(executor);
  size_t left = n;
  for (size_t i = 0; i < n; i++)
    asio::co_spawn(executor, each(i), [&](std::exception_ptr error) {
      if (--left == 0) over.set();
      if (error) std::rethrow_exception(error);
    });
  if (n > 0) co_await over.wait();
}

}  // namespace stillpoint
