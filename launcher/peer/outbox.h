// Messages that go out over a connection in order, without waiting for room: for those that come
// from where nobody can wait.
//
// One io_context, one thread.
#pragma once

#include <functional>
#include <memory>

#include "launcher/peer/connection.h"

namespace stillpoint::peer {

class Outbox {
 public:
  // `failed`: once, where sending failed, which also ends the connection (else the peer would wait
  // for what was not sent); what is put in afterwards goes nowhere.
  Outbox(const asio::any_io_executor& executor, std::shared_ptr<Connection> connection,
         std::function<void(const Error&)> failed);
  ~Outbox();
  Outbox(const Outbox&) = delete;

  void put(Message message);
  Task<bool> sent_all(Deadline deadline);  // handed to the connection; false: not by then

 private:
  struct State;
  static Task<> send_loop(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace stillpoint::peer
