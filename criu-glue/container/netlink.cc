#include "criu-glue/container/netlink.h"

#include <netlink/errno.h>

#include <cstdlib>

namespace stillpoint::container {

namespace {

ErrorKind kind_of(int code) {
  switch (std::abs(code)) {
    case NLE_EXIST:
    case NLE_BUSY:
      return ErrorKind::kBusy;
    case NLE_NODEV:
    case NLE_NOADDR:
    case NLE_OBJ_NOTFOUND:
      return ErrorKind::kNotFound;
    case NLE_PERM:
    case NLE_NOACCESS:
      return ErrorKind::kPermission;
    default:
      return ErrorKind::kSystem;
  }
}

}  // namespace

std::unexpected<Error> fail_netlink(const std::string& what, int code) {
  return fail(kind_of(code), what + ": " + nl_geterror(code));
}

Result<Netlink<nl_sock>> route_socket() {
  Netlink<nl_sock> socket(nl_socket_alloc());
  if (!socket) return fail(ErrorKind::kSystem, "rtnetlink: out of memory");
  if (const int rc = nl_connect(socket.get(), NETLINK_ROUTE); rc < 0)
    return fail_netlink("connecting to rtnetlink", rc);
  return socket;
}

}  // namespace stillpoint::container
