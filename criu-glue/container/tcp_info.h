// The kernel's struct tcp_info, in a file of its own: libnl's headers bring in the C library's
// struct of that name, which ends where the kernel's did twenty years ago.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace stillpoint::container {

struct TcpInfo {
  uint32_t unacknowledged = 0;     // packets
  uint32_t unsent = 0;             // bytes
  std::optional<uint32_t> window;  // what the peer has room for, in bytes; Linux 5.4
};

// Of what the kernel gave, which may be shorter or longer than this build's: what is missing is 0.
TcpInfo parse_tcp_info(std::span<const std::byte> bytes);

}  // namespace stillpoint::container
