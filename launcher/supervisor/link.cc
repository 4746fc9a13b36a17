#include "launcher/supervisor/link.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/write.hpp>
#include <utility>

#include "common/log.h"
#include "common/wire/frame.h"
#include "common/wire/versions.h"

namespace stillpoint::supervisor {

namespace {

using Socket = asio::local::stream_protocol::socket;
using ErrorCode = boost::system::error_code;

// The kernel's word on who called.  An agent outside of our pid namespace has pid 0 here; its user
// is what counts.
bool may_call(Socket& socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return false;
  return peer.uid == 0 || peer.uid == ::geteuid();
}

}  // namespace

// One agent's connection.  Kept alive by the operations under way, which do nothing more once it is
// closed.
class Link::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Link& link, Socket socket) : link_(link), socket_(std::move(socket)) {}

  bool greeted() const { return greeted_ && !closing_; }
  size_t queued() const { return queue_.size() + writing_.size(); }

  void start() {
    link::FromSupervisor hello;
    *hello.mutable_hello() = link_.handlers_.hello();
    send(hello);
    read();
  }

  void send(const link::FromSupervisor& message) {
    queue_ += wire::frame(message.SerializeAsString());
    write();
  }

  void close_when_sent() {
    closing_ = true;
    if (queued() == 0) lose({});
  }

  void tick() {
    if (greeted_ && !closing_)
      ticks_ = 0;
    else if (++ticks_ >= kHelloTicks)
      lose(closing_ ? "the agent does not read what it was sent last" : "no Hello came");
  }

  void close() {
    ErrorCode ignored;
    socket_.close(ignored);
  }

 private:
  void lose(const std::string& why) {
    if (!socket_.is_open()) return;
    close();
    link_.lost(why);
  }

  void read() {
    if (reading_ || closing_ || queued() > kMostQueued) return;
    reading_ = true;
    socket_.async_read_some(asio::buffer(buffer_),
                            [this, self = shared_from_this()](const ErrorCode& error, size_t n) {
                              reading_ = false;
                              if (!socket_.is_open() || closing_) {
                                if (error) lose(error.message());
                                return;
                              }
                              if (error) return lose(error.message());
                              frames_.feed({buffer_.data(), n});
                              if (auto r = take_frames(); !r) return lose(r.error().line());
                              if (socket_.is_open()) read();
                            });
  }

  Result<> take_frames() {
    while (socket_.is_open() && !closing_) {
      auto payload = frames_.next();
      if (!payload) return fail(payload.error());
      if (!*payload) return {};
      link::ToSupervisor message;
      if (!message.ParseFromString(**payload))
        return fail(ErrorKind::kProtocol, "a message that cannot be parsed");
      if (auto r = take(message); !r) return r;
    }
    return {};
  }

  Result<> take(const link::ToSupervisor& message) {
    if (greeted_) {
      if (message.has_hello()) return fail(ErrorKind::kProtocol, "a second Hello");
      return link_.handlers_.received(message);
    }
    if (!message.has_hello()) return fail(ErrorKind::kProtocol, "the first message is no Hello");
    if (message.hello().version() != wire::kLinkVersion)
      return fail(ErrorKind::kProtocol,
                  "the agent speaks version " + std::to_string(message.hello().version()) +
                      " of the link, we speak " + std::to_string(wire::kLinkVersion));
    greeted_ = true;
    return link_.handlers_.opened(message.hello());
  }

  void write() {
    if (!writing_.empty() || queue_.empty() || !socket_.is_open()) return;
    writing_.swap(queue_);
    asio::async_write(socket_, asio::buffer(writing_),
                      [this, self = shared_from_this()](const ErrorCode& error, size_t) {
                        writing_.clear();
                        if (!socket_.is_open()) return;
                        if (error) return lose(error.message());
                        if (!queue_.empty()) return write();
                        if (closing_) return lose({});
                        if (greeted_) link_.handlers_.drained();
                        if (socket_.is_open()) read();
                      });
  }

  Link& link_;
  Socket socket_;
  wire::FrameReader frames_;
  std::array<char, 65536> buffer_;
  std::string queue_, writing_;
  bool greeted_ = false, closing_ = false, reading_ = false;
  int ticks_ = 0;
};

Link::Link(asio::io_context& loop, Fd listening, Handlers handlers)
    : loop_(loop),
      acceptor_(loop, asio::local::stream_protocol(), listening.release()),
      handlers_(std::move(handlers)) {}

Link::~Link() {
  if (connection_) connection_->close();
}

void Link::accept() {
  accepting_ = true;
  acceptor_.async_accept([this](const ErrorCode& error, Socket socket) {
    if (error == asio::error::operation_aborted) return;
    accepting_ = false;
    if (error)  // out of descriptors, perhaps: tried again at the next tick
      return log::warning("no agent can be accepted: " + error.message());
    accepted(std::move(socket));
  });
}

void Link::accepted(Socket socket) {
  if (!may_call(socket)) {
    log::warning("a process of another user called: refused");
    return accept();
  }
  connection_ = std::make_shared<Connection>(*this, std::move(socket));
  connection_->start();
}

void Link::lost(const std::string& why) {
  connection_.reset();
  if (!why.empty()) log::warning("the link to the agent is closed: " + why);
  handlers_.closed();
  accept();
}

bool Link::open() const {
  return connection_ && connection_->greeted();
}

void Link::tick() {
  if (auto connection = connection_)
    connection->tick();
  else if (!accepting_)
    accept();
}

void Link::send(const link::FromSupervisor& message) {
  if (open()) connection_->send(message);
}

size_t Link::queued() const {
  return connection_ ? connection_->queued() : 0;
}

void Link::close_when_sent() {
  if (auto connection = connection_) connection->close_when_sent();
}

}  // namespace stillpoint::supervisor
