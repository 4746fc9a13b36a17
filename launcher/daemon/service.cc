#include "launcher/daemon/service.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "common/process.h"

namespace stillpoint::daemon {

using namespace std::chrono_literals;

void notify(const std::string& state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (!path || (path[0] != '/' && path[0] != '@')) return;
  const size_t length = std::strlen(path);
  if (length < 2 || length >= sizeof address.sun_path) return;
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';  // an abstract name
  const Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  (void)::sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&address), size);
}

bool logs_to_journal() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat facts{};
  // The variable is inherited by programs whose standard error is another one by then.
  return stream && ::fstat(STDERR_FILENO, &facts) == 0 &&
         stream == std::to_string(facts.st_dev) + ":" + std::to_string(facts.st_ino);
}

Result<Fd> hold_alone(const std::string& path) {
  auto fd = open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0644);
  if (!fd) return fd;
  struct flock lock{};
  lock.l_type = F_WRLCK;
  if (::fcntl(fd->get(), F_SETLK, &lock) != 0) {
    if (errno != EACCES && errno != EAGAIN) return fail_errno(path);
    const bool known = ::fcntl(fd->get(), F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    return fail(ErrorKind::kBusy, "stillpointd runs on this node already" +
                                      (known ? ", as process " + std::to_string(lock.l_pid) : ""));
  }
  if (::ftruncate(fd->get(), 0) != 0) return fail_errno(path);
  if (auto r = write_all(fd->get(), std::to_string(::getpid()) + "\n"); !r)
    return fail(r.error().during(path));
  return fd;
}

namespace {

// Out of the caller's session and directory; what says "ready" then also lets the output go.
int detached(const std::function<int(const std::function<void()>& ready)>& serve, Fd& pipe) {
  if (::setsid() < 0 || ::chdir("/") != 0) return static_cast<int>(ErrorKind::kSystem);
  return serve([&pipe] {
    const auto null = open_file("/dev/null", O_RDWR);
    if (null) {
      ::dup2(null->get(), STDIN_FILENO);
      ::dup2(null->get(), STDOUT_FILENO);
    }
    (void)write_all(pipe.get(), "r");
    pipe.reset();
  });
}

}  // namespace

Result<int> in_background(const std::function<int(const std::function<void()>& ready)>& serve) {
  auto pipe = make_pipe();
  if (!pipe) return fail(pipe.error());
  auto child = fork_child([&] { return detached(serve, pipe->write); });
  if (!child) return fail(child.error());
  pipe->write.reset();
  const auto deadline = Deadline::in(120s);
  char byte = 0;
  for (;;) {
    pollfd p{pipe->read.get(), POLLIN, 0};
    const int ready = ::poll(&p, 1, deadline.poll_timeout());
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return fail(ErrorKind::kTimeout, "stillpointd does not get ready");
    if (::read(pipe->read.get(), &byte, 1) == 1) {
      child->release();
      return 0;
    }
    auto exit = child->wait(deadline, "stillpointd");
    if (!exit) return fail(exit.error());
    return exit->ok() ? static_cast<int>(ErrorKind::kInternal) : exit->status();
  }
}

}  // namespace stillpoint::daemon
