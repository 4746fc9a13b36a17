// Versions of the protocols.  Raise one when a message changes its meaning; fields may be added
// freely.
#pragma once

#include <cstdint>

namespace stillpoint::wire {

inline constexpr unsigned kLinkVersion = 2;     // link.proto: agent and supervisor
inline constexpr unsigned kMeshVersion = 1;     // mesh.proto: the supervisors of a job
inline constexpr unsigned kControlVersion = 1;  // control.proto: command line and agent

// Where a supervisor listens for the others, at its address on the container network.  Below the
// range from which the kernel gives ports to those that do not ask for a certain one.
inline constexpr uint16_t kMeshPort = 7717;
// The container network's device, as ranks and supervisors see it.
inline constexpr const char* kMpiDevice = "mpi0";

// peer.proto: daemons, and commands that ask them; every version from the one to the other.
inline constexpr unsigned kLeastPeerVersion = 1, kMostPeerVersion = 1;

inline constexpr uint64_t kStdinWindow = 256
                                         << 10;  // link.proto: bytes of standard input under way

}  // namespace stillpoint::wire
