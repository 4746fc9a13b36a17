#include "launcher/daemon/daemon.h"

#include <sys/stat.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <csignal>

#include "common/log.h"
#include "common/paths.h"
#include "common/process.h"
#include "criu-glue/container/tunnel_guard.h"
#include "launcher/agent/registry.h"
#include "launcher/daemon/service.h"
#include "launcher/remote/lead_process.h"
#include "launcher/remote/part_process.h"

namespace stillpoint::daemon {

using namespace std::chrono_literals;

namespace {

constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);
constexpr auto kGuardTime = 20s;
constexpr auto kQueryTime = 30s;

Result<> guard_tunnels(const Config& config) {
  auto r = container::guard_tunnels({config.first_tunnel_port, config.last_tunnel_port},
                                    Deadline::in(kGuardTime));
  return r ? r : Result<>(fail(r.error().during("keeping users out of the tunnel ports")));
}

}  // namespace

Daemon::Daemon(asio::io_context& io, std::string file)
    : io_(io),
      file_(std::move(file)),
      node_(io.get_executor()),
      signals_(io, SIGTERM, SIGINT, SIGHUP) {
  dispatcher_.on(peer::Request::kNode,
                 [this](std::unique_ptr<peer::Connection> connection, peer::Request) {
                   return tell_of_node(std::move(connection));
                 });
  dispatcher_.on(peer::Request::kPart,
                 [this](std::unique_ptr<peer::Connection> connection, peer::Request request) {
                   return begin_part(std::move(connection), std::move(request));
                 });
  dispatcher_.on(peer::Request::kLead,
                 [this](std::unique_ptr<peer::Connection> connection, peer::Request request) {
                   return hand_on(std::move(connection), [this, request](peer::Released released) {
                     return remote::run_lead(std::move(released), request.lead(), config_);
                   });
                 });
}

Result<std::unique_ptr<Daemon>> Daemon::start(asio::io_context& io, std::string file) {
  std::unique_ptr<Daemon> daemon(new Daemon(io, std::move(file)));
  auto config = Config::load(daemon->file_);
  if (!config) return fail(config.error());
  daemon->config_ = *config;
  log::set_level(config->log_level);
  auto address = node_address(*config);
  if (!address) return fail(address.error());
  daemon->address_ = *address;
  if (::mkdir(paths::kRunDirectory, 0755) != 0 && errno != EEXIST)
    return fail_errno(paths::kRunDirectory);
  auto lock = hold_alone(paths::kDaemonLock);
  if (!lock) return fail(lock.error());
  daemon->lock_ = std::move(*lock);
  if (const unsigned swept = agent::sweep_dead_jobs())
    log::info("cleaned up after " + std::to_string(swept) + " jobs whose agents had died");
  if (auto r = guard_tunnels(*config); !r) return fail(r.error());
  auto network = daemon->listen(*config, *address);
  if (!network) return fail(network.error());
  daemon->network_ = std::move(*network);
  Daemon* self = daemon.get();
  auto local =
      peer::Listener::local(io.get_executor(), paths::kDaemonSocket, daemon->options(*config),
                            [self](std::unique_ptr<peer::Connection> c) {
                              return self->dispatcher_.serve(std::move(c));
                            });
  if (!local) return fail(local.error());
  daemon->local_ = std::move(*local);
  return daemon;
}

peer::ListenerOptions Daemon::options(const Config& config) const {
  peer::ListenerOptions options;
  options.limits.node_timeout = config.node_timeout;
  return options;
}

Result<std::unique_ptr<peer::Listener>> Daemon::listen(const Config& config,
                                                       const std::string& address) {
  return peer::Listener::tcp(
      io_.get_executor(), address, config.port, options(config),
      [this](std::unique_ptr<peer::Connection> c) { return dispatcher_.serve(std::move(c)); });
}

void Daemon::run() {
  log::info(std::string("stillpointd ") + STILLPOINT_VERSION + " serves at " + address_ + ":" +
            std::to_string(config_.port));
  asio::co_spawn(io_, await_signals(), asio::detached);
  io_.run();
}

Task<> Daemon::await_signals() {
  for (;;) {
    const auto [error, number] = co_await signals_.async_wait(kQuietly);
    if (error) continue;
    if (number != SIGHUP) break;
    if (auto r = co_await reload(); !r)
      log::error(r.error().during("the configuration stays as it was"));
    else
      log::info("the configuration has been read again");
  }
  notify("STOPPING=1");
  log::info("ends; jobs go on");
  network_.reset();
  local_.reset();
  io_.stop();
}

Task<Result<>> Daemon::reload() {
  auto config = Config::load(file_);
  if (!config) co_return fail(config.error());
  auto address = node_address(*config);
  if (!address) co_return fail(address.error());
  std::unique_ptr<peer::Listener> moved;
  if (*address != address_ || config->port != config_.port) {
    auto network = listen(*config, *address);
    if (!network) co_return fail(network.error());
    moved = std::move(*network);
  }
  auto worker = Worker::start("guard", nullptr, [&](Progress&) -> Result<std::string> {
    if (auto r = guard_tunnels(*config); !r) return fail(r.error());
    return std::string();
  });
  auto guarded = worker ? co_await finish(std::move(*worker), Deadline::in(2 * kGuardTime))
                        : Result<std::string>(fail(worker.error()));
  if (!guarded) co_return fail(guarded.error());
  if (moved) network_ = std::move(moved);  // the old one goes once nothing can fail any more
  log::set_level(config->log_level);
  for (const auto& listener : {network_.get(), local_.get()})
    listener->limit(options(*config).limits);
  config_ = *config;
  address_ = *address;
  co_return Result<>();
}

// Jobs' processes act for users as the lead tells them: only root, on a node with the site's key,
// may be one.
Task<> Daemon::begin_part(std::unique_ptr<peer::Connection> connection, peer::Request request) {
  if (connection->party().uid != 0) {
    co_await answer(*connection,
                    fail(ErrorKind::kPermission, "parts of jobs are made for stillpointd alone"));
    co_return;
  }
  if (agent::claims_here() >= config_.max_jobs) {
    co_await answer(*connection, fail(ErrorKind::kBusy,
                                      "the node has as many jobs as it may have (" +
                                          std::to_string(config_.max_jobs) + ")",
                                      "see max-jobs in stillpoint.conf"));
    co_return;
  }
  co_await hand_on(std::move(connection), [this, request](peer::Released released) {
    return remote::run_part(std::move(released), request.part(), config_);
  });
}

// To a process of its own, which this daemon's end does not touch.
Task<> Daemon::hand_on(std::unique_ptr<peer::Connection> connection,
                       std::function<int(peer::Released)> serve) {
  auto released = co_await connection->release(Deadline::in(kRequestTime));
  if (!released) {
    log::warning("a request came to nothing: " + released.error().line());
    co_return;
  }
  auto forked =
      fork_detached({released->socket.get()}, [&] { return serve(std::move(*released)); });
  if (!forked) log::error(forked.error());
}

Task<> Daemon::tell_of_node(std::unique_ptr<peer::Connection> connection) {
  auto node = co_await node_.answer(connection->party().uid, Deadline::in(kQueryTime));
  if (!node) {
    co_await answer(*connection, fail(node.error()));
    co_return;
  }
  peer::Reply reply;
  *reply.mutable_node() = std::move(*node);
  co_await answer(*connection, std::move(reply));
}

}  // namespace stillpoint::daemon
