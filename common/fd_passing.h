// Descriptors from one process to another.
#pragma once

#include <utility>

#include "common/fd.h"

namespace stillpoint {

// Two connected Unix sockets, and a descriptor sent over one.  receive_fd does not wait: kIo if
// there is none.
Result<std::pair<Fd, Fd>> make_socket_pair();
Result<> send_fd(int socket, int fd);
Result<Fd> receive_fd(int socket);

}  // namespace stillpoint
