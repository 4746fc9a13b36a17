// The lock of a container's network: while it is on, whatever arrives on mpi0 is dropped, silently.
// Only what arrives: as every container of the job is locked, nothing gets through, and the
// sender's kernel sees silence, not errors.  (Dropping what leaves would be told to TCP as local
// congestion; it then probes a closed window every half second and gives up after
// tcp_retries2 probes.)  What is sent to a container that is still locked is lost and waits for its
// retransmission, so unlock all of a job before thawing any of it.  The lock is a table of the
// container's network namespace, which no process of the job can change, and goes with it.
#pragma once

#include <cstdint>

#include "common/deadline.h"
#include "common/error.h"

namespace stillpoint::container::network_lock {

inline constexpr const char* kTable = "stillpoint";  // of family netdev

struct Dropped {
  uint64_t packets = 0, bytes = 0;  // as mpi0 hands them up: several segments may be one packet
};

// `ns` is a descriptor of the container's network namespace.  All work in a forked child, so the
// caller has one thread only.

// Locked already: nothing changes, the count goes on.  mpi0 has to be there (kNotFound), up or not.
Result<> lock(int ns, Deadline deadline);
// What was dropped since lock(), but for packets of the last moment.  Not locked: nothing.
Result<Dropped> unlock(int ns, Deadline deadline);
Result<bool> locked(int ns, Deadline deadline);

}  // namespace stillpoint::container::network_lock
