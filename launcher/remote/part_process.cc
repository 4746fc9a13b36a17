#include "launcher/remote/part_process.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <optional>

#include "common/log.h"
#include "launcher/agent/launch.h"
#include "launcher/agent/local_member.h"
#include "launcher/peer/outbox.h"
#include "launcher/peer/stream.h"
#include "launcher/remote/messages.h"

namespace stillpoint::remote {

using namespace std::chrono_literals;

namespace {

constexpr auto kWhile = 24h;  // a silent lead is lost much earlier (Connection)
constexpr auto kLastWords = 5s;
constexpr auto kUndoTime = 6min;  // for a step under way to be called off, and undone
constexpr auto kLook = 50ms;

class PartProcess {
 public:
  PartProcess(asio::io_context& io, std::unique_ptr<peer::Connection> connection)
      : io_(io),
        connection_(std::move(connection)),
        outbox_(io.get_executor(), connection_, [](const Error& why) { log::error(why); }) {}

  Task<int> live(job::PartOfJob request, Config config);

 private:
  Result<> join(const job::PartOfJob& request, const Config& config);
  agent::MemberEvents events();
  void send(job::FromPart message);
  Task<Result<bool>> obey(const job::ToPart& message);  // false: that was the last
  Task<> serve();
  Task<> outlive_lead();

  asio::io_context& io_;
  std::shared_ptr<peer::Connection> connection_;
  peer::Outbox outbox_;
  std::unique_ptr<agent::LocalMember> member_;
};

void PartProcess::send(job::FromPart message) {
  peer::Message whole;
  *whole.mutable_from_part() = std::move(message);
  outbox_.put(std::move(whole));
}

agent::MemberEvents PartProcess::events() {
  return {.answered =
              [this](const coordinator::Answer& answer) {
                job::FromPart message;
                *message.mutable_answer() = to_wire(answer);
                send(std::move(message));
              },
          .news =
              [this](const link::FromSupervisor& news) {
                job::FromPart message;
                *message.mutable_news() = news;
                send(std::move(message));
              },
          .progress =
              [this](const std::string& phase, WorkDone done) {
                job::FromPart message;
                message.mutable_progress()->set_phase(phase);
                message.mutable_progress()->set_done(done.done);
                message.mutable_progress()->set_total(done.total);
                send(std::move(message));
              },
          .lost = {}};
}

Result<> PartProcess::join(const job::PartOfJob& request, const Config& config) {
  auto address = node_address(config);
  if (!address) return fail(address.error());
  auto spec = part_from(request, config, *address);
  if (!spec) return fail(spec.error());
  auto member = agent::LocalMember::make(io_, std::move(*spec), events());
  if (!member) return fail(member.error());
  member_ = std::move(*member);
  return {};
}

Task<int> PartProcess::live(job::PartOfJob request, Config config) {
  peer::Message reply;
  const auto joined = join(request, config);
  if (joined)
    reply.mutable_reply()->mutable_joined()->set_host(agent::this_host());
  else
    *reply.mutable_reply()->mutable_failure() = peer::refusal(joined.error()).refusal();
  outbox_.put(std::move(reply));
  if (joined) co_await serve();
  (void)co_await outbox_.sent_all(Deadline::in(kLastWords));
  (void)co_await connection_->close(Deadline::in(kLastWords));
  co_return joined ? 0 : 1;
}

Task<> PartProcess::serve() {
  for (;;) {
    auto message = co_await connection_->receive(Deadline::in(kWhile));
    if (!message && message.error().kind() == ErrorKind::kTimeout) continue;
    Result<bool> more = false;
    if (message && *message) {
      more = co_await obey((*message)->to_part());
      if (more && *more) continue;
      if (more) co_return;
    }
    const std::string why = !message ? message.error().line()
                            : !more  ? more.error().line()
                                     : "it has ended";
    log::warning("the lead of the job is gone, so the job ends: " + why);
    co_await outlive_lead();
    co_return;
  }
}

Task<Result<bool>> PartProcess::obey(const job::ToPart& message) {
  if (message.has_command()) {
    auto command = command_from(message.command());
    if (!command) co_return fail(command.error());
    member_->command(*command, message.command().details());
  } else if (message.has_tell()) {
    const auto& what = message.tell();
    if (!what.has_stdin() && !what.has_output_taken() && !what.has_signal() && !what.has_kill())
      co_return fail(ErrorKind::kProtocol, "a message that is not the lead's to send");
    member_->tell(what);
  } else if (message.look()) {
    job::FromPart reply;
    reply.mutable_ranks();
    auto ranks = co_await member_->look(Deadline::in(kLastWords));
    if (ranks)
      for (auto& rank : *ranks) *reply.mutable_ranks()->add_rank() = std::move(rank);
    send(std::move(reply));
  } else if (message.leave()) {
    (void)co_await member_->leave(Deadline::in(kLastWords));
    member_.reset();
    job::FromPart reply;
    reply.set_left(true);
    send(std::move(reply));
    co_return false;
  } else {
    co_return fail(ErrorKind::kProtocol, "a message that makes no sense");
  }
  co_return true;
}

// A dump under way is called off in order, and the ranks' last words go nowhere.
Task<> PartProcess::outlive_lead() {
  member_->lead_lost();
  const Deadline deadline = Deadline::in(kUndoTime);
  while (!member_->at_rest() && !deadline.passed()) {
    asio::steady_timer pause(io_, kLook);
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  member_.reset();
}

}  // namespace

int run_part(peer::Released released, const job::PartOfJob& request, const Config& config) {
  ::signal(SIGPIPE, SIG_IGN);
  asio::io_context io(1);
  peer::ConnectionLimits limits;
  limits.node_timeout = config.node_timeout;
  auto connection = peer::Connection::resume(io.get_executor(), std::move(released), limits);
  if (!connection) {
    log::error(connection.error());
    return connection.error().exit_status();
  }
  PartProcess process(io, std::move(*connection));
  int status = 1;
  asio::co_spawn(io, process.live(request, config), [&](std::exception_ptr error, int ended) {
    if (error) log::error("the part of a job ended in an unforeseen way");
    status = error ? 1 : ended;
    io.stop();
  });
  io.run();
  return status;
}

}  // namespace stillpoint::remote
