// Accepts connections and lets those through that the handshake knows.
//
// What is not known yet costs little: 4 KiB and 5 seconds each, `most_unknown` at a time; one more,
// and the oldest is dropped.  One user's connections are bounded, too, other than root's.
//
// One io_context, one thread.  The descriptors are close-on-exec, but not close-on-fork: a process
// forked to live on closes what it does not need.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <memory>
#include <string>

#include "launcher/peer/connection.h"

namespace stillpoint::peer {

struct ListenerOptions {
  Munge munge;
  ConnectionLimits limits;
  size_t most_unknown = 64;
  size_t most_per_user = 64;
  Milliseconds handshake_time = kHandshakeTime;
  Speaks speaks;
};

class Listener {
 public:
  // Awaited once for every connection that is let through, which it owns.
  using Serve = std::function<Task<>(std::unique_ptr<Connection>)>;

  // kBusy: the port is in use; kPermission: it is privileged; kNotFound: no such address here.
  static Result<std::unique_ptr<Listener>> tcp(const asio::any_io_executor& executor,
                                               const std::string& address, uint16_t port,
                                               ListenerOptions options, Serve serve);
  // A Unix socket that everybody may connect to; one that is there already is replaced, so hold a
  // lock.
  static Result<std::unique_ptr<Listener>> local(const asio::any_io_executor& executor,
                                                 const std::string& path, ListenerOptions options,
                                                 Serve serve);
  // Accepts no more and drops what is not known yet; connections that were let through go on.
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  void limit(ConnectionLimits limits);  // of the connections that come from now on
  uint16_t port() const;                // TCP: that listened on
  size_t unknown() const;

 private:
  struct State;
  static Result<std::unique_ptr<Listener>> start(const asio::any_io_executor& executor, Fd fd,
                                                 ListenerOptions options, Serve serve);
  explicit Listener(std::shared_ptr<State> state) : state_(std::move(state)) {}
  static Task<> accept_loop(std::shared_ptr<State> state);
  static Task<> greet(std::shared_ptr<State> state, std::shared_ptr<Socket> socket);
  static Task<> serve(std::shared_ptr<State> state, std::unique_ptr<Connection> connection);
  std::shared_ptr<State> state_;
};

}  // namespace stillpoint::peer
