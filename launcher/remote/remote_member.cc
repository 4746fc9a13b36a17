#include "launcher/remote/remote_member.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <deque>

#include "launcher/peer/client.h"
#include "launcher/peer/outbox.h"
#include "launcher/remote/messages.h"

namespace stillpoint::remote {

using namespace std::chrono_literals;

namespace {

constexpr auto kCallTime = 15s;
constexpr auto kJoinTime = 60s;  // the node claims the job, makes cgroup and staging
constexpr auto kWhile = 24h;     // a silent peer is lost much earlier (Connection)

class RemoteMember : public agent::MemberPort {
 public:
  RemoteMember(const asio::any_io_executor& executor, std::unique_ptr<peer::Connection> connection,
               agent::MemberEvents events)
      : state_(std::make_shared<State>(executor, std::move(connection), std::move(events))) {
    asio::co_spawn(executor, read_loop(state_), asio::detached);
  }
  ~RemoteMember() override { state_->events = {}; }

  void command(const coordinator::Command& command, const std::string& details) override {
    job::ToPart message;
    *message.mutable_command() = to_wire(command, details);
    state_->send(std::move(message));
  }

  void tell(const link::ToSupervisor& what) override {
    job::ToPart message;
    *message.mutable_tell() = what;
    state_->send(std::move(message));
  }

  Task<Result<std::vector<control::RankStatus>>> look(Deadline deadline) override {
    auto state = state_;
    state->looked.reset();
    job::ToPart message;
    message.set_look(true);
    state->send(std::move(message));
    if (!co_await state->looked.wait(deadline)) co_return fail(ErrorKind::kTimeout, "no answer");
    co_return state->ranks;
  }

  Task<Result<>> leave(Deadline deadline) override {
    auto state = state_;
    if (state->lost) co_return Result<>();  // that was said already
    state->leaving = true;
    job::ToPart message;
    message.set_leave(true);
    state->send(std::move(message));
    if (!co_await state->gone.wait(deadline))
      co_return fail(ErrorKind::kTimeout, "its part of the job does not end");
    if (!state->left) co_return fail(ErrorKind::kIo, "the connection was lost as the job ended");
    (void)co_await state->connection->close(deadline);
    co_return Result<>();
  }

 private:
  // Shared with the loops, which may end after the member has gone.
  struct State {
    State(const asio::any_io_executor& executor, std::unique_ptr<peer::Connection> taken,
          agent::MemberEvents handlers)
        : connection(std::move(taken)),
          events(std::move(handlers)),
          looked(executor),
          gone(executor),
          outbox(executor, connection, [this](const Error& why) { lose(why); }) {}

    void send(job::ToPart message) {
      if (lost) return;
      peer::Message whole;
      *whole.mutable_to_part() = std::move(message);
      outbox.put(std::move(whole));
    }
    void lose(const Error& why) {
      if (std::exchange(lost, true)) return;
      gone.set();
      looked.set();
      if (!leaving && events.lost) events.lost(why);
    }

    std::shared_ptr<peer::Connection> connection;
    agent::MemberEvents events;
    std::vector<control::RankStatus> ranks;
    Event looked, gone;
    peer::Outbox outbox;
    bool leaving = false, left = false, lost = false;
  };

  static Result<> take(State& state, const job::FromPart& message) {
    if (message.has_answer()) {
      auto answer = answer_from(message.answer());
      if (!answer) return fail(answer.error());
      if (state.events.answered) state.events.answered(*answer);
    } else if (message.has_news()) {
      if (state.events.news) state.events.news(message.news());
    } else if (message.has_progress()) {
      const auto& p = message.progress();
      if (state.events.progress) state.events.progress(p.phase(), {p.done(), p.total()});
    } else if (message.has_ranks()) {
      state.ranks = {message.ranks().rank().begin(), message.ranks().rank().end()};
      state.looked.set();
    } else if (message.left()) {
      state.left = true;
      state.gone.set();
    } else {
      return fail(ErrorKind::kProtocol, "a message that makes no sense");
    }
    return {};
  }

  static Task<> read_loop(std::shared_ptr<State> state) {
    while (!state->left && !state->lost) {
      auto message = co_await state->connection->receive(Deadline::in(kWhile));
      if (!message && message.error().kind() == ErrorKind::kTimeout) continue;
      Result<> taken;
      if (!message)
        taken = fail(message.error());
      else if (!*message)
        taken = fail(ErrorKind::kIo, "its part of the job has ended by itself");
      else
        taken = take(*state, (*message)->from_part());
      if (!taken) state->lose(taken.error());
    }
  }

  std::shared_ptr<State> state_;
};

Task<Result<std::unique_ptr<agent::MemberPort>>> make(asio::any_io_executor executor, Config config,
                                                      agent::PartSpec spec, agent::Seat& seat,
                                                      agent::MemberEvents events) {
  peer::CallOptions options;
  options.limits.node_timeout = config.node_timeout;
  auto connection =
      co_await peer::call(seat.node, config.port, std::move(options), Deadline::in(kCallTime));
  if (!connection) co_return fail(connection.error());
  peer::Request request;
  *request.mutable_part() = to_wire(spec);
  auto reply = co_await peer::ask(**connection, std::move(request), Deadline::in(kJoinTime));
  if (!reply) co_return fail(reply.error());
  if (!reply->has_joined()) co_return fail(ErrorKind::kProtocol, "an answer to another question");
  seat.host = reply->joined().host();
  co_return std::make_unique<RemoteMember>(executor, std::move(*connection), std::move(events));
}

}  // namespace

agent::MakeMember members_on_nodes(asio::io_context& io, const Config& config) {
  return [&io, config](agent::PartSpec spec, agent::Seat& seat, agent::MemberEvents events) {
    return make(io.get_executor(), config, std::move(spec), seat, std::move(events));
  };
}

}  // namespace stillpoint::remote
