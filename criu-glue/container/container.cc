// How a container is made: the caller clones a child into new namespaces; the child joins the
// cgroup, builds its root, opens the supervisor's socket while it is root, gives privilege up and
// executes the program.  A pipe that closes on exec tells the caller which step failed, or, by
// ending, that none did.
#include "criu-glue/container/container.h"

#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/paths.h"
#include "criu-glue/container/network.h"
#include "criu-glue/container/root.h"

namespace stillpoint::container {

namespace {

constexpr uint64_t kNamespaces =
    CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWNET;
constexpr int kSocketFd = 3, kStatusFd = 4;  // of the child, just before exec

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof address.sun_path - 1));
  return address;
}

Result<Fd> listen_for_agent() {
  if (::mkdir(paths::kSupervisorDirectory, 0755) != 0)
    return fail_errno(std::string("making ") + paths::kSupervisorDirectory);
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno("making the supervisor's socket");
  const sockaddr_un address = address_of(paths::kSupervisorSocket);
  const mode_t mask = ::umask(0177);
  const int rc = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::umask(mask);
  if (rc != 0 || ::listen(fd.get(), 16) != 0)
    return fail_errno(std::string("listening on ") + paths::kSupervisorSocket);
  return fd;
}

// Standard descriptors to the container's own /dev/null, the socket at 3, the status pipe at 4,
// nothing else.
Result<> arrange_descriptors(Fd socket, int status) {
  const int s = ::fcntl(socket.get(), F_DUPFD_CLOEXEC, 16),
            t = ::fcntl(status, F_DUPFD_CLOEXEC, 16);
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (s < 0 || t < 0 || null < 0) return fail_errno("opening descriptors");
  for (const int fd : {0, 1, 2})
    if (null != fd && ::dup2(null, fd) < 0) return fail_errno("dup2");
  socket.release();
  if (::dup3(t, kStatusFd, O_CLOEXEC) < 0 || ::dup2(s, kSocketFd) < 0) return fail_errno("dup2");
  if (null <= 2) ::fcntl(null, F_SETFD, 0);
  if (::close_range(kStatusFd + 1, ~0u, 0) != 0) return fail_errno("close_range");
  return {};
}

Result<> reset_signals() {
  struct sigaction standard{};
  standard.sa_handler = SIG_DFL;
  for (int s = 1; s < NSIG; s++)
    ::sigaction(s, &standard, nullptr);  // fails for KILL and STOP alone
  sigset_t none;
  sigemptyset(&none);
  if (::sigprocmask(SIG_SETMASK, &none, nullptr) != 0) return fail_errno("sigprocmask");
  return {};
}

// The agent's session keyring would let the user's programs use root's keys.
Result<> leave_session_keyring() {
  if (::syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr) >= 0 || errno == ENOSYS)
    return {};
  return fail_errno("leaving the agent's session keyring");
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> all;
  for (const std::string& s : strings) all.push_back(const_cast<char*>(s.c_str()));
  all.push_back(nullptr);
  return all;
}

Result<> execute(const ContainerSpec& spec) {
  const auto argv = pointers(spec.program), env = pointers(spec.env);
  ::execve(argv[0], argv.data(), env.data());
  const Error error = system_error("executing " + spec.program[0] + " in the container", errno);
  return fail(
      errno == ENOENT ? ErrorKind::kNoSuchProgram : ErrorKind::kNotExecutable, error.what(),
      "it must lie on a mount that the container shows, and its user must be able to execute it");
}

// All that pid 1 does before it is the program.  Returns only to say what failed; `status` is moved
// to kStatusFd on the way.
Result<> become_init(const ContainerSpec& spec, const Cgroup& cgroup, int* status) {
  ::prctl(PR_SET_DUMPABLE,
          0);  // nobody traces or dumps this copy of the caller; exec makes it traceable again
  if (auto r = cgroup.join(); !r) return r;
  if (auto r = build_root(spec.mounts); !r) return r;
  if (::sethostname(spec.hostname.data(), spec.hostname.size()) != 0)
    return fail_errno("setting the host name");
  if (auto r = bring_loopback_up(); !r) return r;
  auto socket = listen_for_agent();
  if (!socket) return fail(socket.error());
  if (auto r = arrange_descriptors(std::move(*socket), *status); !r) return r;
  *status = kStatusFd;
  if (::setsid() < 0) return fail_errno("setsid");
  if (auto r = reset_signals(); !r) return r;
  if (auto r = become(spec.user); !r)
    return fail(r.error().during("becoming user " + spec.user.name));
  if (auto r = leave_session_keyring(); !r) return r;
  return execute(spec);
}

