#include "launcher/peer/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <deque>

#include "common/wire/frame.h"

namespace stillpoint::peer {

namespace {

constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);
using Clock = Deadline::Clock;

Deadline at(Clock::time_point moment) {
  return Deadline::in(moment - Clock::now());
}

}  // namespace

// Shared with the loops, which end soon after the connection has gone.
struct Connection::State {
  State(Socket taken, Party who, ConnectionLimits given)
      : socket(std::move(taken)), party(std::move(who)), limits(given) {}

  void lose(Error why) {
    if (!lost) lost = why.during(party.where);
    boost::system::error_code ignored;
    socket.close(ignored);
    for (Event* event : {&work, &room, &news, &reader_room, &watch, &written, &read}) event->set();
  }
  bool over() const { return lost.has_value(); }
  Milliseconds beat() const { return limits.node_timeout / 4; }

  Socket socket;
  const Party party;
  const ConnectionLimits limits;

  std::deque<std::string> queue;  // framed
  size_t queued = 0;              // bytes, with those under way
  std::deque<Message> unread;
  Clock::time_point last_sent = Clock::now(), last_heard = Clock::now();

  bool finishing = false;   // the writer ends once the queue is empty
  bool handing_on = false;  // the reader ends between two messages
  bool dropping = false;    // what comes is of no interest any more
  bool in_message = false;  // some bytes of a message have come
  bool ended = false;       // the peer has closed
  std::optional<Error> lost;

  Event work{socket.get_executor()};         // for the writer
  Event room{socket.get_executor()};         // for send()
  Event news{socket.get_executor()};         // for receive()
  Event reader_room{socket.get_executor()};  // for the reader
  Event watch{socket.get_executor()};        // only ever set by lose()
  Event written{socket.get_executor()};      // the writer has ended
  Event read{socket.get_executor()};         // the reader has ended
};

Connection::Connection(Socket socket, Party party, ConnectionLimits limits)
    : state_(std::make_shared<State>(std::move(socket), std::move(party), limits)) {
  const int fd = state_->socket.native_handle(), on = 1;
  const auto timeout = static_cast<unsigned>(limits.node_timeout.count());
  if (!is_local(state_->socket)) {  // neither can fail on a TCP socket
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
  }
  const auto executor = state_->socket.get_executor();
  asio::co_spawn(executor, write_loop(state_), asio::detached);
  asio::co_spawn(executor, read_loop(state_), asio::detached);
  asio::co_spawn(executor, watch_loop(state_), asio::detached);
}

Result<std::unique_ptr<Connection>> Connection::resume(const asio::any_io_executor& executor,
                                                       Released released, ConnectionLimits limits) {
  auto socket = make_socket(executor, std::move(released.socket));
  if (!socket) return fail(socket.error());
  auto connection =
      std::make_unique<Connection>(std::move(*socket), std::move(released.party), limits);
  connection->state_->unread.assign(released.unread.begin(), released.unread.end());
  return connection;
}

Connection::~Connection() {
  state_->lose(Error(ErrorKind::kIo, "closed"));
}

const Party& Connection::party() const {
  return state_->party;
}

Task<Result<>> Connection::send(Message message, Deadline deadline) {
  const auto s = state_;
  if (message.ByteSizeLong() > wire::kMostFrameBytes)
    co_return fail(ErrorKind::kInternal, "a message of " + std::to_string(message.ByteSizeLong()) +
                                             " bytes is too long to be sent");
  while (!s->over() && s->queued >= s->limits.most_queued) {
    s->room.reset();
    if (!co_await s->room.wait(deadline))
      co_return fail(ErrorKind::kTimeout, s->party.where + " does not take what is sent to it");
  }
  if (s->over()) co_return fail(*s->lost);
  if (s->finishing) co_return fail(ErrorKind::kInternal, "sending on a connection being closed");
  s->queue.push_back(wire::frame(message.SerializeAsString()));
  s->queued += s->queue.back().size();
  s->work.set();
  co_return Result<>();
}

Task<Result<std::optional<Message>>> Connection::receive(Deadline deadline) {
  const auto s = state_;
  while (s->unread.empty() && !s->over() && !s->ended) {
    s->news.reset();
    if (!co_await s->news.wait(deadline))
      co_return fail(ErrorKind::kTimeout, "no message from " + s->party.where + " in time");
  }
  if (!s->unread.empty()) {
    Message next = std::move(s->unread.front());
    s->unread.pop_front();
    s->reader_room.set();
    co_return next;
  }
  if (s->over()) co_return fail(*s->lost);
  co_return std::nullopt;
}

Task<Result<>> Connection::close(Deadline deadline) {
  const auto s = state_;
  s->finishing = s->dropping = true;
  s->work.set();
  s->reader_room.set();
  bool done = co_await s->written.wait(deadline);
  boost::system::error_code ignored;
  if (done && !s->over()) {
    s->socket.shutdown(asio::socket_base::shutdown_send, ignored);
    done = co_await s->read.wait(deadline);
  }
  const auto lost = s->lost;
  s->lose(Error(ErrorKind::kIo, "closed"));
  if (lost) co_return fail(*lost);
  if (!done) co_return fail(ErrorKind::kTimeout, s->party.where + " did not close in time");
  co_return Result<>();
}

