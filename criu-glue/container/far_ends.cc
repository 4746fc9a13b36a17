// connect(): for each far end a permanent neighbour (address -> MAC) and an entry of the forwarding
// table (MAC -> node and UDP port).  New ones replace old ones in place, so that a connection to a
// far end that stays is not interrupted; what is not in the list goes at the end.
#include <arpa/inet.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/route/nexthop.h>

#include <algorithm>
#include <new>
#include <optional>
#include <set>
#include <vector>

#include "criu-glue/container/in_namespace.h"
#include "criu-glue/container/mpi_address.h"
#include "criu-glue/container/mpi_network.h"
#include "criu-glue/container/netlink.h"

namespace stillpoint::container::mpi_network {

namespace {

struct End {
  uint32_t index;
  in_addr node;
  uint16_t port;
};

Result<std::vector<End>> check(std::span<const FarEnd> peers) {
  if (peers.size() > kMostContainers)
    return fail(ErrorKind::kUsage, std::to_string(peers.size()) + " far ends: a job has at most " +
                                       std::to_string(kMostContainers) + " containers");
  std::vector<End> ends;
  std::set<uint32_t> seen;
  for (const FarEnd& peer : peers) {
    if (auto r = check_index(peer.index); !r) return fail(r.error());
    const std::string who = "container " + std::to_string(peer.index);
    auto node = parse_node(peer.node);
    if (!node) return fail(node.error().during(who));
    if (peer.port == 0) return fail(ErrorKind::kUsage, who + ": UDP port 0");
    if (!seen.insert(peer.index).second) return fail(ErrorKind::kUsage, who + " is listed twice");
    ends.push_back({.index = peer.index, .node = *node, .port = peer.port});
  }
  return ends;
}

// The smallest MTU on the ways to these nodes, as the node's routes say; ways within the node
// (through `lo`) do not count.  None: all are on this node.
Result<std::optional<uint32_t>> path_mtu(nl_sock* node, const std::vector<End>& ends) {
  std::set<uint32_t> nodes;
  for (const End& end : ends) nodes.insert(end.node.s_addr);
  std::optional<uint32_t> least;
  for (const uint32_t address : nodes) {
    rtnl_route* found = nullptr;
    const auto to = netlink_address(in_addr{address});
    if (rtnl_route_lookup(node, to.get(), &found) < 0) continue;  // no way there (yet)
    const Netlink<rtnl_route> route(found);
    rtnl_nexthop* hop = rtnl_route_nexthop_n(found, 0);
    rtnl_link* out = nullptr;
    if (!hop || rtnl_link_get_kernel(node, rtnl_route_nh_get_ifindex(hop), nullptr, &out) < 0)
      continue;
    const Netlink<rtnl_link> link(out);
    if (rtnl_link_get_flags(out) & IFF_LOOPBACK) continue;
    uint32_t mtu = rtnl_link_get_mtu(out), metric = 0;
    if (rtnl_route_get_metric(found, RTAX_MTU, &metric) == 0 && metric > 0)
      mtu = std::min(mtu, metric);
    least = std::min(least.value_or(mtu), mtu);
  }
  return least;
}

Netlink<rtnl_neigh> entry(int device, int family) {
  Netlink<rtnl_neigh> neigh(rtnl_neigh_alloc());
  if (!neigh) throw std::bad_alloc();
  rtnl_neigh_set_ifindex(neigh.get(), device);
  rtnl_neigh_set_family(neigh.get(), family);
  return neigh;
}

int add_neighbour(nl_sock* inside, int device, const End& end) {
  const auto neigh = entry(device, AF_INET);
  rtnl_neigh_set_dst(neigh.get(), netlink_address(ip_of(end.index)).get());
  rtnl_neigh_set_lladdr(neigh.get(), netlink_address(mac_bytes(end.index)).get());
  rtnl_neigh_set_state(neigh.get(), NUD_PERMANENT);
  return rtnl_neigh_add(inside, neigh.get(), NLM_F_CREATE | NLM_F_REPLACE);
}

// libnl takes neither an IPv4 address for an entry of this family nor a port: both are put behind
// what it wrote.
int add_forwarding(nl_sock* inside, int device, const End& end) {
  const auto neigh = entry(device, AF_BRIDGE);
  rtnl_neigh_set_lladdr(neigh.get(), netlink_address(mac_bytes(end.index)).get());
  rtnl_neigh_set_state(neigh.get(), NUD_PERMANENT | NUD_NOARP);
  rtnl_neigh_set_flags(neigh.get(), NTF_SELF);
  nl_msg* raw = nullptr;
  const int rc = rtnl_neigh_build_add_request(neigh.get(), NLM_F_CREATE | NLM_F_REPLACE, &raw);
  if (rc < 0) return rc;
  Netlink<nl_msg> message(raw);
  int put = nla_put(raw, NDA_DST, sizeof end.node, &end.node);
  if (put >= 0) put = nla_put_u16(raw, NDA_PORT, htons(end.port));
  if (put < 0) return put;
  return nl_send_sync(inside, message.release());  // frees it
}

// What mpi0 has of one family and is not in the list.
Result<> drop_others(nl_sock* inside, int device, int family, const std::set<Mac>& stay) {
  nl_cache* raw = nullptr;
  if (const int rc = rtnl_neigh_alloc_cache_flags(inside, &raw, NL_CACHE_AF_ITER); rc < 0)
    return fail_netlink("listing the far ends", rc);
  const Netlink<nl_cache> all(raw);
  for (nl_object* o = nl_cache_get_first(raw); o; o = nl_cache_get_next(o)) {
    auto* old = reinterpret_cast<rtnl_neigh*>(o);
    nl_addr* lladdr = rtnl_neigh_get_lladdr(old);
    if (rtnl_neigh_get_ifindex(old) != device || rtnl_neigh_get_family(old) != family) continue;
    if (!(rtnl_neigh_get_state(old) & NUD_PERMANENT)) continue;
    Mac mac{};
    if (!lladdr || nl_addr_get_len(lladdr) != mac.size()) continue;
    std::copy_n(static_cast<const uint8_t*>(nl_addr_get_binary_addr(lladdr)), mac.size(),
                mac.begin());
    if (stay.contains(mac)) continue;
    const auto gone = entry(device, family);
    rtnl_neigh_set_lladdr(gone.get(), lladdr);
    if (family == AF_BRIDGE)
      rtnl_neigh_set_flags(gone.get(), NTF_SELF);  // without its node: all of this MAC
    else
      rtnl_neigh_set_dst(gone.get(), rtnl_neigh_get_dst(old));
    if (const int rc = rtnl_neigh_delete(inside, gone.get(), 0); rc < 0 && rc != -NLE_OBJ_NOTFOUND)
      return fail_netlink("taking a far end away", rc);
  }
  return {};
}

Result<> set_mtu(nl_sock* inside, int device, uint32_t mtu) {
  const Netlink<rtnl_link> which(rtnl_link_alloc()), wanted(rtnl_link_alloc());
  if (!which || !wanted) throw std::bad_alloc();
  rtnl_link_set_ifindex(which.get(), device);
  rtnl_link_set_mtu(wanted.get(), mtu);
  if (const int rc = rtnl_link_change(inside, which.get(), wanted.get(), 0); rc < 0)
    return fail_netlink("setting the MTU to " + std::to_string(mtu), rc);
  return {};
}

// In the child, in the node's namespace at first.
Result<std::string> connect_here(int ns, const std::vector<End>& ends) {
  auto node = route_socket();
  if (!node) return fail(node.error());
  auto mtu = path_mtu(node->get(), ends);
  if (!mtu) return fail(mtu.error());
  if (auto r = enter_namespace(ns); !r) return fail(r.error());
  auto inside = route_socket();
  if (!inside) return fail(inside.error());
  const int device = static_cast<int>(::if_nametoindex(kDevice));
  if (device == 0) return fail(ErrorKind::kNotFound, std::string("there is no ") + kDevice);
  if (*mtu && **mtu > kOverhead)
    if (auto r = set_mtu(inside->get(), device, **mtu - kOverhead); !r) return fail(r.error());
  std::set<Mac> stay;
  for (const End& end : ends) {
    stay.insert(mac_bytes(end.index));
    int rc = add_forwarding(inside->get(), device, end);
    if (rc >= 0) rc = add_neighbour(inside->get(), device, end);
    if (rc < 0) return fail_netlink("container " + std::to_string(end.index), rc);
  }
  for (const int family : {AF_BRIDGE, AF_INET})
    if (auto r = drop_others(inside->get(), device, family, stay); !r) return fail(r.error());
  return "";
}

}  // namespace

Result<> connect(int ns, std::span<const FarEnd> peers, Deadline deadline) {
  const std::string what = "connecting the container's network";
  auto ends = check(peers);
  if (!ends) return fail(ends.error().during(what));
  auto done = in_namespace(kOwnNamespace, what, [&] { return connect_here(ns, *ends); }, deadline);
  if (!done) return fail(done.error());
  return {};
}

}  // namespace stillpoint::container::mpi_network
