#include "launcher/remote/front_client.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <csignal>
#include <optional>

#include "common/log.h"
#include "launcher/agent/terminal.h"
#include "launcher/peer/client.h"
#include "launcher/peer/outbox.h"
#include "launcher/peer/stream.h"
#include "launcher/remote/messages.h"

namespace stillpoint::remote {

using namespace std::chrono_literals;

namespace {

constexpr auto kCallTime = 15s;
constexpr auto kWhile = 24h;  // a silent lead is lost much earlier (Connection)
constexpr auto kLastWords = 5s;

class FrontClient {
 public:
  FrontClient(asio::io_context& io, agent::ProgressSink& progress)
      : io_(io), progress_(progress), terminal_(io.get_executor(), progress) {}

  Task<Result<int>> live(std::string node, job::LeadJob request, Config config);

 private:
  agent::FrontEndEvents events();
  void send(job::FromFront message);
  Task<Result<>> obey(const job::ToFront& message);
  Task<> hold();
  Task<> drain();

  asio::io_context& io_;
  agent::ProgressSink& progress_;
  agent::Terminal terminal_;
  std::shared_ptr<peer::Connection> connection_;
  std::optional<peer::Outbox> outbox_;
  std::optional<Error> unsent_;
  bool serving_ = false;
  std::optional<Result<int>> finished_;
};

void FrontClient::send(job::FromFront message) {
  peer::Message whole;
  *whole.mutable_from_front() = std::move(message);
  outbox_->put(std::move(whole));
}

agent::FrontEndEvents FrontClient::events() {
  return {.written =
              [this](uint32_t part, uint64_t next) {
                job::FromFront message;
                message.mutable_written()->set_part(part);
                message.mutable_written()->set_next(next);
                send(std::move(message));
              },
          .input =
              [this](const link::Stdin& in) {
                job::FromFront message;
                *message.mutable_input() = in;
                send(std::move(message));
              },
          .signal =
              [this](int number) {
                job::FromFront message;
                message.set_signal(number);
                send(std::move(message));
              },
          .gone =
              [this](const std::string&, int) {
                job::FromFront message;
                message.set_reader_gone(true);
                send(std::move(message));
              }};
}

Task<Result<int>> FrontClient::live(std::string node, job::LeadJob request, Config config) {
  peer::CallOptions options;
  options.limits.node_timeout = config.node_timeout;
  auto connection =
      co_await peer::call(node, config.port, std::move(options), Deadline::in(kCallTime));
  if (!connection) co_return fail(connection.error());
  connection_ = std::move(*connection);
  outbox_.emplace(io_.get_executor(), connection_, [this](const Error& why) { unsent_ = why; });
  peer::Message ask;
  *ask.mutable_request()->mutable_lead() = std::move(request);
  outbox_->put(std::move(ask));
  while (!finished_) {
    auto message = co_await connection_->receive(Deadline::in(kWhile));
    if (!message && message.error().kind() == ErrorKind::kTimeout) continue;
    if (!message) co_return fail(unsent_.value_or(message.error()).during("the job's lead"));
    if (!*message) co_return fail(ErrorKind::kIo, "the job's lead on " + node + " has ended");
    if ((*message)->has_reply() && (*message)->reply().has_failure())
      co_return fail(peer::error_of((*message)->reply().failure()).during(node));
    if ((*message)->has_refusal())
      co_return fail(peer::error_of((*message)->refusal()).during(node));
    if (auto r = co_await obey((*message)->to_front()); !r)
      co_return fail(r.error().during("the job's lead on " + node));
  }
  (void)co_await connection_->close(Deadline::in(kLastWords));
  co_return *finished_;
}

Task<Result<>> FrontClient::obey(const job::ToFront& m) {
  if (m.has_serving() && !serving_) {
    serving_ = true;
    terminal_.serve(events(), m.serving().tag_output());
  } else if (m.has_said()) {
    const std::string& text = m.said().text();
    const auto level = std::min(m.said().level(), 3u);
    // Lines come with what they are in front ("warning: ...").
    log::relay(static_cast<log::Level>(level), text);
  } else if (m.has_progress()) {
    progress_.update(m.progress().phase(), m.progress().done(), m.progress().total());
  } else if (m.progress_over()) {
    progress_.finished();
  } else if (m.has_finished()) {
    if (m.finished().has_failure())
      finished_ = fail(error_from(m.finished().failure()));
    else
      finished_ = m.finished().status();
  } else if (!serving_) {
    co_return fail(ErrorKind::kProtocol, "it began in the middle");
  } else if (m.has_output()) {
    terminal_.output(m.output().part(), m.output().output());
  } else if (m.hold()) {
    asio::co_spawn(io_, hold(), asio::detached);
  } else if (m.release()) {
    terminal_.release();
  } else if (m.drop()) {
    terminal_.drop();
  } else if (m.has_input_opened()) {
    terminal_.input_opened(m.input_opened().stdin_taken(), m.input_opened().stdin_closed());
  } else if (m.input_suspended()) {
    terminal_.input_suspended();
  } else if (m.has_input_taken()) {
    terminal_.input_taken(m.input_taken());
  } else if (m.drain()) {
    asio::co_spawn(io_, drain(), asio::detached);
  } else {
    co_return fail(ErrorKind::kProtocol, "a message that makes no sense");
  }
  co_return Result<>();
}

Task<> FrontClient::hold() {
  auto written = co_await terminal_.hold();
  job::FromFront message;
  message.mutable_held()->set_out(written ? written->out : 0);
  message.mutable_held()->set_err(written ? written->err : 0);
  send(std::move(message));
}

Task<> FrontClient::drain() {
  while (!co_await terminal_.drained(Deadline::in(kWhile))) {
  }
  job::FromFront message;
  message.set_drained(true);
  send(std::move(message));
}

}  // namespace

Result<int> run_on_nodes(const std::string& first_node, job::LeadJob request, const Config& config,
                         agent::ProgressSink& progress) {
  ::signal(SIGPIPE, SIG_IGN);
  asio::io_context io(1);
  FrontClient client(io, progress);
  Result<int> outcome = fail(ErrorKind::kInternal, "the command ended early");
  asio::co_spawn(io, client.live(first_node, std::move(request), config),
                 [&](std::exception_ptr error, Result<int> result) {
                   if (!error) outcome = std::move(result);
                   io.stop();
                 });
  io.run();
  return outcome;
}

}  // namespace stillpoint::remote
