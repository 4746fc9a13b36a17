#include "common/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace stillpoint {

namespace {

Exit exit_from(int status) {
  if (WIFSIGNALED(status)) return {.code = 0, .signal = WTERMSIG(status)};
  return {.code = WEXITSTATUS(status), .signal = 0};
}

}  // namespace

std::string Exit::describe() const {
  if (!signal) return "exit status " + std::to_string(code);
  const char* name = sigdescr_np(signal);
  return "killed by signal " + std::to_string(signal) +
         (name ? " (" + std::string(name) + ")" : "");
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)), pidfd_(std::move(other.pidfd_)), group_(other.group_) {}

Child& Child::operator=(Child&& other) noexcept {
  if (this != &other) {
    kill();
    pid_ = std::exchange(other.pid_, 0);
    pidfd_ = std::move(other.pidfd_);
    group_ = other.group_;
  }
  return *this;
}

Child::~Child() {
  kill();
}

void Child::send(int signal) const {
  if (pid_ <= 0) return;
  if (group_) ::kill(-pid_, signal);
  ::kill(pid_, signal);
}

Result<std::optional<Exit>> Child::poll() {
  if (pid_ <= 0) return fail(ErrorKind::kInternal, "no child to wait for");
  int status = 0;
  const pid_t got = ::waitpid(pid_, &status, WNOHANG);
  if (got == 0) return std::nullopt;
  if (got < 0) return fail_errno("waitpid");
  pid_ = 0;
  pidfd_.reset();
  return exit_from(status);
}

Result<Exit> Child::wait(Deadline deadline, std::string_view what) {
  for (;;) {
    auto ended = poll();
    if (!ended) return fail(ended.error());
    if (*ended) return **ended;
    if (deadline.passed())
      return fail(ErrorKind::kTimeout, "waited too long for " + std::string(what));
    pollfd p{pidfd_.get(), POLLIN, 0};
    if (::poll(&p, 1, deadline.poll_timeout()) < 0 && errno != EINTR) return fail_errno("poll");
  }
}

void Child::kill() {
  if (pid_ <= 0) return;
  send(SIGKILL);
  int status;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
  pidfd_.reset();
}

pid_t Child::release() {
  pidfd_.reset();
  return std::exchange(pid_, 0);
}

Result<Child> Child::adopt(pid_t pid) {
  const long fd = ::syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return fail_errno("pidfd_open");
  Child child;
  child.pid_ = pid;
  child.pidfd_.reset(static_cast<int>(fd));
  return child;
}

Result<Child> fork_child(const std::function<int()>& body) {
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("fork");
  if (pid == 0) _exit(body());
  return Child::adopt(pid);
}

namespace {

void close_all_but(std::vector<int> keep) {
  std::sort(keep.begin(), keep.end());
  unsigned from = 3;
  for (const int fd : keep) {
    if (fd < 3) continue;
    if (static_cast<unsigned>(fd) > from) ::close_range(from, static_cast<unsigned>(fd) - 1, 0);
    from = static_cast<unsigned>(fd) + 1;
  }
  ::close_range(from, ~0U, 0);
}

}  // namespace

Result<> fork_detached(const std::vector<int>& keep, const std::function<int()>& body) {
  auto between = fork_child([&] {
    ::setsid();
    const pid_t pid = ::fork();
    if (pid != 0) return pid < 0 ? errno : 0;
    for (int number = 1; number < NSIG; number++) ::signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    close_all_but(keep);
    _exit(body());
  });
  if (!between) return fail(between.error());
  auto exit = between->wait(Deadline::in(std::chrono::seconds(10)), "fork");
  if (!exit) return fail(exit.error());
  if (!exit->ok()) return fail(system_error("fork", exit->code));
  return {};
}

std::optional<Reaped> reap_any(bool& children_left) {
  int status = 0;
  pid_t pid;
  do pid = ::waitpid(-1, &status, WNOHANG);
  while (pid < 0 && errno == EINTR);
  children_left = pid >= 0;
  if (pid <= 0) return std::nullopt;
  return Reaped{.pid = pid, .exit = exit_from(status)};
}

Result<Output> run_program(const std::vector<std::string>& argv, Deadline deadline) {
  auto pipe = make_pipe();
  if (!pipe) return fail(pipe.error());
  std::vector<char*> args;
  for (const std::string& a : argv) args.push_back(const_cast<char*>(a.c_str()));
  args.push_back(nullptr);
  auto child = fork_child([&] {
    const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    ::dup2(null, 0);
    ::dup2(pipe->write.get(), 1);
    ::dup2(pipe->write.get(), 2);
    ::execvp(args[0], args.data());
    return errno == ENOENT ? 127 : 126;
  });
  if (!child) return fail(child.error());
  pipe->write.reset();
  Output output;
  char buffer[4096];
  for (;;) {
    pollfd p{pipe->read.get(), POLLIN, 0};
    if (::poll(&p, 1, deadline.poll_timeout()) == 0)
      return fail(ErrorKind::kTimeout, "waited too long for " + argv[0]);
    const ssize_t n = ::read(pipe->read.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    if (output.out.size() < 1 << 20) output.out.append(buffer, static_cast<size_t>(n));
  }
  auto exit = child->wait(deadline, argv[0]);
  if (!exit) return fail(exit.error());
  output.exit = *exit;
  return output;
}

}  // namespace stillpoint
