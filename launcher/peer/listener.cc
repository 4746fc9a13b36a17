#include "launcher/peer/listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstring>
#include <list>

#include "common/log.h"
#include "launcher/peer/failure_log.h"

namespace stillpoint::peer {

using namespace std::chrono_literals;

namespace {

constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);

Error bind_error(const std::string& address, uint16_t port, int error_number) {
  const std::string where = address + ":" + std::to_string(port);
  switch (error_number) {
    case EADDRINUSE:
      return Error(ErrorKind::kBusy, "another program listens on " + where + " already",
                   "see `ss -ltnp`, or set another `port` on all nodes");
    case EADDRNOTAVAIL:
      return Error(ErrorKind::kNotFound, "this node has no address " + address,
                   "set `address` to one of those that `ip -4 addr` shows");
    case EACCES:
      return Error(ErrorKind::kPermission, "only root may listen on port " + std::to_string(port));
    default:
      return system_error("listening on " + where, error_number);
  }
}

// Without the port, which is another each time.
std::string host_of(const Socket& socket) {
  const std::string where = far_end(socket);
  return where.substr(0, where.find(':'));
}

}  // namespace

struct Listener::State {
  State(const asio::any_io_executor& executor, int fd, ListenerOptions given, Serve what)
      : listening(executor, fd), options(std::move(given)), handler(std::move(what)) {}

  asio::posix::stream_descriptor listening;
  ListenerOptions options;
  Serve handler;
  std::list<std::shared_ptr<Socket>> unknown;  // the oldest first
  std::map<uid_t, size_t> users;               // connections of each
  FailureLog failures{[](const std::string& line) { log::warning(line); }};
  bool stopped = false;
};

Result<std::unique_ptr<Listener>> Listener::tcp(const asio::any_io_executor& executor,
                                                const std::string& address, uint16_t port,
                                                ListenerOptions options, Serve serve) {
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(port);
  if (::inet_pton(AF_INET, address.c_str(), &where.sin_addr) != 1)
    return fail(ErrorKind::kUsage, "'" + address + "' is no IPv4 address");
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno("socket");
  const int on = 1;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
    return fail_errno("SO_REUSEADDR");
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0 ||
      ::listen(fd.get(), SOMAXCONN) != 0)
    return fail(bind_error(address, port, errno));
  return start(executor, std::move(fd), std::move(options), std::move(serve));
}

Result<std::unique_ptr<Listener>> Listener::local(const asio::any_io_executor& executor,
                                                  const std::string& path, ListenerOptions options,
                                                  Serve serve) {
  sockaddr_un where{};
  where.sun_family = AF_UNIX;
  if (path.size() >= sizeof where.sun_path)
    return fail(ErrorKind::kUsage, path + ": the path is too long");
  std::memcpy(where.sun_path, path.c_str(), path.size() + 1);
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno("socket");
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno(path);
  // Who may ask what is decided by SO_PEERCRED.
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0 ||
      ::chmod(path.c_str(), 0666) != 0 || ::listen(fd.get(), SOMAXCONN) != 0)
    return fail_errno(path);
  return start(executor, std::move(fd), std::move(options), std::move(serve));
}

Result<std::unique_ptr<Listener>> Listener::start(const asio::any_io_executor& executor, Fd fd,
                                                  ListenerOptions options, Serve serve) {
  auto state =
      std::make_shared<State>(executor, fd.release(), std::move(options), std::move(serve));
  asio::co_spawn(executor, accept_loop(state), asio::detached);
  return std::unique_ptr<Listener>(new Listener(std::move(state)));
}

Listener::~Listener() {
  boost::system::error_code ignored;
  state_->stopped = true;
  state_->listening.close(ignored);
  for (const auto& socket : state_->unknown) socket->close(ignored);
}

void Listener::limit(ConnectionLimits limits) {
  state_->options.limits = limits;
}

uint16_t Listener::port() const {
  sockaddr_in where{};
  socklen_t size = sizeof where;
  ::getsockname(state_->listening.native_handle(), reinterpret_cast<sockaddr*>(&where), &size);
  return ntohs(where.sin_port);
}

size_t Listener::unknown() const {
  return state_->unknown.size();
}

Task<> Listener::accept_loop(std::shared_ptr<State> s) {
  const auto executor = s->listening.get_executor();
  asio::steady_timer pause(executor);
  while (!s->stopped) {
    Fd fd(::accept4(s->listening.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd && (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR)) {
      co_await s->listening.async_wait(asio::posix::stream_descriptor::wait_read, kQuietly);
      continue;
    }
    if (!fd) {  // no descriptors or memory: that passes
      s->failures.tell("accepting a connection", system_error("accept", errno).what());
      pause.expires_after(100ms);
      co_await pause.async_wait(kQuietly);
      continue;
    }
    auto socket = make_socket(executor, std::move(fd));
    if (!socket) continue;
    if (s->unknown.size() >= s->options.most_unknown) {
      const auto oldest = s->unknown.front();
      s->failures.tell(host_of(*oldest), "dropped: it did not say who it is, and others came");
      boost::system::error_code ignored;
      s->unknown.pop_front();
      oldest->close(ignored);
    }
    auto shared = std::make_shared<Socket>(std::move(*socket));
    s->unknown.push_back(shared);
    asio::co_spawn(executor, greet(s, std::move(shared)), asio::detached);
  }
}

Task<> Listener::greet(std::shared_ptr<State> s, std::shared_ptr<Socket> socket) {
  const std::string host = host_of(*socket);
  const auto deadline = Deadline::in(s->options.handshake_time);
  auto party = co_await admit(*socket, s->options.munge, deadline, s->options.speaks);
  const bool dropped = !std::erase(s->unknown, socket);
  if (s->stopped || dropped) co_return;
  if (!party) {
    s->failures.tell(host, party.error().line());
    co_return;
  }
  if (party->uid != 0 && s->users[party->uid] >= s->options.most_per_user) {
    const Message why = refusal(Error(
        ErrorKind::kBusy, "uid " + std::to_string(party->uid) + " has too many connections open"));
    (void)co_await write_message(*socket, why, deadline);
    co_return;
  }
  co_await serve(s, std::make_unique<Connection>(std::move(*socket), *party, s->options.limits));
}

Task<> Listener::serve(std::shared_ptr<State> s, std::unique_ptr<Connection> connection) {
  const uid_t uid = connection->party().uid;
  s->users[uid]++;
  co_await s->handler(std::move(connection));
  if (--s->users[uid] == 0) s->users.erase(uid);
}

}  // namespace stillpoint::peer
