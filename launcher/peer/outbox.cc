#include "launcher/peer/outbox.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <deque>

namespace stillpoint::peer {

namespace {
// The connection itself gives a peer up that takes nothing for node_timeout.
constexpr auto kSendWait = std::chrono::hours(1);
constexpr auto kLastWords = std::chrono::seconds(1);
}  // namespace

// Shared with the loop, which may end after the box has gone.
struct Outbox::State {
  asio::any_io_executor executor;
  std::shared_ptr<Connection> connection;
  std::function<void(const Error&)> failed;
  std::deque<Message> waiting;
  Event idle{executor};
  bool sending = false, over = false;
};

Outbox::Outbox(const asio::any_io_executor& executor, std::shared_ptr<Connection> connection,
               std::function<void(const Error&)> failed)
    : state_(std::make_shared<State>(State{.executor = executor,
                                           .connection = std::move(connection),
                                           .failed = std::move(failed),
                                           .waiting = {}})) {
  state_->idle.set();
}

Outbox::~Outbox() {
  state_->over = true;
  state_->failed = nullptr;
}

void Outbox::put(Message message) {
  if (state_->over) return;
  state_->waiting.push_back(std::move(message));
  if (std::exchange(state_->sending, true)) return;
  state_->idle.reset();
  asio::co_spawn(state_->executor, send_loop(state_), asio::detached);
}

Task<> Outbox::send_loop(std::shared_ptr<State> state) {
  while (!state->waiting.empty() && !state->over) {
    Message message = std::move(state->waiting.front());
    state->waiting.pop_front();
    auto sent = co_await state->connection->send(std::move(message), Deadline::in(kSendWait));
    if (sent || state->over) continue;
    state->over = true;
    state->failed(sent.error());
    (void)co_await state->connection->close(Deadline::in(kLastWords));
  }
  state->sending = false;
  state->idle.set();
}

Task<bool> Outbox::sent_all(Deadline deadline) {
  auto state = state_;
  co_return co_await state->idle.wait(deadline);
}

}  // namespace stillpoint::peer
