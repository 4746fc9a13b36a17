// stillpoint-supervisor: pid 1 of a job's container.  Started by the agent with a listening Unix
// socket as descriptor 3 and nothing else open but /dev/null.  supervisor.h says what it does.
// "--tick-ms N" is for its test: the length of what it counts as a second.
#include <fcntl.h>
#include <pmix.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>

#include "common/log.h"
#include "common/units.h"
#include "launcher/supervisor/supervisor.h"

namespace stillpoint::supervisor {
namespace {

constexpr int kListening = 3;

// For PMIx's files and Open MPI's.  /dev/shm is the container's own; the name is the user's all the
// same, so that a supervisor that runs without a container (a test) is alone with its files, too.
Result<std::string> make_session_directory() {
  std::string path = "/dev/shm/stillpoint-" + std::to_string(::geteuid());
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(path);
  struct stat s{};
  if (::lstat(path.c_str(), &s) != 0) return fail_errno(path);
  if (!S_ISDIR(s.st_mode) || s.st_uid != ::geteuid() || (s.st_mode & 0077) != 0)
    return fail(ErrorKind::kPermission, path + " is not a directory of our own with mode 0700");
  return path;
}

Result<> check_listening() {
  int listening = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(kListening, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || !listening)
    return fail(ErrorKind::kUsage, "descriptor 3 is not a listening socket",
                "this program is started by stillpoint itself");
  if (::fcntl(kListening, F_SETFD, FD_CLOEXEC) != 0) return fail_errno("fcntl");
  return {};
}

// The ranks' pipes must not get the numbers 0 to 2.
Result<> fill_standard_descriptors() {
  for (;;) {
    auto null = open_file("/dev/null", O_RDWR);
    if (!null) return fail(null.error());
    if (null->get() > 2) return {};
    null->release();
  }
}

// Blocked before PMIx starts its threads.  A write to a rank that does not read must not end us.
Result<Fd> block_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t children;
  ::sigemptyset(&children);
  ::sigaddset(&children, SIGCHLD);
  if (::sigprocmask(SIG_BLOCK, &children, nullptr) != 0) return fail_errno("sigprocmask");
  const int fd = ::signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) return fail_errno("signalfd");
  return Fd(fd);
}

Result<std::chrono::milliseconds> tick_length(int argc, char** argv) {
  if (argc == 1) return std::chrono::seconds(1);
  if (argc != 3 || std::string_view(argv[1]) != "--tick-ms")
    return fail(ErrorKind::kUsage, "stillpoint-supervisor takes no arguments but --tick-ms N",
                "this program is started by stillpoint itself");
  auto number = parse_number(argv[2], "the length of a tick", 1, 1000);
  if (!number) return fail(number.error());
  return std::chrono::milliseconds(*number);
}

// Every rank takes three descriptors of ours, here and in PMIx.  The limit as it was: the ranks get
// that.
rlimit raise_descriptor_limit() {
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  rlimit most = before;
  most.rlim_cur = most.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &most);
  return before;
}

Result<> supervise(std::chrono::milliseconds tick) {
  if (auto r = fill_standard_descriptors(); !r) return r;
  if (auto r = check_listening(); !r) return r;
  if (::getpid() != 1 && ::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return fail_errno("prctl");
  auto signals = block_signals();
  if (!signals) return fail(signals.error());
  auto session = make_session_directory();
  if (!session) return fail(session.error());
  // Never destroyed: PMIx's threads may be at work until the very end, and our end ends all there
  // is.
  auto* supervisor =
      new Supervisor(Fd(kListening), std::move(*signals), *session, raise_descriptor_limit(), tick);
  supervisor->run();
  supervisor->leave();
  std::error_code ignored;
  std::filesystem::remove_all(*session, ignored);
  return {};
}

}  // namespace
}  // namespace stillpoint::supervisor

int main(int argc, char** argv) {
  stillpoint::log::set_name("stillpoint-supervisor");
  int status = 0;
  if (argc == 2 && std::string_view(argv[1]) == "--version") {
    std::printf("stillpoint-supervisor %s, %s\n", STILLPOINT_VERSION, PMIx_Get_version());
    return 0;
  }
  try {
    auto tick = stillpoint::supervisor::tick_length(argc, argv);
    stillpoint::Result<> r;
    if (tick)
      r = stillpoint::supervisor::supervise(*tick);
    else
      r = stillpoint::fail(tick.error());
    if (!r) {
      stillpoint::log::error(r.error());
      status = r.error().exit_status();
    }
  } catch (const std::exception& e) {
    stillpoint::log::error(std::string("an unexpected failure: ") + e.what());
    status = static_cast<int>(stillpoint::ErrorKind::kInternal);
  }
  _exit(status);
}
