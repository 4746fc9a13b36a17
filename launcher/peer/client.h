// Calls a daemon.
#pragma once

#include <string>

#include "launcher/peer/connection.h"

namespace stillpoint::peer {

struct CallOptions {
  Munge munge;
  ConnectionLimits limits;
  Speaks speaks;
};

// The daemon of another node, or of this one over the network.  Errors begin with the host: it is
// unknown (kNotFound), does not answer (kTimeout), nobody listens (kNotFound), it is not ours
// (kPermission) ...
Task<Result<std::unique_ptr<Connection>>> call(std::string host, uint16_t port, CallOptions options,
                                               Deadline deadline);
// The daemon of this node, through its Unix socket.
Task<Result<std::unique_ptr<Connection>>> call_local(std::string path, CallOptions options,
                                                     Deadline deadline);

// Sends one request and awaits its reply; a failure that comes back is the error.
Task<Result<Reply>> ask(Connection& connection, Request request, Deadline deadline);

}  // namespace stillpoint::peer
