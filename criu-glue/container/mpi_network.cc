// create() and remove(); the far ends are in far_ends.cc.
//
// Two namespaces are at work.  A VXLAN device keeps its UDP socket in the namespace of the
// rtnetlink socket that asked for it (the node's), and IFLA_NET_NS_FD puts the device itself
// straight into the container's, so that there is no moment at which the node has a half-made
// device to lose.  The UDP port is bound when the device goes up: only then is it known to be ours.
//
// TCP of the containers.  A lock makes every packet of a connection unanswered for as long as a
// dump takes.  What is sent meanwhile is retransmitted, at intervals that double up to two minutes,
// and flows again at the next one after unlock(): on average after half the time that it was
// locked. Hence an upper limit for the interval.  But the kernel gives up after tcp_retries2
// intervals, not after a time (15: a quarter of an hour by default, 15 s with a limit of 1 s), and
// the same for probes of a closed window, so that goes up as well: with 255 intervals of 4 s it has
// more patience than by default.  The lower limit bounds what a packet costs that is sent to a peer
// that is still locked.
#include "criu-glue/container/mpi_network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/route/link/inet6.h>
#include <netlink/route/link/vxlan.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "common/fd.h"
#include "common/units.h"
#include "criu-glue/container/in_namespace.h"
#include "criu-glue/container/mpi_address.h"
#include "criu-glue/container/netlink.h"
#include "criu-glue/container/network_lock.h"

