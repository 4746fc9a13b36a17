// The job's control socket: what `stillpoint status` and `checkpoint` ask
// (common/wire/control.proto).
#pragma once

#include <boost/asio/local/stream_protocol.hpp>

#include "common/wire/control.pb.h"
#include "launcher/agent/checkpoint.h"
#include "launcher/agent/interval.h"
#include "launcher/agent/job.h"

namespace stillpoint::agent {

class ControlServer {
 public:
  // Listens at the job's control socket.
  static Result<std::unique_ptr<ControlServer>> start(Job& job, Checkpointer& checkpointer,
                                                      const IntervalTimer& interval);
  // Requests under way are answered before the job goes.
  Task<> idle();

 private:
  using Socket = boost::asio::local::stream_protocol::socket;
  ControlServer(Job& job, Checkpointer& checkpointer, const IntervalTimer& interval);
  Task<> accept_loop();
  Task<> serve(Socket socket);
  Task<control::Reply> answer(Socket& socket, const control::Request& request);
  Task<control::Reply> checkpoint(Socket& socket, bool stop);
  Task<control::Reply> status();

  Job& job_;
  Checkpointer& checkpointer_;
  const IntervalTimer& interval_;
  boost::asio::local::stream_protocol::acceptor acceptor_;
  unsigned serving_ = 0;
  Event idle_;
};

}  // namespace stillpoint::agent
