#include "launcher/agent/session.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "common/wire/versions.h"

namespace stillpoint::agent {

namespace {
constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);
}

Task<Result<link::Hello>> Session::open(Fd socket, uint64_t output_taken, Deadline deadline) {
  close();
  frames_ = wire::FrameReader();
  out_.clear();
  socket_.assign(asio::local::stream_protocol(), socket.release());
  link::ToSupervisor mine;
  mine.mutable_hello()->set_version(wire::kLinkVersion);
  mine.mutable_hello()->set_stillpoint(STILLPOINT_VERSION);
  mine.mutable_hello()->set_output_taken(output_taken);
  send(mine);

  asio::steady_timer bound(socket_.get_executor(), deadline.at());
  bound.async_wait([this](const boost::system::error_code& error) {
    if (!error) socket_.cancel();
  });
  auto first = co_await receive();
  bound.cancel();
  if (first && !first->has_hello())
    first = fail(ErrorKind::kProtocol, "the supervisor did not say hello");
  if (first && first->hello().version() != wire::kLinkVersion)
    first = fail(ErrorKind::kProtocol,
                 "the supervisor speaks version " + std::to_string(first->hello().version()) +
                     " of the link, this agent version " + std::to_string(wire::kLinkVersion),
                 "use the stillpoint that started the job: " + first->hello().stillpoint());
  if (!first) {
    close();
    co_return fail(deadline.passed() ? Error(ErrorKind::kTimeout, "the supervisor did not answer")
                                     : first.error());
  }
  asio::co_spawn(socket_.get_executor(), read_loop(), asio::detached);
  co_return first->hello();
}

void Session::send(const link::ToSupervisor& message) {
  if (!is_open()) return;
  out_.push_back(wire::frame(message.SerializeAsString()));
  if (writing_) return;
  writing_ = true;
  asio::co_spawn(socket_.get_executor(), write_loop(), asio::detached);
}

void Session::close() {
  generation_++;
  boost::system::error_code ignored;
  socket_.close(ignored);
}

Task<Result<link::FromSupervisor>> Session::receive() {
  for (;;) {
    auto payload = frames_.next();
    if (!payload) co_return fail(payload.error());
    if (*payload) {
      link::FromSupervisor message;
      if (!message.ParseFromString(**payload))
        co_return fail(ErrorKind::kProtocol, "the supervisor sent a message that cannot be parsed");
      co_return message;
    }
    char buffer[65536];
    const auto [error, n] = co_await socket_.async_read_some(asio::buffer(buffer), kQuietly);
    if (error) co_return fail(ErrorKind::kIo, "the link to the supervisor: " + error.message());
    frames_.feed({buffer, n});
  }
}

Task<> Session::read_loop() {
  const uint64_t mine = generation_;
  for (;;) {
    auto message = co_await receive();
    if (generation_ != mine) co_return;
    if (!message) {
      lose(message.error());
      co_return;
    }
    handlers_.message(*message);
    if (generation_ != mine) co_return;
  }
}

Task<> Session::write_loop() {
  while (!out_.empty() && is_open()) {
    const std::string bytes = std::move(out_.front());
    out_.pop_front();
    // A failure shows at the reading side, too, and is handled there.
    co_await asio::async_write(socket_, asio::buffer(bytes), kQuietly);
  }
  writing_ = false;
}

void Session::lose(const Error& error) {
  close();
  handlers_.lost(error);
}

}  // namespace stillpoint::agent