Task<Result<Released>> Connection::release(Deadline deadline) {
  const auto s = state_;
  s->finishing = s->handing_on = true;
  s->work.set();
  s->reader_room.set();
  const bool sent = co_await s->written.wait(deadline);
  boost::system::error_code error;
  if (sent && !s->over()) s->socket.cancel(error);  // the reader looks whether it may end
  const bool done = sent && co_await s->read.wait(deadline);
  if (!done && !s->over())
    s->lose(Error(ErrorKind::kTimeout, sent ? "a message that has begun to come does not end"
                                            : "what was sent is not taken"));
  if (s->over()) co_return fail(*s->lost);
  if (s->ended) co_return fail(ErrorKind::kIo, s->party.where + " has closed the connection");
  Released released{.socket = Fd(s->socket.release(error)),
                    .party = s->party,
                    .unread = {s->unread.begin(), s->unread.end()}};
  if (error) co_return fail(ErrorKind::kSystem, "giving a socket away: " + error.message());
  s->lose(Error(ErrorKind::kIo, "handed on"));
  co_return released;
}

Task<> Connection::write_loop(std::shared_ptr<State> s) {
  Message heartbeat;
  heartbeat.mutable_heartbeat();
  const std::string pulse = wire::frame(heartbeat.SerializeAsString());
  while (!s->over()) {
    if (!s->queue.empty()) {
      const std::string bytes = std::move(s->queue.front());
      s->queue.pop_front();
      const auto [error, n] = co_await asio::async_write(s->socket, asio::buffer(bytes), kQuietly);
      if (error) s->lose(Error(ErrorKind::kIo, "the connection is lost: " + error.message()));
      s->last_sent = Clock::now();
      s->queued -= bytes.size();
      s->room.set();
    } else if (s->finishing) {
      break;
    } else if (s->ended) {
      s->work.reset();
      co_await s->work.wait();
    } else if (Clock::now() - s->last_sent >= s->beat()) {
      s->queue.push_back(pulse);
      s->queued += pulse.size();
    } else {
      s->work.reset();
      co_await s->work.wait(at(s->last_sent + s->beat()));
    }
  }
  s->written.set();
}

// False: the reader is to end; why, stands in the state.
Task<bool> Connection::fill(std::shared_ptr<State> s, asio::mutable_buffer into) {
  while (into.size() > 0) {
    if (s->over() || (s->handing_on && !s->in_message)) co_return false;
    const auto [error, n] = co_await s->socket.async_read_some(into, kQuietly);
    if (s->over()) co_return false;
    into += n;
    if (n > 0) {
      s->in_message = true;
      s->last_heard = Clock::now();
    }
    if (!error || (error == asio::error::operation_aborted && s->handing_on)) continue;
    if (error != asio::error::eof)
      s->lose(Error(ErrorKind::kIo, "the connection is lost: " + error.message()));
    else if (s->in_message)
      s->lose(Error(ErrorKind::kProtocol, "the connection ended in the middle of a message"));
    else
      s->ended = true;
    co_return false;
  }
  co_return true;
}

Task<std::optional<Message>> Connection::next_message(std::shared_ptr<State> s) {
  std::array<unsigned char, 4> head{};
  if (!co_await fill(s, asio::buffer(head))) co_return std::nullopt;
  size_t size = 0;
  for (size_t i = 0; i < head.size(); i++) size |= size_t{head[i]} << (8 * i);
  if (size > wire::kMostFrameBytes) {
    s->lose(Error(ErrorKind::kProtocol, "a message of " + std::to_string(size) + " bytes came"));
    co_return std::nullopt;
  }
  std::string payload(size, '\0');
  if (!co_await fill(s, asio::buffer(payload))) co_return std::nullopt;
  s->in_message = false;
  Message message;
  if (message.ParseFromString(payload) && message.body_case() != Message::BODY_NOT_SET)
    co_return message;
  s->lose(Error(ErrorKind::kProtocol, "a message came that cannot be understood"));
  co_return std::nullopt;
}

Task<> Connection::read_loop(std::shared_ptr<State> s) {
  for (;;) {
    while (s->unread.size() >= s->limits.most_unread && !s->over() && !s->handing_on &&
           !s->dropping) {
      s->reader_room.reset();
      co_await s->reader_room.wait();
    }
    auto message = co_await next_message(s);
    if (!message) break;
    if (message->has_heartbeat() || s->dropping) continue;
    s->unread.push_back(std::move(*message));
    s->news.set();
  }
  s->read.set();
  s->news.set();
  s->work.set();
}

Task<> Connection::watch_loop(std::shared_ptr<State> s) {
  while (!s->over() && !s->ended) {
    const auto now = Clock::now();
    boost::system::error_code ignored;
    // What has come counts, too, where it is not read: for want of room, or because this process
    // stood still.
    if (s->socket.available(ignored) > 0) s->last_heard = now;
    if (now - s->last_heard >= s->limits.node_timeout)
      s->lose(Error(ErrorKind::kIo, "nothing was heard for " +
                                        format_duration(s->limits.node_timeout) +
                                        ": the node or the network to it is down"));
    else
      co_await s->watch.wait(at(s->last_heard + s->limits.node_timeout));
  }
}

}  // namespace stillpoint::peer
