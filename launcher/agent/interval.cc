#include "launcher/agent/interval.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/log.h"

namespace stillpoint::agent {

void IntervalTimer::start() {
  if (job_.policy().interval.count() > 0) asio::co_spawn(job_.executor(), loop(), asio::detached);
}

Milliseconds IntervalTimer::until_next() const {
  const auto left = next_ - std::chrono::steady_clock::now();
  return std::max(Milliseconds(0), std::chrono::duration_cast<Milliseconds>(left));
}

Task<> IntervalTimer::loop() {
  asio::steady_timer timer(job_.executor());
  for (;;) {
    next_ = std::chrono::steady_clock::now() + job_.policy().interval;
    timer.expires_at(next_);
    co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
    if (job_.ended()) co_return;
    auto outcome = co_await checkpointer_.take(false, sink_);
    if (outcome) {
      announce(job_, *outcome);
    } else if (!job_.ended()) {
      log::warning("the checkpoint failed, the job runs on and " +
                   format_duration(job_.policy().interval) +
                   " from now it is tried again: " + outcome.error().line());
    }
  }
}

void announce(const Job& job, const CheckpointOutcome& outcome) {
  log::info("checkpoint " + std::to_string(outcome.epoch) + " of " + job.about().job +
            " is permanent (the job stood still " + format_duration(outcome.stood_still) + "; " +
            format_bytes(outcome.memory_bytes) + " stored as " +
            format_bytes(outcome.stored_bytes) + " in " + format_duration(outcome.total) + ", " +
            format_rate(outcome.memory_bytes, outcome.total) + ")");
}

}  // namespace stillpoint::agent
