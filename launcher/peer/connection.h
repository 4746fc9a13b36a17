// An authenticated connection as a channel of messages, for coroutines.
//
// Heartbeats go out by themselves where there is nothing else to send for a quarter of
// node_timeout; who is not heard for node_timeout is lost, and so is who takes nothing for so long
// (TCP_USER_TIMEOUT).  So a node that hangs or a cable that is cut shows within that time even
// where nobody sends.  Both sides must have the same node_timeout.
//
// One io_context, one thread.  Awaited calls end before the object goes.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "common/units.h"
#include "launcher/peer/handshake.h"

namespace stillpoint::peer {

struct ConnectionLimits {
  Milliseconds node_timeout{60'000};
  size_t most_queued = 4 << 20;  // bytes that wait to be sent; send() waits while there are as many
  size_t most_unread = 16;       // messages that wait for receive(); then no more is read
};

// A connection between two messages, to be taken up again by another process.
struct Released {
  Fd socket;
  Party party;
  std::vector<Message> unread;  // that had come already, in order
};

class Connection {
 public:
  Connection(Socket socket, Party party, ConnectionLimits limits);
  // kSystem if the descriptor is no socket.
  static Result<std::unique_ptr<Connection>> resume(const asio::any_io_executor& executor,
                                                    Released released, ConnectionLimits limits);
  ~Connection();  // closes at once; what is queued is lost
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  const Party& party() const;

  // Returns once the message is queued.  kTimeout: there was no room until the deadline, and it is
  // not; kIo: the connection is lost, with the reason; kInternal: longer than a frame may be.
  Task<Result<>> send(Message message, Deadline deadline);
  // The next message; none: the peer has closed in order, after all that it sent.  kTimeout: none
  // came until the deadline, and the connection is as before; kIo: lost; kProtocol: nonsense came.
  Task<Result<std::optional<Message>>> receive(Deadline deadline);

  // Sends what is queued, then closes and waits until the peer has, too; what it still sends is
  // dropped.  kTimeout, kIo: it is not known what has arrived.  Closed in any case.
  Task<Result<>> close(Deadline deadline);
  // Sends what is queued, reads the message that has begun to come to its end, and gives the
  // descriptor (non-blocking) away; this object is then of no more use, as after an error.
  Task<Result<Released>> release(Deadline deadline);

 private:
  struct State;
  static Task<bool> fill(std::shared_ptr<State> state, asio::mutable_buffer into);
  static Task<std::optional<Message>> next_message(std::shared_ptr<State> state);
  static Task<> write_loop(std::shared_ptr<State> state);
  static Task<> read_loop(std::shared_ptr<State> state);
  static Task<> watch_loop(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace stillpoint::peer
