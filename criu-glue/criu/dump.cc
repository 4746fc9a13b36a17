// A dump is driven by a process of its own, in a session of its own: libcriu blocks, and CRIU must
// not be killed while it works inside the job's processes.  The driver holds a lock on the images
// directory as long as CRIU lives.
//
// To call a dump off, the driver gets SIGTERM (from the caller at the deadline, from the kernel at
// the caller's death).  It then sets CRIU's file size limit to nothing: the next write to an image
// fails, which is an error that CRIU handles by restoring and releasing all processes.  SIGXFSZ is
// ignored, which CRIU inherits.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "common/process.h"
#include "criu-glue/criu/options.h"
#include "criu-glue/criu/rescue.h"

namespace stillpoint::criu {

namespace {

constexpr const char* kLog = "dump.log";
constexpr auto kUndoTime = std::chrono::seconds(30);  // for CRIU to undo its work once called off
constexpr auto kRescueTime = std::chrono::seconds(30);
constexpr int kAgainMs = 100;

// Calls act(pid) for the children that a /proc file lists.  Used in a signal handler: system calls
// only.
template <typename Act>
void for_each_child(const char* list, Act act) noexcept {
  char text[1024];
  const int fd = ::open(list, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  const ssize_t size = ::read(fd, text, sizeof text);
  ::close(fd);
  pid_t pid = 0;
  for (ssize_t i = 0; i < size; i++) {
    if (text[i] >= '0' && text[i] <= '9') {
      pid = pid * 10 + (text[i] - '0');
    } else {
      if (pid > 0) act(pid);
      pid = 0;
    }
  }
}

void forbid_writing(pid_t pid) noexcept {
  const rlimit none{0, 0};
  ::prlimit(pid, RLIMIT_FSIZE, &none, nullptr);
}

// "/proc/PID/task/PID/children" without the heap.
void limit_with_children(pid_t pid) noexcept {
  forbid_writing(pid);
  char digits[16], path[64] = "/proc/";
  int n = 0;
  for (pid_t p = pid; p > 0; p /= 10) digits[n++] = static_cast<char>('0' + p % 10);
  std::reverse(digits, digits + n);
  digits[n] = 0;
  std::strcat(path, digits);
  std::strcat(path, "/task/");
  std::strcat(path, digits);
  std::strcat(path, "/children");
  for_each_child(path, forbid_writing);  // tar, where CRIU runs it
}

extern "C" void call_off(int) {
  const int saved = errno;
  for_each_child("/proc/thread-self/children", limit_with_children);
  errno = saved;
}

uint64_t number_after(const std::string& file, const std::string& name, int base) {
  const auto text = read_file(file);
  if (!text) return 0;
  const size_t at = text->find("\n" + name);
  return at == text->npos ? 0 : std::strtoull(text->c_str() + at + 1 + name.size(), nullptr, base);
}

// Being chosen when memory runs out would break the job in mid-dump.  Needs CAP_SYS_RESOURCE.
void evade_oom_killer() {
  (void)write_file("/proc/self/oom_score_adj", "-1000");
}

// libcriu gives its callback nothing of ours; the driver is a process for one dump.
struct Keeping {
  const std::string* cgroup = nullptr;
  int verdict = -1;
  Child keeper;
} keeping;

// CRIU was killed: what it started goes, too.  A child of one of its tests would hold the
// connection to libcriu open for ever, and with it the dump.  We lead the group, and end with it:
// our caller sees to the rest.
extern "C" void child_ended(int, siginfo_t* about, void*) {
  const bool killed = about->si_code == CLD_KILLED || about->si_code == CLD_DUMPED;
  if (killed && about->si_pid != keeping.keeper.pid()) ::kill(0, SIGKILL);
}

// Called just before CRIU lays hands on the processes.  Without a keeper it had better not.
extern "C" int about_to_dump(char* action, criu_notify_arg_t) noexcept {
  if (std::strcmp(action, "pre-dump") != 0 || !keeping.cgroup) return 0;
  pid_t criu = 0;
  for_each_child("/proc/thread-self/children", [&](pid_t pid) { criu = pid; });
  auto keeper = keep_at_death(criu, *keeping.cgroup, keeping.verdict);
  if (!keeper) return -1;
  keeping.keeper = std::move(*keeper);
  return 0;
}

int drive(criu_opts* options, const DumpRequest& request, int verdict) {
  keeping.verdict = verdict;
  if (!request.freeze_cgroup.empty()) keeping.cgroup = &request.freeze_cgroup;
  struct sigaction action{};
  action.sa_sigaction = child_ended;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_NOCLDSTOP;
  ::sigaction(SIGCHLD, &action, nullptr);
  const int code = criu_local_dump(options);
  if (keeping.keeper.running())
    (void)keeping.keeper.wait(Deadline::in(std::chrono::seconds(10)), "the keeper of CRIU");
  return code;
}

Result<> add_dump_options(criu_opts* options, const DumpRequest& request) {
  criu_local_set_pid(options, request.init);
  criu_local_set_leave_running(options, true);
  criu_local_set_notify_cb(options, about_to_dump);
  if (!request.freeze_cgroup.empty())
    criu_local_set_freeze_cgroup(options, request.freeze_cgroup.c_str());
  std::vector<std::string> externals;
  if (request.network_inode)
    externals.push_back("net[" + std::to_string(request.network_inode) +
                        "]:" + request.network_key);
  for (const ExternalMount& mount : request.mounts)
    externals.push_back("mnt[" + mount.destination + "]:" + mount.destination);
  for (const std::string& external : externals)
    if (criu_local_add_external(options, external.c_str()) != 0)
      return fail(ErrorKind::kSystem, "out of memory for CRIU's options");
  return {};
}

bool may_read_limits_of_others() {
  constexpr int kSysResource = 24;  // CAP_SYS_RESOURCE
  return (number_after("/proc/self/status", "CapEff:", 16) >> kSysResource & 1) != 0;
}

// CRIU reads the processes' limits with prlimit(2).  Without CAP_SYS_RESOURCE (some virtual
// machines and outer containers take it away even from root) the kernel allows that to a reader
// with the same real ids only; the effective ids, and so all privileges that there are, stay
// root's.  CRIU's test of nftables would not bear that, so the results of its tests are made
// beforehand and kept where it looks for them, in a /run of our own.
void share_real_ids(const std::string& binary, pid_t init) {
  if (may_read_limits_of_others()) return;
  const std::string status = "/proc/" + std::to_string(init) + "/status";
  const auto gid = static_cast<gid_t>(number_after(status, "Gid:", 10));
  const auto uid = static_cast<uid_t>(number_after(status, "Uid:", 10));
  if (uid == 0) return;
  if (::unshare(CLONE_NEWNS) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") != 0)
    return;  // then CRIU says what is missing
  (void)run_program({binary, "check"}, Deadline::in(std::chrono::seconds(20)));
  if (::setresgid(gid, static_cast<gid_t>(-1), static_cast<gid_t>(-1)) == 0)
    (void)!::setresuid(uid, static_cast<uid_t>(-1), static_cast<uid_t>(-1));
}

void prefer_tools(const std::string& tools) {
  const char* path = ::getenv("PATH");
  if (!tools.empty()) ::setenv("PATH", (tools + ":" + (path ? path : "/usr/bin:/bin")).c_str(), 1);
}

void prepare_driver(pid_t caller, const std::string& binary, const DumpRequest& request) {
  ::setsid();
  struct sigaction action{};
  action.sa_handler = call_off;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGTERM, &action, nullptr);
  for (const int s : {SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGXFSZ}) ::signal(s, SIG_IGN);
  ::signal(SIGCHLD, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  evade_oom_killer();
  prefer_tools(request.tools);
  share_real_ids(binary, request.init);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != caller) _exit(0);  // it died before that; nothing has begun
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int fd : {0, 1, 2})
    if (null >= 0) ::dup2(null, fd);
}

// Locked by whoever works with it: the lock ends with the last process that holds the descriptor.
Result<Fd> lock_images(const std::string& images) {
  auto directory = open_file(images, O_RDONLY | O_DIRECTORY);
  if (!directory) return directory;
  if (::flock(directory->get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK)
      return fail(ErrorKind::kBusy, "another dump into " + images + " is under way");
    return fail_errno("locking " + images);
  }
  return directory;
}

// What libcriu returned, or nothing if the driver ended without a word.
std::optional<int> take_answer(int fd) {
  int code = 0;
  return ::read(fd, &code, sizeof code) == sizeof code ? std::optional<int>(code) : std::nullopt;
}

bool await_answer(int fd, Deadline deadline) {
  for (;;) {
    pollfd p{fd, POLLIN, 0};
    const int n = ::poll(&p, 1, deadline.poll_timeout());
    if (n > 0) return true;
    if (n == 0 || errno != EINTR) return false;
  }
}

// Driver of one dump, seen from its parent.
struct Driver {
  Child process;
  Fd answer;   // what libcriu returned
  Fd verdict;  // the keeper's
};

// CRIU died (rescue.h).  In the middle of its work it had thawed the processes; they are frozen
// again, as the caller expects.
Verdict fate(const Driver& driver, const DumpRequest& request) {
  if (request.freeze_cgroup.empty()) return Verdict::kHarmed;  // there was no keeper
  return await_verdict(driver.verdict.get(), Deadline::in(kRescueTime));
}

Error died(const Error& error, Verdict verdict) {
  if (verdict != Verdict::kHarmed)
    return Error(error.kind(), error.what() + "; the processes go on unharmed", error.remedy());
  return Error(error.kind(), error.what() + "; the processes may be harmed",
               error.remedy() + "; end the job and restart it from its last checkpoint");
}

Error called_off(bool answered, const Driver& driver, const DumpRequest& request) {
  const Verdict verdict = answered ? Verdict::kNotNeeded : fate(driver, request);
  if (verdict == Verdict::kNotNeeded || verdict == Verdict::kUntouched)
    return Error(
        ErrorKind::kTimeout,
        "CRIU's dump took too long and was called off; the processes are as before",
        "allow it more time, or find out what is slow with " + request.images + "/" + kLog);
  return died(Error(ErrorKind::kTimeout,
                    "CRIU's dump took too long and could not be called off, so it was killed",
                    "see " + request.images + "/" + kLog),
              verdict);
}

Result<> finish_late(Driver& driver, const DumpRequest& request) {
  const auto limit = Deadline::in(kUndoTime);
  const int answer = driver.answer.get();
  while (!limit.passed()) {
    driver.process.send(SIGTERM);  // again and again: CRIU may have started a program meanwhile
    if (!await_answer(answer, Deadline::in(std::chrono::milliseconds(kAgainMs)))) continue;
    const auto code = take_answer(answer);
    (void)driver.process.wait(Deadline::in(std::chrono::seconds(10)), "the driver of CRIU");
    if (code && *code == 0) return {};  // it was faster
    return fail(called_off(code.has_value(), driver, request));
  }
  driver.process.leads_group();
  driver.process.kill();  // with CRIU
  return fail(called_off(false, driver, request));
}

Result<Driver> start_driver(const std::string& binary, const DumpRequest& request,
                            criu_opts* options) {
  auto answer = make_pipe(), verdict = make_pipe();
  if (!answer) return fail(answer.error());
  if (!verdict) return fail(verdict.error());
  const pid_t caller = ::getpid();
  auto process = fork_child([&] {
    prepare_driver(caller, binary, request);
    const int code = drive(options, request, verdict->write.get());
    (void)!::write(answer->write.get(), &code, sizeof code);
    return 0;
  });
  if (!process) return fail(process.error());
  return Driver{std::move(*process), std::move(answer->read), std::move(verdict->read)};
}

}  // namespace

Result<> dump_in_session(const std::string& binary, const DumpRequest& request) {
  auto images = lock_images(request.images);
  if (!images) return fail(images.error());
  auto options = make_image_options(binary, *images, kLog);
  if (!options) return fail(options.error());
  if (auto r = add_dump_options(options->get(), request); !r) return r;
  auto driver = start_driver(binary, request, options->get());
  if (!driver) return fail(driver.error());
  if (!await_answer(driver->answer.get(), request.deadline)) return finish_late(*driver, request);
  const auto code = take_answer(driver->answer.get());
  (void)driver->process.wait(Deadline::in(std::chrono::seconds(10)), "the driver of CRIU");
  if (code && *code == 0) return {};
  const Error error = explain_failure("dump", request.images, kLog, code.value_or(-ECOMM));
  return fail(code.value_or(-ECOMM) == -ECOMM ? died(error, fate(*driver, request)) : error);
}

Result<> await_dump_end(const std::string& images, Deadline deadline) {
  for (;;) {
    auto lock = lock_images(images);
    if (lock) return {};
    if (lock.error().kind() != ErrorKind::kBusy) return fail(lock.error());
    if (deadline.passed())
      return fail(ErrorKind::kTimeout, "waited too long for the end of CRIU's dump into " + images);
    ::poll(nullptr, 0, std::min(10, deadline.poll_timeout()));
  }
}

}  // namespace stillpoint::criu
