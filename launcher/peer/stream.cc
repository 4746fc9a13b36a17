#include "launcher/peer/stream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <cstring>

#include "common/wire/frame.h"

namespace stillpoint::peer {

namespace {

constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);

// Ends what waits for the socket at the deadline, while it lives.
class Bound {
 public:
  Bound(Socket& socket, Deadline deadline)
      : timer_(socket.get_executor(), deadline.at()), alive_(std::make_shared<bool>(true)) {
    timer_.async_wait([&socket, alive = alive_](const boost::system::error_code& error) {
      boost::system::error_code ignored;
      if (!error && *alive) socket.cancel(ignored);
    });
  }
  ~Bound() { *alive_ = false; }
  Bound(const Bound&) = delete;
  Bound& operator=(const Bound&) = delete;

 private:
  asio::steady_timer timer_;
  std::shared_ptr<bool> alive_;  // the handler may be queued already when this object goes
};

Error explained(const boost::system::error_code& error, Deadline deadline) {
  if (deadline.passed()) return Error(ErrorKind::kTimeout, "no answer in time");
  if (error == asio::error::eof || error == asio::error::connection_reset ||
      error == asio::error::broken_pipe)
    return Error(ErrorKind::kIo, "the other side has closed the connection");
  return Error(ErrorKind::kIo, error.message());
}

std::string text_of(const sockaddr_storage& address) {
  if (address.ss_family == AF_UNIX) return "this node";
  if (address.ss_family != AF_INET) return "a closed connection";
  sockaddr_in in{};
  std::memcpy(&in, &address, sizeof in);
  char text[INET_ADDRSTRLEN] = {};
  ::inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
  return std::string(text) + ":" + std::to_string(ntohs(in.sin_port));
}

template <typename Get>
sockaddr_storage address_from(const Socket& socket, Get get) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto& mutable_socket = const_cast<Socket&>(socket);  // native_handle() is not const
  if (get(mutable_socket.native_handle(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    address.ss_family = AF_UNSPEC;
  return address;
}

}  // namespace

Result<Socket> make_socket(const asio::any_io_executor& executor, Fd fd) {
  int family = 0;
  socklen_t size = sizeof family;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_DOMAIN, &family, &size) != 0)
    return fail_errno("SO_DOMAIN");
  Socket socket(executor);
  boost::system::error_code error;
  socket.assign(asio::generic::stream_protocol(family, 0), fd.get(), error);
  if (error) return fail(ErrorKind::kSystem, "taking a connection: " + error.message());
  fd.release();
  return socket;
}

Task<Result<Message>> read_message(Socket& socket, size_t most, Deadline deadline) {
  const Bound bound(socket, deadline);
  std::array<unsigned char, 4> head{};
  if (const auto [error, n] = co_await asio::async_read(socket, asio::buffer(head), kQuietly);
      error) {
    if (error == asio::error::eof && n > 0)
      co_return fail(ErrorKind::kProtocol, "the connection ended in the middle of a message");
    co_return fail(explained(error, deadline));
  }
  size_t size = 0;
  for (size_t i = 0; i < head.size(); i++) size |= size_t{head[i]} << (8 * i);
  if (size > most)
    co_return fail(ErrorKind::kProtocol, "a message of " + std::to_string(size) +
                                             " bytes, at most " + std::to_string(most) +
                                             " are allowed");
  std::string payload(size, '\0');
  if (const auto [error, n] = co_await asio::async_read(socket, asio::buffer(payload), kQuietly);
      error) {
    if (error == asio::error::eof)
      co_return fail(ErrorKind::kProtocol, "the connection ended in the middle of a message");
    co_return fail(explained(error, deadline));
  }
  Message message;
  if (!message.ParseFromString(payload) || message.body_case() == Message::BODY_NOT_SET)
    co_return fail(ErrorKind::kProtocol, "a message that cannot be understood");
  co_return message;
}

Task<Result<>> write_message(Socket& socket, const Message& message, Deadline deadline) {
  const Bound bound(socket, deadline);
  const std::string bytes = wire::frame(message.SerializeAsString());
  const auto [error, n] = co_await asio::async_write(socket, asio::buffer(bytes), kQuietly);
  if (error) co_return fail(explained(error, deadline));
  co_return Result<>();
}

std::string far_end(const Socket& socket) {
  return text_of(address_from(socket, ::getpeername));
}
std::string near_end(const Socket& socket) {
  return text_of(address_from(socket, ::getsockname));
}
bool is_local(const Socket& socket) {
  return address_from(socket, ::getsockname).ss_family == AF_UNIX;
}

Message refusal(const Error& error) {
  Message message;
  message.mutable_refusal()->set_kind(static_cast<int>(error.kind()));
  message.mutable_refusal()->set_what(error.what());
  message.mutable_refusal()->set_remedy(error.remedy());
  return message;
}

Error error_of(const Failure& failure) {
  switch (const auto kind = static_cast<ErrorKind>(failure.kind())) {
    case ErrorKind::kUsage:
    case ErrorKind::kDamaged:
    case ErrorKind::kNotFound:
    case ErrorKind::kUnfit:
    case ErrorKind::kSystem:
    case ErrorKind::kNoSpace:
    case ErrorKind::kIo:
    case ErrorKind::kBusy:
    case ErrorKind::kProtocol:
    case ErrorKind::kPermission:
    case ErrorKind::kTimeout:
    case ErrorKind::kNotExecutable:
    case ErrorKind::kNoSuchProgram:
      return Error(kind, failure.what(), failure.remedy());
    default:  // of a later version, or nonsense: it must not become our exit status
      return Error(ErrorKind::kInternal, failure.what(), failure.remedy());
  }
}

}  // namespace stillpoint::peer
