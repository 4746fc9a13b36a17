#include "launcher/remote/remote_front_end.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <csignal>

#include "common/wire/job.pb.h"
#include "launcher/remote/messages.h"

namespace stillpoint::remote {

using namespace std::chrono_literals;

namespace {
constexpr auto kWhile = 24h;    // a silent command is lost much earlier (Connection)
constexpr auto kHoldWait = 5s;  // its own bound is less
constexpr auto kCloseWait = 5s;
}  // namespace

// Shared with the loop, which may end after the front end has gone.
struct RemoteFrontEnd::State : agent::ProgressSink {
  State(const asio::any_io_executor& executor, std::unique_ptr<peer::Connection> taken)
      : connection(std::move(taken)),
        held(executor),
        empty(executor),
        outbox(executor, connection, [this](const Error& why) { lose(why); }) {}

  void send(job::ToFront message) {
    if (lost) return;
    peer::Message whole;
    *whole.mutable_to_front() = std::move(message);
    outbox.put(std::move(whole));
  }

  // A job whose command has gone ends, as a program does whose terminal has gone.
  void lose(const Error& why) {
    if (std::exchange(lost, true)) return;
    held.set();
    empty.set();
    if (!over && events.gone)
      events.gone("the command that started it is gone: " + why.line(), 128 + SIGHUP);
  }

  void update(const std::string& phase, uint64_t done, uint64_t total) override {
    job::ToFront message;
    message.mutable_progress()->set_phase(phase);
    message.mutable_progress()->set_done(done);
    message.mutable_progress()->set_total(total);
    send(std::move(message));
  }
  void finished() override {
    job::ToFront message;
    message.set_progress_over(true);
    send(std::move(message));
  }

  Result<> take(const job::FromFront& message) {
    if (message.has_written()) {
      if (events.written) events.written(message.written().part(), message.written().next());
    } else if (message.has_input()) {
      if (events.input) events.input(message.input());
    } else if (message.has_signal()) {
      if (message.signal() < 1 || message.signal() > SIGRTMAX)
        return fail(ErrorKind::kProtocol, "a signal that is none");
      if (events.signal) events.signal(message.signal());
    } else if (message.has_held()) {
      written = {message.held().out(), message.held().err()};
      held.set();
    } else if (message.drained()) {
      empty.set();
    } else if (message.reader_gone()) {
      if (events.gone) events.gone("nobody reads its standard output any more", 128 + SIGPIPE);
    } else {
      return fail(ErrorKind::kProtocol, "a message that makes no sense");
    }
    return {};
  }

  std::shared_ptr<peer::Connection> connection;
  agent::FrontEndEvents events;
  agent::WrittenBytes written;
  Event held, empty;
  peer::Outbox outbox;
  bool draining = false;
  bool over = false;  // the last word has been said
  bool lost = false;
};

RemoteFrontEnd::RemoteFrontEnd(const asio::any_io_executor& executor,
                               std::unique_ptr<peer::Connection> connection)
    : state_(std::make_shared<State>(executor, std::move(connection))) {
  asio::co_spawn(executor, read_loop(state_), asio::detached);
}

RemoteFrontEnd::~RemoteFrontEnd() {
  state_->events = {};
}

Task<> RemoteFrontEnd::read_loop(std::shared_ptr<State> state) {
  while (!state->lost && !state->over) {
    auto message = co_await state->connection->receive(Deadline::in(kWhile));
    if (!message && message.error().kind() == ErrorKind::kTimeout) continue;
    Result<> taken;
    if (!message)
      taken = fail(message.error());
    else if (!*message)
      taken = fail(ErrorKind::kIo, "it has ended");
    else
      taken = state->take((*message)->from_front());
    if (!taken) state->lose(taken.error());
  }
}

void RemoteFrontEnd::say(int level, const std::string& text) {
  job::ToFront message;
  message.mutable_said()->set_level(static_cast<uint32_t>(level));
  message.mutable_said()->set_text(text);
  state_->send(std::move(message));
}

bool RemoteFrontEnd::finished() const {
  return state_->over;
}

Task<> RemoteFrontEnd::finish(Result<int> status) {
  auto state = state_;
  job::ToFront message;
  if (status)
    message.mutable_finished()->set_status(*status);
  else
    *message.mutable_finished()->mutable_failure() = to_wire(status.error());
  state->send(std::move(message));
  state->over = true;
  (void)co_await state->outbox.sent_all(Deadline::in(kCloseWait));
  (void)co_await state->connection->close(Deadline::in(kCloseWait));
}

void RemoteFrontEnd::serve(agent::FrontEndEvents events, bool tag) {
  state_->events = std::move(events);
  job::ToFront message;
  message.mutable_serving()->set_tag_output(tag);
  state_->send(std::move(message));
}

void RemoteFrontEnd::output(uint32_t part, const link::Output& record) {
  job::ToFront message;
  message.mutable_output()->set_part(part);
  *message.mutable_output()->mutable_output() = record;
  state_->draining = false;
  state_->send(std::move(message));
}

Task<Result<agent::WrittenBytes>> RemoteFrontEnd::hold() {
  auto state = state_;
  state->held.reset();
  job::ToFront message;
  message.set_hold(true);
  state->send(std::move(message));
  if (!state->lost && co_await state->held.wait(Deadline::in(kHoldWait)) && !state->lost)
    co_return state->written;
  co_return fail(ErrorKind::kBusy, "the command that shows the job's output does not answer");
}

void RemoteFrontEnd::release() {
  job::ToFront message;
  message.set_release(true);
  state_->send(std::move(message));
}

void RemoteFrontEnd::drop() {
  job::ToFront message;
  message.set_drop(true);
  state_->send(std::move(message));
}

Task<bool> RemoteFrontEnd::drained(Deadline deadline) {
  auto state = state_;
  if (state->lost) co_return true;
  if (!std::exchange(state->draining, true)) {
    state->empty.reset();
    job::ToFront message;
    message.set_drain(true);
    state->send(std::move(message));
  }
  co_return co_await state->empty.wait(deadline);
}

void RemoteFrontEnd::input_opened(uint64_t taken, bool closed) {
  job::ToFront message;
  message.mutable_input_opened()->set_stdin_taken(taken);
  message.mutable_input_opened()->set_stdin_closed(closed);
  state_->send(std::move(message));
}

void RemoteFrontEnd::input_suspended() {
  job::ToFront message;
  message.set_input_suspended(true);
  state_->send(std::move(message));
}

void RemoteFrontEnd::input_taken(const link::StdinTaken& news) {
  job::ToFront message;
  *message.mutable_input_taken() = news;
  state_->send(std::move(message));
}

agent::ProgressSink& RemoteFrontEnd::progress() {
  return *state_;
}

}  // namespace stillpoint::remote
