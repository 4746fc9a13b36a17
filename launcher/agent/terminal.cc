#include "launcher/agent/terminal.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>

#include "common/log.h"

namespace stillpoint::agent {

using namespace std::chrono_literals;

namespace {
constexpr auto kHoldOutput = 2s;  // for a record to be written
}

void Terminal::serve(FrontEndEvents events, bool tag) {
  events_ = std::move(events);
  output_.emplace(
      executor_, tag, [this](uint32_t part, uint64_t next) { events_.written(part, next); },
      // As mpirun and a shell's pipeline do it: `stillpoint run yes | head` ends.
      [this] { events_.gone("nobody reads its standard output any more", 128 + SIGPIPE); });
  input_.emplace(executor_, [this](const link::Stdin& in) { events_.input(in); });
  asio::co_spawn(executor_, watch_signals(), asio::detached);
}

void Terminal::output(uint32_t part, const link::Output& record) {
  output_->take(part, record);
}

Task<Result<WrittenBytes>> Terminal::hold() {
  if (!co_await output_->hold(Deadline::in(kHoldOutput)))
    log::debug("somebody reads our output slowly or not at all");
  co_return output_->acknowledged();
}

Task<bool> Terminal::drained(Deadline deadline) {
  co_return co_await output_->drained(deadline);
}

Task<> Terminal::watch_signals() {
  asio::signal_set signals(executor_, SIGINT, SIGTERM, SIGHUP);
  signals.add(SIGUSR1);
  signals.add(SIGUSR2);
  for (;;) {
    const auto [error, number] = co_await signals.async_wait(asio::as_tuple(asio::use_awaitable));
    if (error) co_return;
    events_.signal(number);
  }
}

}  // namespace stillpoint::agent
