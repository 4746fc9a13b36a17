// Versions of the protocols.  Raise one when a message changes its meaning; fields may be added
// freely.
#pragma once

#include <cstdint>

namespace stillpoint::wire {

inline constexpr unsigned kLinkVersion = 1;     // link.proto: agent and supervisor
inline constexpr unsigned kControlVersion = 1;  // control.proto: command line and agent

inline constexpr uint64_t kStdinWindow = 256
                                         << 10;  // link.proto: bytes of standard input under way

}  // namespace stillpoint::wire
