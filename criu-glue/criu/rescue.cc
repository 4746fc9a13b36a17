#include "criu-glue/criu/rescue.h"

#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <sstream>

#include "common/deadline.h"
#include "criu-glue/criu/threads.h"

namespace stillpoint::criu {

namespace {

constexpr auto kFreezeTime = std::chrono::seconds(5);
constexpr auto kSaveTime = std::chrono::seconds(10);
constexpr auto kPutBackTime = std::chrono::seconds(10);

// The signal that ends it, or 0: what PTRACE_EVENT_EXIT tells has the form of a wait status.
int fatal_signal(pid_t criu) {
  unsigned long status = 0;
  ::ptrace(PTRACE_GETEVENTMSG, criu, nullptr, &status);
  return WTERMSIG(static_cast<int>(status));
}

bool is_frozen(const std::string& cgroup) {
  const auto events = read_file(cgroup + "/cgroup.events");
  if (events) return events->find("frozen 1") != events->npos;
  const auto state = read_file(cgroup + "/freezer.state");
  return state && state->starts_with("FROZEN");
}

bool end_repair_of(int pidfd, int number) {
  const Fd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, number, 0)));
  int protocol = 0, repair = 0;
  socklen_t size = sizeof protocol;
  if (!copy || ::getsockopt(copy.get(), SOL_SOCKET, SO_PROTOCOL, &protocol, &size) != 0)
    return false;
  if (protocol != IPPROTO_TCP) return true;
  size = sizeof repair;
  if (::getsockopt(copy.get(), IPPROTO_TCP, TCP_REPAIR, &repair, &size) != 0) return false;
  repair = repair ? TCP_REPAIR_OFF : -1;
  return repair < 0 ||
         ::setsockopt(copy.get(), IPPROTO_TCP, TCP_REPAIR, &repair, sizeof repair) == 0;
}

bool end_repair_in(pid_t pid) {
  const std::string directory = "/proc/" + std::to_string(pid) + "/fd";
  const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(directory.c_str()), ::closedir);
  if (!pidfd || !open) return ::kill(pid, 0) != 0;  // gone: nothing to do
  bool good = true;
  while (const dirent* entry = ::readdir(open.get())) {
    char link[32];
    const ssize_t n = ::readlinkat(::dirfd(open.get()), entry->d_name, link, sizeof link);
    if (n > 0 && std::string_view(link, static_cast<size_t>(n)).starts_with("socket:"))
      good = end_repair_of(pidfd.get(), std::atoi(entry->d_name)) && good;
  }
  return good;
}

bool freeze_group(const std::string& cgroup) {
  for (const auto& [file, word] :
       {std::pair("/cgroup.freeze", "1"), std::pair("/freezer.state", "FROZEN")})
    (void)write_file(cgroup + file, word);
  for (const auto limit = Deadline::in(kFreezeTime); !is_frozen(cgroup); ::poll(nullptr, 0, 1))
    if (limit.passed()) return false;
  return true;
}

// Of the processes of a frozen group.  True if all that were found could be seen to.
bool end_tcp_repair(const std::string& cgroup) {
  const auto text = read_file(cgroup + "/cgroup.procs");
  if (!text) return false;
  std::istringstream lines(*text);
  bool good = true;
  for (pid_t pid; lines >> pid;) good = end_repair_in(pid) && good;
  return good;
}

// Passes all signals on, until CRIU ends.  If that is by a signal, the group is frozen first.
bool watch_until_killed(pid_t criu, const std::string& cgroup) {
  bool killed = false;
  for (;;) {
    int status = 0;
    if (::waitpid(criu, &status, __WALL) < 0) {
      if (errno == EINTR) continue;
      return killed;
    }
    if (!WIFSTOPPED(status)) return killed;
    const int event = status >> 16;
    if (event == PTRACE_EVENT_EXIT && fatal_signal(criu)) {
      killed = true;
      freeze_group(cgroup);
    }
    // A stop for its whole group (SIGSTOP and the like) is left in force.
    const int signal = WSTOPSIG(status);
    const bool stopped = event == PTRACE_EVENT_STOP && signal != SIGTRAP;
    const long pass = event ? 0 : signal;
    ::ptrace(stopped ? PTRACE_LISTEN : PTRACE_CONT, criu, nullptr, reinterpret_cast<void*>(pass));
  }
}

Verdict rescue(const Result<SavedThreads>& saved, const std::string& cgroup) {
  const bool frozen = freeze_group(cgroup);
  const bool repaired = frozen && end_tcp_repair(cgroup);
  const bool back = frozen && saved && saved->put_back(Deadline::in(kPutBackTime)).has_value();
  return repaired && back ? Verdict::kRescued : Verdict::kHarmed;
}

}  // namespace

Result<Child> keep_at_death(pid_t criu, const std::string& cgroup, int verdict) {
  auto ready = make_pipe();
  if (!ready) return fail(ready.error());
  auto keeper = fork_child([&] {
    ::setsid();  // it ends with CRIU, not before
    ::signal(SIGTERM, SIG_IGN);
    ::signal(SIGCHLD, SIG_DFL);  // the driver ends itself when CRIU is killed
    if (::ptrace(PTRACE_SEIZE, criu, nullptr, PTRACE_O_TRACEEXIT) != 0) return 1;
    const auto say = [&](Verdict v) {
      const char said = static_cast<char>(v);
      return write_all(verdict, std::string_view(&said, 1)) ? 0 : 1;
    };
    (void)say(Verdict::kKeeping);
    const auto saved = SavedThreads::save(cgroup, Deadline::in(kSaveTime));
    (void)write_all(ready->write.get(), "1");
    ready->write.reset();
    const bool killed = watch_until_killed(criu, cgroup);
    return say(killed ? rescue(saved, cgroup) : Verdict::kNotNeeded);
  });
  if (!keeper) return fail(keeper.error());
  ready->write.reset();
  char held = '0';
  (void)!::read(ready->read.get(), &held, 1);
  if (held != '1') return fail(ErrorKind::kSystem, "CRIU cannot be watched with ptrace");
  return keeper;
}

Verdict await_verdict(int verdict, Deadline deadline) {
  auto last = Verdict::kUntouched;
  for (;;) {
    pollfd p{verdict, POLLIN, 0};
    const int n = ::poll(&p, 1, deadline.poll_timeout());
    if (n < 0 && errno == EINTR) continue;
    char said = 0;
    if (n > 0 && ::read(verdict, &said, 1) == 1)
      last = static_cast<Verdict>(said);
    else  // the keeper is gone, or hangs
      return last == Verdict::kKeeping ? Verdict::kHarmed : last;
  }
}

}  // namespace stillpoint::criu
