// The agent's end of the link to a supervisor (common/wire/link.proto).
#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <deque>
#include <functional>
#include <string>

#include "common/async/event.h"
#include "common/wire/frame.h"
#include "common/wire/link.pb.h"

namespace stillpoint::agent {

class Session {
 public:
  struct Handlers {
    std::function<void(const link::FromSupervisor&)> message;  // all but Hello
    std::function<void(const Error&)> lost;                    // not after close()
  };
  Session(const asio::any_io_executor& executor, Handlers handlers)
      : socket_(executor), handlers_(std::move(handlers)) {}
  ~Session() { close(); }

  // Takes a connected socket, exchanges Hellos, starts reading.  kProtocol for another version.
  Task<Result<link::Hello>> open(Fd socket, uint64_t output_taken, Deadline deadline);
  bool is_open() const { return socket_.is_open(); }
  void send(const link::ToSupervisor& message);  // queued; nothing happens while the link is closed
  void close();

 private:
  Task<Result<link::FromSupervisor>> receive();
  Task<> read_loop();
  Task<> write_loop();
  void lose(const Error& error);

  asio::local::stream_protocol::socket socket_;
  Handlers handlers_;
  wire::FrameReader frames_;
  std::deque<std::string> out_;
  bool writing_ = false;
  uint64_t generation_ = 0;  // tells a loop of an older link that its time is over
};

}  // namespace stillpoint::agent
