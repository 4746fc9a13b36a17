// The network of a job over several nodes.  Each container has a device `mpi0` with an address that
// follows from its index and never changes, so that TCP connections between ranks survive a restart
// on any nodes.  mpi0 is a VXLAN device: made in the node's network namespace, where it keeps its
// UDP socket, and put into the container's.  Where the other containers are (node and UDP port) is
// written into it by connect(), and can be changed while connections stand.  There is no learning,
// no broadcast and no ARP: who is not in the list cannot be spoken to.
//
// It carries IPv4 between the containers of one job and nothing else, so the subnet is the same in
// every job: 100.64.0.0/16, of the range set aside for carriers (RFC 6598), which sites do not use
// for their nodes; an MPI library that looks at addresses will not take it for the site's network.
// Index i has the i+1st host address (so 65534 containers at most) and the MAC 02:53:50:00:..:..
//
// mpi0 goes with the container's network namespace, and with the node's.  Containers of one job
// that share a node reach each other from Linux 6.5 on (mpi_network.cc).
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "common/deadline.h"
#include "common/error.h"

namespace stillpoint::container::mpi_network {

inline constexpr const char* kDevice = "mpi0";
inline constexpr uint32_t kMostContainers = 65534;
inline constexpr int kPrefixLength = 16;
inline constexpr uint32_t kOverhead = 50;  // what VXLAN over IPv4 takes of the underlay's MTU

Result<std::string> address_of(uint32_t index);  // "100.64.0.1" for 0; kUsage if out of range
Result<std::string> mac_of(uint32_t index);      // "02:53:50:00:00:01" for 0

struct PortRange {
  uint16_t first = 0, last = 0;  // both belong to it
};
Result<> check(const PortRange& ports);  // kUsage if empty or with port 0

struct Spec {
  uint32_t vni = 0;    // 1 to 2^24-1; a restart takes a new one, lest a lost node's containers
                       // speak into it
  uint32_t index = 0;  // of the container in its job
  std::string local;   // the node's IPv4 address that the tunnels use; on a device of the node
  PortRange ports;     // the container gets the first that is free on the node
  int ns = -1;         // descriptor of the container's network namespace; not owned
};

// All of these work in forked children, so the caller has one thread only; it is in the node's
// network namespace and stays there.

// Makes mpi0, up and with no far ends yet; returns its UDP port.  Also makes TCP of the namespace
// patient and quick to go on after a lock (mpi_network.cc); sockets made before do not have that.
// kUsage: the spec is nonsense; kBusy: no port is free, or there is an mpi0 already; kNotFound:
// the node has no such address.  Nothing is left behind by an error other than kTimeout, after
// which remove() cleans up.
Result<uint16_t> create(const Spec& spec, Deadline deadline);

struct FarEnd {
  uint32_t index = 0;
  std::string node;   // IPv4 address
  uint16_t port = 0;  // what create() returned there
};
// Writes the far ends into mpi0, in place of all that it had; those that are in both lists are not
// interrupted.  Sets the MTU to fit the routes to them.  kUsage, with nothing changed, if one is
// nonsense or listed twice.  The container itself may be among them.
Result<> connect(int ns, std::span<const FarEnd> peers, Deadline deadline);

// Takes mpi0 and its lock (network_lock.h) away; nothing there: no error.
Result<> remove(int ns, Deadline deadline);

}  // namespace stillpoint::container::mpi_network
