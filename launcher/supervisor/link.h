// The supervisor's end of the link to the agent (common/wire/link.proto): accepts one agent at a
// time, checks who it is, exchanges Hellos, frames messages both ways.
//
// While no link is open there is nothing but the listening socket, so that CRIU can dump us.  A
// peer that talks nonsense, or does not say Hello within a bounded time, loses its link; the job
// goes on and another agent may call. Used by the main loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <functional>
#include <memory>
#include <string>

#include "common/error.h"
#include "common/fd.h"
#include "common/wire/link.pb.h"

namespace stillpoint::supervisor {

namespace asio = boost::asio;

class Link {
 public:
  static constexpr int kHelloTicks =
      10;  // for the agent's Hello, and for it to read our last message
  static constexpr size_t kMostQueued =
      1 << 20;  // beyond it the agent is not listened to until it reads

  struct Handlers {
    std::function<link::Hello()> hello;                  // what we say first
    std::function<Result<>(const link::Hello&)> opened;  // the agent's; an error closes the link
    std::function<Result<>(const link::ToSupervisor&)> received;  // all but Hello; the same
    std::function<void()> drained;  // all that was queued has been written
    std::function<void()> closed;   // for whatever reason
  };
  // `listening`: a bound Unix stream socket.
  Link(asio::io_context& loop, Fd listening, Handlers handlers);
  ~Link();

  void accept();      // waits for an agent; by itself again after each that was lost
  bool open() const;  // Hellos are exchanged
  void tick();

  void send(
      const link::FromSupervisor& message);  // queued; nothing happens while the link is not open
  size_t queued() const;                     // bytes
  void close_when_sent();                    // no more is read; then closed

 private:
  class Connection;
  void accepted(asio::local::stream_protocol::socket socket);
  void lost(const std::string& why);

  asio::io_context& loop_;
  asio::local::stream_protocol::acceptor acceptor_;
  Handlers handlers_;
  std::shared_ptr<Connection> connection_;
  bool accepting_ = false;
};

}  // namespace stillpoint::supervisor
