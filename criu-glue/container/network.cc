#include "criu-glue/container/network.h"

#include <fcntl.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>

#include "criu-glue/container/container.h"

namespace stillpoint::container {

namespace {

struct NetlinkDeleter {
  void operator()(nl_sock* socket) const { nl_socket_free(socket); }
  void operator()(rtnl_link* link) const { rtnl_link_put(link); }
};
using Socket = std::unique_ptr<nl_sock, NetlinkDeleter>;
using Link = std::unique_ptr<rtnl_link, NetlinkDeleter>;

std::unexpected<Error> fail_netlink(const std::string& what, int code) {
  return fail(ErrorKind::kSystem, what + ": " + nl_geterror(code));
}

}  // namespace

Result<> bring_loopback_up() {
  Socket socket(nl_socket_alloc());
  Link link(rtnl_link_alloc());
  if (!socket || !link) return fail(ErrorKind::kSystem, "bringing lo up: out of memory");
  if (const int rc = nl_connect(socket.get(), NETLINK_ROUTE); rc < 0)
    return fail_netlink("connecting to rtnetlink", rc);
  rtnl_link_set_name(link.get(), "lo");
  rtnl_link_set_flags(link.get(), IFF_UP);
  if (const int rc = rtnl_link_change(socket.get(), link.get(), link.get(), 0); rc < 0)
    return fail_netlink("bringing lo up", rc);
  return {};
}

// In a child, so that the caller never leaves its own namespace, not even for a moment.
Result<Fd> make_network_namespace() {
  auto ready = make_pipe(), hold = make_pipe();
  if (!ready || !hold) return fail(ErrorKind::kSystem, "making a network namespace: no pipe");
  auto child = fork_child([&] {
    hold->write.reset();
    const char* step = "";
    if (::unshare(CLONE_NEWNET) != 0)
      step = "unshare(CLONE_NEWNET) was refused";
    else if (auto r = bring_loopback_up(); !r)
      step = "lo could not be brought up in it";
    (void)write_all(ready->write.get(), std::string_view(step).empty() ? "." : step);
    ready->write.reset();
    char end;
    (void)!::read(hold->read.get(), &end, 1);  // until the caller has it, or is gone
    return 0;
  });
  if (!child) return fail(child.error());
  ready->write.reset();
  hold->read.reset();
  char answer[64];
  const ssize_t n = ::read(ready->read.get(), answer, sizeof answer);
  const std::string said(answer, n > 0 ? static_cast<size_t>(n) : 0);
  if (said != ".")
    return fail(ErrorKind::kSystem,
                "making a network namespace: " + (said.empty() ? "its maker died" : said),
                "this needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN)");
  return open_file("/proc/" + std::to_string(child->pid()) + "/ns/net", O_RDONLY);
}

}  // namespace stillpoint::container
