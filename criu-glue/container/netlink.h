// libnl's objects, owned, and its errors as ours.
#pragma once

#include <netlink/addr.h>
#include <netlink/cache.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/route.h>

#include <memory>
#include <string>

#include "common/error.h"

namespace stillpoint::container {

struct NetlinkDeleter {
  void operator()(nl_sock* p) const { nl_socket_free(p); }
  void operator()(nl_cache* p) const { nl_cache_free(p); }
  void operator()(nl_addr* p) const { nl_addr_put(p); }
  void operator()(nl_msg* p) const { nlmsg_free(p); }
  void operator()(rtnl_link* p) const { rtnl_link_put(p); }
  void operator()(rtnl_addr* p) const { rtnl_addr_put(p); }
  void operator()(rtnl_neigh* p) const { rtnl_neigh_put(p); }
  void operator()(rtnl_route* p) const { rtnl_route_put(p); }
};
template <typename T>
using Netlink = std::unique_ptr<T, NetlinkDeleter>;

// `code` is what libnl returned.  In use: kBusy, not there: kNotFound, not allowed: kPermission.
std::unexpected<Error> fail_netlink(const std::string& what, int code);

// A socket for links, addresses, neighbours and routes of the network namespace that the caller is
// in now; it stays with that namespace.
Result<Netlink<nl_sock>> route_socket();

}  // namespace stillpoint::container
