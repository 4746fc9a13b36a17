// stillpointd: the agent of a node, as a daemon.  It accepts connections, knows who is there, reads
// one request from each and has it answered; that is all.  Jobs are processes of their own, which
// its end, its crash and its restart do not touch.
//
// One io_context, one thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <memory>
#include <string>

#include "common/config.h"
#include "launcher/daemon/dispatcher.h"
#include "launcher/daemon/node_query.h"
#include "launcher/peer/listener.h"

namespace stillpoint::daemon {

class Daemon {
 public:
  // Reads the configuration (`file`; empty: where it is by default), claims the node for itself,
  // cleans up after agents that died, guards the tunnels and listens.
  static Result<std::unique_ptr<Daemon>> start(asio::io_context& io, std::string file);
  // Serves until SIGTERM or SIGINT; SIGHUP reads the configuration again, and leaves everything as
  // it is if there is an error in it.
  void run();

 private:
  Daemon(asio::io_context& io, std::string file);
  Result<std::unique_ptr<peer::Listener>> listen(const Config& config, const std::string& address);
  peer::ListenerOptions options(const Config& config) const;
  Task<> await_signals();
  Task<Result<>> reload();
  Task<> tell_of_node(std::unique_ptr<peer::Connection> connection);
  Task<> begin_part(std::unique_ptr<peer::Connection> connection, peer::Request request);
  Task<> hand_on(std::unique_ptr<peer::Connection> connection,
                 std::function<int(peer::Released)> serve);

  asio::io_context& io_;
  const std::string file_;
  Config config_;
  std::string address_;
  Fd lock_;
  NodeQuery node_;
  Dispatcher dispatcher_;
  asio::signal_set signals_;
  std::unique_ptr<peer::Listener> network_, local_;
};

}  // namespace stillpoint::daemon