namespace stillpoint::container::mpi_network {

namespace {

constexpr uint32_t kMostVni = VXLAN_ID_MAX;
constexpr uint32_t kPlainMtu = 1500;  // of a node whose address lies on `lo`, until connect()

Result<> set_tcp(const char* name, const char* value) {
  return write_file(std::string("/proc/sys/net/ipv4/") + name, value);
}

// A kernel that is too old for one of them goes on as by default.  More retries without the shorter
// intervals would make it wait for a dead peer for hours.
Result<> set_up_tcp() {
  auto shortest = set_tcp("tcp_rto_min_us", "20000");  // Linux 6.11
  auto longest = set_tcp("tcp_rto_max_ms", "4000");    // Linux 6.15
  if (longest) longest = set_tcp("tcp_retries2", "255");
  for (const auto& r : {shortest, longest})
    if (!r && r.error().kind() != ErrorKind::kNotFound) return r;
  return {};
}

Result<> check(const Spec& spec) {
  if (auto r = check_index(spec.index); !r) return r;
  if (spec.vni == 0 || spec.vni > kMostVni)
    return fail(ErrorKind::kUsage, "network number " + std::to_string(spec.vni) +
                                       " is not one of 1 to " + std::to_string(kMostVni));
  if (auto r = parse_node(spec.local); !r) return fail(r.error());
  return check(spec.ports);
}

// The MTU of the node's device that has this address.
Result<uint32_t> underlay_mtu(nl_sock* node, in_addr local, const std::string& text) {
  nl_cache* raw = nullptr;
  if (const int rc = rtnl_addr_alloc_cache(node, &raw); rc < 0)
    return fail_netlink("listing the node's addresses", rc);
  const Netlink<nl_cache> addresses(raw);
  for (nl_object* o = nl_cache_get_first(raw); o; o = nl_cache_get_next(o)) {
    auto* address = reinterpret_cast<rtnl_addr*>(o);
    nl_addr* has = rtnl_addr_get_local(address);
    // Not nl_addr_cmp(): that would compare the prefix lengths as well.
    if (!has || nl_addr_get_len(has) != sizeof local ||
        std::memcmp(nl_addr_get_binary_addr(has), &local, sizeof local) != 0)
      continue;
    rtnl_link* found = nullptr;
    if (const int rc = rtnl_link_get_kernel(node, rtnl_addr_get_ifindex(address), nullptr, &found);
        rc < 0)
      return fail_netlink("the device of " + text, rc);
    const Netlink<rtnl_link> link(found);
    return rtnl_link_get_flags(found) & IFF_LOOPBACK ? kPlainMtu : rtnl_link_get_mtu(found);
  }
  return fail(ErrorKind::kNotFound, text + " is not an address of this node");
}

// A first look only, for speed: VXLAN devices of several jobs could share a port, and a process may
// take it after us.
bool port_looks_free(uint16_t port) {
  const Fd probe(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_port = htons(port);
  return ::bind(probe.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0 ||
         errno != EADDRINUSE;
}

Netlink<rtnl_link> new_device(const Spec& spec, in_addr local, uint16_t port, uint32_t mtu) {
  Netlink<rtnl_link> link(rtnl_link_vxlan_alloc());
  if (!link) throw std::bad_alloc();
  rtnl_link_set_name(link.get(), kDevice);
  rtnl_link_set_ns_fd(link.get(), spec.ns);
  rtnl_link_set_mtu(link.get(), mtu);
  rtnl_link_set_addr(link.get(), netlink_address(mac_bytes(spec.index)).get());
  rtnl_link_vxlan_set_id(link.get(), spec.vni);
  rtnl_link_vxlan_set_local(link.get(), netlink_address(local).get());
  rtnl_link_vxlan_set_port(link.get(), port);
  rtnl_link_vxlan_disable_learning(link.get());
  return link;
}

Result<int> index_of_device(nl_sock* inside) {
  rtnl_link* found = nullptr;
  if (const int rc = rtnl_link_get_kernel(inside, 0, kDevice, &found); rc < 0)
    return fail_netlink("finding it", rc);
  const Netlink<rtnl_link> link(found);
  return rtnl_link_get_ifindex(found);
}

int change(nl_sock* inside, int device, const Netlink<rtnl_link>& wanted) {
  const Netlink<rtnl_link> which(rtnl_link_alloc());
  if (!which || !wanted) throw std::bad_alloc();
  rtnl_link_set_ifindex(which.get(), device);
  return rtnl_link_change(inside, which.get(), wanted.get(), 0);
}

int remove_device(nl_sock* inside) {
  const Netlink<rtnl_link> which(rtnl_link_alloc());
  if (!which) throw std::bad_alloc();
  rtnl_link_set_name(which.get(), kDevice);
  return rtnl_link_delete(inside, which.get());
}

Result<> add_address(nl_sock* inside, int device, uint32_t index) {
  const Netlink<rtnl_addr> address(rtnl_addr_alloc());
  if (!address) throw std::bad_alloc();
  rtnl_addr_set_ifindex(address.get(), device);
  rtnl_addr_set_local(address.get(), netlink_address(ip_of(index)).get());
  rtnl_addr_set_prefixlen(address.get(), kPrefixLength);
  if (const int rc = rtnl_addr_add(inside, address.get(), 0); rc < 0)
    return fail_netlink("giving it its address", rc);
  return {};
}

// No IPv6 address of its own, which MPI might try.  A kernel without IPv6 refuses, rightly.
void without_ipv6(nl_sock* inside, int device) {
  const Netlink<rtnl_link> wanted(rtnl_link_alloc());
  if (wanted)
    rtnl_link_inet6_set_addr_gen_mode(wanted.get(), rtnl_link_inet6_str2addrgenmode("none"));
  (void)change(inside, device, wanted);
}

// By default a VXLAN device hands a packet for another one of the same node straight over, together
// with the route it was sent by, by which IP there throws it away.  So also these go through the
// node's UDP.  A kernel before 6.5 ignores this, and containers on one node do not reach each
// other.
int without_shortcut(nl_sock* inside, int device) {
  Netlink<nl_msg> message(nlmsg_alloc_simple(RTM_NEWLINK, 0));
  ifinfomsg header{};
  header.ifi_index = device;
  if (!message || nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO) < 0)
    return -NLE_NOMEM;
  nlattr* info = nla_nest_start(message.get(), IFLA_LINKINFO);
  if (!info || nla_put_string(message.get(), IFLA_INFO_KIND, "vxlan") < 0) return -NLE_NOMEM;
  nlattr* data = nla_nest_start(message.get(), IFLA_INFO_DATA);
  if (!data || nla_put_u8(message.get(), IFLA_VXLAN_LOCALBYPASS, 0) < 0) return -NLE_NOMEM;
  nla_nest_end(message.get(), data);
  nla_nest_end(message.get(), info);
  return nl_send_sync(inside, message.release());  // frees it
}

// kBusy: the port is taken.
Result<> bring_up(nl_sock* inside, uint32_t index) {
  auto device = index_of_device(inside);
  if (!device) return fail(device.error());
  if (auto r = add_address(inside, *device, index); !r) return r;
  without_ipv6(inside, *device);
  if (const int rc = without_shortcut(inside, *device); rc < 0)
    return fail_netlink("setting it up", rc);
  const Netlink<rtnl_link> wanted(rtnl_link_alloc());
  if (!wanted) throw std::bad_alloc();
  rtnl_link_set_flags(wanted.get(), IFF_UP);
  if (const int rc = change(inside, *device, wanted); rc < 0)
    return fail_netlink("bringing it up", rc);
  return {};
}

Result<uint16_t> take_a_port(nl_sock* node, nl_sock* inside, const Spec& spec, in_addr local,
                             uint32_t mtu) {
  for (uint32_t port = spec.ports.first; port <= spec.ports.last; port++) {
    const auto p = static_cast<uint16_t>(port);
    if (!port_looks_free(p)) continue;
    const int rc =
        rtnl_link_add(node, new_device(spec, local, p, mtu).get(), NLM_F_CREATE | NLM_F_EXCL);
    if (rc == -NLE_EXIST) continue;  // one with this network number and port, not up
    if (rc < 0) return fail_netlink("making it", rc);
    auto up = bring_up(inside, spec.index);
    if (up) return p;
    (void)remove_device(inside);
    if (up.error().kind() != ErrorKind::kBusy) return fail(up.error());
  }
  return fail(ErrorKind::kBusy, "no UDP port from " + std::to_string(spec.ports.first) + " to " +
                                    std::to_string(spec.ports.last) + " is free on this node");
}

// In the child: in the node's namespace first, so that its socket is of there.
Result<std::string> create_here(const Spec& spec) {
  auto local = parse_node(spec.local);
  auto node = route_socket();
  auto node_ns = open_file("/proc/self/ns/net", O_RDONLY);
  if (!node) return fail(node.error());
  if (!node_ns) return fail(node_ns.error());
  auto mtu = underlay_mtu(node->get(), *local, spec.local);
  if (!mtu) return fail(mtu.error());
  if (auto r = enter_namespace(spec.ns); !r) return fail(r.error());
  auto inside = route_socket();
  if (!inside) return fail(inside.error());
  if (::if_nametoindex(kDevice) != 0)
    return fail(ErrorKind::kBusy, "the container has one already");
  if (auto r = set_up_tcp(); !r) return fail(r.error());
  if (auto r = enter_namespace(node_ns->get()); !r) return fail(r.error());
  const uint32_t inner_mtu = *mtu > kOverhead ? *mtu - kOverhead : 0;
  auto port = take_a_port(node->get(), inside->get(), spec, *local, inner_mtu);
  if (!port) return fail(port.error());
  return std::to_string(*port);
}

}  // namespace

Result<> check(const PortRange& ports) {
  if (ports.first == 0 || ports.first > ports.last)
    return fail(ErrorKind::kUsage, "UDP ports " + std::to_string(ports.first) + " to " +
                                       std::to_string(ports.last) + ": not a range of ports");
  return {};
}

Result<uint16_t> create(const Spec& spec, Deadline deadline) {
  const std::string what = "making the container's network mpi0";
  if (auto r = check(spec); !r) return fail(r.error().during(what));
  auto done = in_namespace(kOwnNamespace, what, [&] { return create_here(spec); }, deadline);
  if (!done) return fail(done.error());
  auto port = parse_number(*done, "port", 1, UINT16_MAX);
  if (!port) return fail(port.error());
  return static_cast<uint16_t>(*port);
}

Result<> remove(int ns, Deadline deadline) {
  if (auto r = network_lock::unlock(ns, deadline); !r) return fail(r.error());
  const auto work = []() -> Result<std::string> {
    if (::if_nametoindex(kDevice) == 0) return "";
    auto inside = route_socket();
    if (!inside) return fail(inside.error());
    if (const int rc = remove_device(inside->get()); rc < 0 && rc != -NLE_NODEV)
      return fail_netlink("mpi0", rc);
    return "";
  };
  auto done = in_namespace(ns, "removing the container's network", work, deadline);
  if (!done) return fail(done.error());
  return {};
}

}  // namespace stillpoint::container::mpi_network
