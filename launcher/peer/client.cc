#include "launcher/peer/client.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstring>

namespace stillpoint::peer {

namespace {

constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);

Result<std::string> look_up(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (const int rc = ::getaddrinfo(host.c_str(), nullptr, &hints, &list); rc != 0)
    return fail(ErrorKind::kNotFound,
                std::string("the name has no IPv4 address: ") + gai_strerror(rc));
  std::string address(reinterpret_cast<const char*>(list->ai_addr), sizeof(sockaddr_in));
  ::freeaddrinfo(list);
  return address;
}

// In a worker: a name server may be slow, and Asio would look it up in a thread, which must not be
// there when we fork.
Task<Result<sockaddr_in>> resolve(std::string host, Deadline deadline) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) == 1) co_return address;
  auto worker =
      Worker::start("looking the name up", nullptr, [&](Progress&) { return look_up(host); });
  if (!worker) co_return fail(worker.error());
  auto found = co_await finish(std::move(*worker), deadline);
  if (!found) co_return fail(found.error());
  std::memcpy(&address, found->data(), std::min(found->size(), sizeof address));
  co_return address;
}

Error connect_error(const boost::system::error_code& error, Deadline deadline) {
  if (error == asio::error::connection_refused)
    return Error(ErrorKind::kNotFound, "no stillpointd listens there",
                 "start it (systemctl start stillpointd), with the same `port` on all nodes");
  if (deadline.passed() || error == asio::error::timed_out)
    return Error(ErrorKind::kTimeout, "the node does not answer",
                 "it is down, or a firewall drops what is sent to it");
  return Error(ErrorKind::kIo, error.message());
}

Task<Result<>> connect(Socket& socket, asio::generic::stream_protocol::endpoint endpoint,
                       Deadline deadline) {
  // Alone on its socket until it returns, so the timer may close it.
  auto waiting = std::make_shared<bool>(true);
  asio::steady_timer bound(socket.get_executor(), deadline.at());
  bound.async_wait([&socket, waiting](const boost::system::error_code& error) {
    boost::system::error_code ignored;
    if (!error && *waiting) socket.close(ignored);
  });
  const auto [error] = co_await socket.async_connect(endpoint, kQuietly);
  *waiting = false;
  if (error) co_return fail(connect_error(error, deadline));
  co_return Result<>();
}

Task<Result<std::unique_ptr<Connection>>> open(asio::generic::stream_protocol::endpoint endpoint,
                                               std::string name, CallOptions options,
                                               Deadline deadline) {
  Socket socket(co_await asio::this_coro::executor);
  if (auto r = co_await connect(socket, endpoint, deadline); !r)
    co_return fail(r.error().during(name));
  auto party = co_await introduce(socket, options.munge, name, deadline, options.speaks);
  if (!party) co_return fail(party.error());
  co_return std::make_unique<Connection>(std::move(socket), std::move(*party), options.limits);
}

}  // namespace

Task<Result<std::unique_ptr<Connection>>> call(std::string host, uint16_t port, CallOptions options,
                                               Deadline deadline) {
  auto address = co_await resolve(host, deadline);
  if (!address) co_return fail(address.error().during(host));
  address->sin_port = htons(port);
  const asio::generic::stream_protocol::endpoint endpoint(&*address, sizeof *address);
  co_return co_await open(endpoint, host, std::move(options), deadline);
}

Task<Result<std::unique_ptr<Connection>>> call_local(std::string path, CallOptions options,
                                                     Deadline deadline) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    co_return fail(ErrorKind::kUsage, path + ": the path is too long");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const asio::generic::stream_protocol::endpoint endpoint(&address, sizeof address);
  co_return co_await open(endpoint, path, std::move(options), deadline);
}

Task<Result<Reply>> ask(Connection& connection, Request request, Deadline deadline) {
  Message message;
  *message.mutable_request() = std::move(request);
  if (auto r = co_await connection.send(std::move(message), deadline); !r)
    co_return fail(r.error());
  auto answer = co_await connection.receive(deadline);
  if (!answer) co_return fail(answer.error());
  const std::string& where = connection.party().where;
  if (!*answer) co_return fail(ErrorKind::kIo, where + " closed the connection without an answer");
  if ((*answer)->has_refusal()) co_return fail(error_of((*answer)->refusal()).during(where));
  if (!(*answer)->has_reply())
    co_return fail(ErrorKind::kProtocol, where + " sent something else than an answer");
  Reply reply = std::move(*(*answer)->mutable_reply());
  if (reply.has_failure()) co_return fail(error_of(reply.failure()).during(where));
  co_return reply;
}

}  // namespace stillpoint::peer
