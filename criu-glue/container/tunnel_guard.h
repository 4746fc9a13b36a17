// Keeps users of a node out of the tunnels of jobs.  A VXLAN device believes every packet that
// reaches its UDP port with the right VNI, wherever it comes from, so whoever can send UDP could
// speak as any rank.  The guard drops, on its way out of the node, every UDP packet to the ports of
// the tunnels that comes from a socket of a user other than root.  The kernel's own encapsulated
// packets pass: what they belong to is a socket of the container's network namespace, which
// nftables' `meta skuid` does not match on the node.
//
// Every node that can reach the tunnels needs it: it looks at what leaves, not at what arrives.
#pragma once

#include "common/deadline.h"
#include "common/error.h"
#include "criu-glue/container/mpi_network.h"

namespace stillpoint::container {

inline constexpr const char* kGuardTable = "stillpoint-tunnels";  // of family inet

// In the caller's network namespace, that of the node.  Replaces a guard that is there.
Result<> guard_tunnels(const mpi_network::PortRange& ports, Deadline deadline);
// No guard: no error.
Result<> unguard_tunnels(Deadline deadline);

}  // namespace stillpoint::container