[[noreturn]] void report(int status, const Error& error) {
  const int kind = error.exit_status();
  std::string message(reinterpret_cast<const char*>(&kind), sizeof kind);
  message += error.what() + '\0' + error.remedy();
  (void)write_all(status, message);
  _exit(1);
}

Error reported(std::string_view message) {
  int kind = 0;
  if (message.size() <= sizeof kind)
    return Error(ErrorKind::kInternal, "the report of pid 1 was cut short");
  std::memcpy(&kind, message.data(), sizeof kind);
  message.remove_prefix(sizeof kind);
  const size_t zero = std::min(message.find('\0'), message.size());
  return Error(static_cast<ErrorKind>(kind), std::string(message.substr(0, zero)),
               std::string(message.substr(std::min(zero + 1, message.size()))));
}

Result<Child> clone_init(const ContainerSpec& spec, const Cgroup& cgroup, Pipe& status) {
  struct clone_args args{};
  args.flags = kNamespaces;
  args.exit_signal = SIGCHLD;
  const long pid = ::syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0)
    return fail(system_error("making the container's namespaces", errno).advise("this needs root"));
  if (pid == 0) {
    int fd = status.write.get();
    const auto r = become_init(spec, cgroup, &fd);
    report(fd, r.error());
  }
  auto child = Child::adopt(static_cast<pid_t>(pid));
  if (!child) ::kill(static_cast<pid_t>(pid), SIGKILL);
  return child;
}

// Until the pipe ends: without a word, the program runs (or pid 1 was killed, which its Child
// tells).
Result<> await_exec(int status, Deadline deadline) {
  std::string message;
  for (;;) {
    pollfd p{status, POLLIN, 0};
    const int n = ::poll(&p, 1, deadline.poll_timeout());
    if (n < 0 && errno != EINTR) return fail_errno("poll");
    if (n == 0)
      return fail(ErrorKind::kTimeout, "waited too long for its mounts and namespaces",
                  "one of the node's mounts may belong to a file server that does not answer");
    char buffer[4096];
    const ssize_t got = ::read(status, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    message.append(buffer, static_cast<size_t>(got));
  }
  if (!message.empty()) return fail(reported(message));
  return {};
}

}  // namespace

Result<Container> create(const ContainerSpec& spec, const Cgroup& cgroup, Deadline deadline) {
  const auto doing = "making the container " + spec.hostname;
  if (spec.program.empty() || !spec.program[0].starts_with('/'))
    return fail(ErrorKind::kInternal, doing + ": the program's path is not absolute");
  auto status = make_pipe();
  if (!status) return fail(status.error());
  auto init = clone_init(spec, cgroup, *status);
  if (!init) return fail(init.error().during(doing));
  status->write.reset();
  auto network = open_file("/proc/" + std::to_string(init->pid()) + "/ns/net", O_RDONLY);
  if (auto r = await_exec(status->read.get(), deadline); !r) return fail(r.error().during(doing));
  if (!network) return fail(network.error().during(doing));
  struct stat about{};
  if (::fstat(network->get(), &about) != 0) return fail_errno(doing);
  return Container{
      .init = std::move(*init), .network = std::move(*network), .network_inode = about.st_ino};
}

namespace {

// Nothing yet: not there, not listening, or its queue is full.
Result<Fd> try_connect(int root) {
  auto path = open_beneath(root, paths::kSupervisorSocket + 1, O_PATH);
  if (!path) return path;
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno("making a socket");
  const sockaddr_un address = address_of("/proc/self/fd/" + std::to_string(path->get()));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_errno("connecting to the supervisor");
  if (auto r = set_nonblocking(fd.get(), false); !r) return fail(r.error());
  return fd;
}

}  // namespace

Result<Fd> connect_supervisor(pid_t init, Deadline deadline) {
  const std::string process = "/proc/" + std::to_string(init);
  for (;;) {
    auto root = open_file(process + "/root", O_PATH | O_DIRECTORY);
    if (!root)
      return fail(ErrorKind::kNotFound,
                  "the container's supervisor (process " + std::to_string(init) + ") has ended");
    auto fd = try_connect(root->get());
    if (fd) return fd;
    if (deadline.passed())
      return fail(
          ErrorKind::kTimeout,
          "the container's supervisor does not take the agent's connection: " + fd.error().what());
    ::poll(nullptr, 0, std::min(10, deadline.poll_timeout()));
  }
}

}  // namespace stillpoint::container
