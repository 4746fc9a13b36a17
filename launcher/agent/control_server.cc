#include "launcher/agent/control_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "common/log.h"
#include "common/paths.h"
#include "common/wire/frame.h"
#include "common/wire/versions.h"

namespace stillpoint::agent {

using namespace std::chrono_literals;
using Protocol = asio::local::stream_protocol;

namespace {

constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);
constexpr unsigned kMostClients = 32;
constexpr auto kLookWait = 3s;

control::Reply failure(const Error& error) {
  control::Reply reply;
  reply.mutable_failure()->set_kind(static_cast<int>(error.kind()));
  reply.mutable_failure()->set_what(error.what());
  reply.mutable_failure()->set_remedy(error.remedy());
  return reply;
}

// Progress for a client.  What it does not read in time is dropped, not queued: a small message on
// a Unix stream goes as a whole or not at all.
class ClientSink : public ProgressSink {
 public:
  explicit ClientSink(Protocol::socket& socket) : fd_(socket.native_handle()) {}
  void update(const std::string& phase, uint64_t done, uint64_t total) override {
    control::Reply reply;
    reply.mutable_progress()->set_phase(phase);
    reply.mutable_progress()->set_done(done);
    reply.mutable_progress()->set_total(total);
    const std::string bytes = wire::frame(reply.SerializeAsString());
    (void)::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  void finished() override {}

 private:
  int fd_;
};

Task<Result<control::Request>> receive(Protocol::socket& socket) {
  wire::FrameReader frames(64 << 10);
  char buffer[4096];
  for (;;) {
    auto payload = frames.next();
    if (!payload) co_return fail(payload.error());
    if (*payload) {
      control::Request request;
      if (request.ParseFromString(**payload)) co_return request;
      co_return fail(ErrorKind::kProtocol, "a request that cannot be parsed");
    }
    const auto [error, n] = co_await socket.async_read_some(asio::buffer(buffer), kQuietly);
    if (error) co_return fail(ErrorKind::kProtocol, error.message());
    frames.feed({buffer, n});
  }
}

Result<> check_caller(Protocol::socket& socket, const Identity& owner) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return fail_errno("SO_PEERCRED");
  if (peer.uid == 0 || peer.uid == owner.uid) return {};
  return fail(ErrorKind::kPermission, "the job belongs to " + owner.name);
}

}  // namespace

ControlServer::ControlServer(Job& job, Checkpointer& checkpointer, const IntervalTimer& interval)
    : job_(job),
      checkpointer_(checkpointer),
      interval_(interval),
      acceptor_(job.executor()),
      idle_(job.executor()) {
  idle_.set();
}

Result<std::unique_ptr<ControlServer>> ControlServer::start(Job& job, Checkpointer& checkpointer,
                                                            const IntervalTimer& interval) {
  std::unique_ptr<ControlServer> server(new ControlServer(job, checkpointer, interval));
  const std::string path = paths::control_socket(job.about().job);
  boost::system::error_code error;
  server->acceptor_.open(Protocol(), error);
  if (!error) server->acceptor_.bind(Protocol::endpoint(path), error);
  if (!error) server->acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error) return fail(ErrorKind::kSystem, path + ": " + error.message());
  ::chmod(path.c_str(), 0666);  // who may ask what is decided by SO_PEERCRED
  asio::co_spawn(job.executor(), server->accept_loop(), asio::detached);
  return server;
}

Task<> ControlServer::idle() {
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  co_await idle_.wait(Deadline::in(5s));
}

Task<> ControlServer::accept_loop() {
  for (;;) {
    auto [error, socket] = co_await acceptor_.async_accept(kQuietly);
    if (!acceptor_.is_open()) co_return;
    if (error || serving_ >= kMostClients) continue;
    asio::co_spawn(job_.executor(), serve(std::move(socket)), asio::detached);
  }
}

Task<> ControlServer::serve(Socket socket) {
  serving_++;
  idle_.reset();
  asio::steady_timer bound(job_.executor(), 5s);
  auto waiting = std::make_shared<bool>(true);  // the timer's handler may come after this coroutine
  bound.async_wait([&socket, waiting](const boost::system::error_code& error) {
    if (!error && *waiting) socket.cancel();
  });
  auto request = co_await receive(socket);  // read in any case: who is refused shall read why
  *waiting = false;
  control::Reply reply;
  if (auto allowed = check_caller(socket, job_.user()); !allowed)
    reply = failure(allowed.error());
  else
    reply = request ? co_await answer(socket, *request) : failure(request.error());
  const std::string bytes = wire::frame(reply.SerializeAsString());
  co_await asio::async_write(socket, asio::buffer(bytes), kQuietly);
  if (--serving_ == 0) idle_.set();
}

Task<control::Reply> ControlServer::answer(Socket& socket, const control::Request& request) {
  if (request.version() != wire::kControlVersion)
    co_return failure(Error(
        ErrorKind::kProtocol,
        "the job's agent speaks version " + std::to_string(wire::kControlVersion) +
            " of the control protocol, the command version " + std::to_string(request.version())));
  if (request.has_status()) co_return co_await status();
  if (request.has_checkpoint()) co_return co_await checkpoint(socket, request.checkpoint().stop());
  co_return failure(Error(ErrorKind::kProtocol, "the job's agent does not know this request"));
}

Task<control::Reply> ControlServer::checkpoint(Socket& socket, bool stop) {
  ClientSink sink(socket);
  auto outcome = co_await checkpointer_.take(stop, sink);
  if (!outcome) co_return failure(outcome.error());
  announce(job_, *outcome);
  control::Reply reply;
  auto& r = *reply.mutable_checkpoint();
  r.set_epoch(outcome->epoch);
  r.set_path(outcome->path);
  r.set_stop_ms(static_cast<uint64_t>(outcome->stood_still.count()));
  r.set_total_ms(static_cast<uint64_t>(outcome->total.count()));
  r.set_memory_bytes(outcome->memory_bytes);
  r.set_stored_bytes(outcome->stored_bytes);
  r.set_stopped(stop);
  co_return reply;
}

Task<control::Reply> ControlServer::status() {
  control::Reply reply;
  auto& r = *reply.mutable_status();
  const auto& about = job_.about();
  r.set_job(about.job);
  r.set_user(about.user);
  r.set_phase(job_.phase());
  r.set_ranks(about.ranks);
  r.set_started(job_.started());
  r.set_restarted_from(about.restarted_from);
  r.set_latest_epoch(checkpointer_.last_epoch());
  r.set_latest_created(checkpointer_.last_created());
  r.set_interval_ms(static_cast<uint64_t>(job_.policy().interval.count()));
  r.set_next_ms(static_cast<uint64_t>(interval_.until_next().count()));
  r.set_directory(job_.directory());
  r.set_last_failure(checkpointer_.last_failure());
  r.set_agent_pid(::getpid());
  r.set_init_pid(job_.init_pid());
  r.set_stop_ms(static_cast<uint64_t>(checkpointer_.last_stop().count()));
  for (auto& rank : co_await job_.look(Deadline::in(kLookWait))) *r.add_rank() = std::move(rank);
  co_return reply;
}

}  // namespace stillpoint::agent
