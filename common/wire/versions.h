// Versions of the protocols.  Raise one when a message changes its meaning; fields may be added freely.
#pragma once

namespace stillpoint::wire {

inline constexpr unsigned kLinkVersion = 1;     // link.proto: agent and supervisor
inline constexpr unsigned kControlVersion = 1;  // control.proto: command line and agent

}  // namespace stillpoint::wire
