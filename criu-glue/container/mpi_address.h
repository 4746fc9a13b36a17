// Addresses of the container network as the kernel wants them.  For mpi_network's own files.
#pragma once

#include <netinet/in.h>

#include <array>
#include <cstdint>
#include <string>

#include "common/error.h"
#include "criu-glue/container/netlink.h"

namespace stillpoint::container::mpi_network {

using Mac = std::array<uint8_t, 6>;

// index < kMostContainers: checked by the caller.
in_addr ip_of(uint32_t index);
Mac mac_bytes(uint32_t index);
Result<> check_index(uint32_t index);

// The IPv4 address of a node: one that a packet can be sent to, so not 0.0.0.0, multicast,
// broadcast.
Result<in_addr> parse_node(const std::string& text);

// Never null: memory for a few bytes is taken as given.
Netlink<nl_addr> netlink_address(in_addr address);
Netlink<nl_addr> netlink_address(const Mac& mac);

}  // namespace stillpoint::container::mpi_network
