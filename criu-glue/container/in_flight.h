// What is still under way on a container's TCP connections: sent, and not acknowledged by the
// peer's kernel.  When the job is frozen everywhere this runs dry by itself within a few round
// trips, and a lock put on then costs no retransmission.  It need not be empty for a consistent
// cut: what is unacknowledged lies in the sender's queue and is dumped with it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/deadline.h"
#include "common/error.h"

namespace stillpoint::container {

struct Connection {
  std::string local, remote;  // "100.64.0.1:4711"
  std::string state;          // "ESTABLISHED", "SYN_SENT", ...
  uint64_t bytes = 0;         // not acknowledged; behind a closed window: waiting to be sent
  uint32_t packets = 0;       // not acknowledged
  bool closed_window = false;
};

struct InFlight {
  uint64_t connections = 0;     // with something in flight, or being made (SYN_SENT, SYN_RECV)
  uint64_t bytes = 0;           // not acknowledged
  uint64_t packets = 0;         // not acknowledged
  uint64_t closed_windows = 0;  // not among these: the peer reads nothing, so its data stays in the
                                // sender's queue, where it can stay
  std::vector<Connection> worst;  // at most 8, most bytes first, closed windows last

  bool nothing() const { return connections == 0; }
  std::string describe() const;  // one line for people
};

// Of all TCP sockets (IPv4 and IPv6) of this network namespace but those of connections within it
// (loopback addresses, or both ends the same address): a lock does not touch them.
Result<InFlight> in_flight(int ns, Deadline deadline);

// Looks, with short pauses, until nothing is in flight or the deadline has passed; returns what is
// left then.  Looks at least once.  An error only if it cannot look.
Result<InFlight> drained(int ns, Deadline deadline);

}  // namespace stillpoint::container
