// Which request is answered by what.  A connection carries one request; its handler gets both, and
// either answers and lets the connection go, or hands it (Connection::release) to a process that it
// forks, so that what was begun here does not end with this daemon.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "launcher/peer/connection.h"

namespace stillpoint::daemon {

inline constexpr std::chrono::seconds kRequestTime{5};  // for a request to come, and for its answer

class Dispatcher {
 public:
  using Handler = std::function<Task<>(std::unique_ptr<peer::Connection>, peer::Request)>;
  void on(peer::Request::BodyCase kind, Handler handler) { handlers_[kind] = std::move(handler); }

  // Reads the request and calls its handler.  A request that nobody handles is refused in words.
  Task<> serve(std::unique_ptr<peer::Connection> connection);

 private:
  std::map<peer::Request::BodyCase, Handler> handlers_;
};

// Sends a reply as the last of this connection, and closes.
Task<> answer(peer::Connection& connection, Result<peer::Reply> reply);

}  // namespace stillpoint::daemon
