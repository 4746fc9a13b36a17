#include "common/fd_passing.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstring>

namespace stillpoint {

Result<std::pair<Fd, Fd>> make_socket_pair() {
  int both[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both) != 0)
    return fail_errno("socketpair");
  return std::pair(Fd(both[0]), Fd(both[1]));
}

namespace {

// One byte, and room for one descriptor beside it.
struct Parcel {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  Parcel() {
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
  }
};

}  // namespace

Result<> send_fd(int socket, int fd) {
  Parcel parcel;
  cmsghdr* head = CMSG_FIRSTHDR(&parcel.message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
  if (::sendmsg(socket, &parcel.message, MSG_NOSIGNAL) < 0)
    return fail_errno("sending a descriptor");
  return {};
}

Result<Fd> receive_fd(int socket) {
  Parcel parcel;
  if (::recvmsg(socket, &parcel.message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
    return fail_errno("receiving a descriptor");
  const cmsghdr* head = CMSG_FIRSTHDR(&parcel.message);
  if (!head || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(sizeof(int)))
    return fail(ErrorKind::kIo, "no descriptor was sent");
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(head), sizeof fd);
  return Fd(fd);
}

}  // namespace stillpoint
