#include "criu-glue/criu/fitness.h"

#include <sched.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <sstream>

#include "common/fd.h"
#include "common/process.h"
#include "common/units.h"
#include "criu-glue/container/cgroup.h"
#include "criu-glue/criu/criu.h"

namespace stillpoint::criu {

namespace {

using namespace std::chrono_literals;

constexpr uint64_t kLeastStaging = uint64_t{256} << 20;

// The kernel's numbers (linux/capability.h), of what containers and CRIU use.
constexpr std::array<std::pair<int, const char*>, 10> kCapabilities = {
    {{0, "CAP_CHOWN"},
     {1, "CAP_DAC_OVERRIDE"},
     {5, "CAP_KILL"},
     {6, "CAP_SETGID"},
     {7, "CAP_SETUID"},
     {12, "CAP_NET_ADMIN"},
     {19, "CAP_SYS_PTRACE"},
     {21, "CAP_SYS_ADMIN"},
     {27, "CAP_MKNOD"},
     {40, "CAP_CHECKPOINT_RESTORE"}}};

Fitness examine_kernel() {
  struct utsname name{};
  ::uname(&name);
  int major = 0, minor = 0;
  std::sscanf(name.release, "%d.%d", &major, &minor);
  return {"kernel", major > 5 || (major == 5 && minor >= 9), name.release,
          "Linux 5.9 or later is needed (openat2, close_range, CAP_CHECKPOINT_RESTORE)"};
}

Fitness examine_version() {
  auto version = make_criu()->version();
  if (version) return {"CRIU", true, version->text(), ""};
  return {"CRIU", false, version.error().what(), version.error().remedy()};
}

Fitness examine_privileges() {
  uint64_t held = 0;
  std::istringstream status(read_file("/proc/self/status").value_or(""));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("CapEff:"))
      held = std::stoull("0" + line.substr(line.find_first_not_of(" \t", 7)), nullptr, 16);
  std::string missing;
  for (const auto& [bit, name] : kCapabilities)
    if (!(held >> bit & 1)) missing += (missing.empty() ? "" : ", ") + std::string(name);
  if (missing.empty()) return {"privileges", true, "all that are needed", ""};
  return {"privileges", false, "without " + missing,
          "run as root, and outside of containers that take privileges away"};
}

Fitness examine_namespaces() {
  std::string missing;
  for (const char* name : {"pid", "ipc", "uts", "mnt", "net", "time"})
    if (::access(("/proc/self/ns/" + std::string(name)).c_str(), F_OK) != 0)
      missing += (missing.empty() ? "" : ", ") + std::string(name);
  if (!missing.empty())
    return {"namespaces", false, "the kernel has no namespaces of kind " + missing,
            "use a kernel built with them"};
  auto child = fork_child([] {
    return ::unshare(CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWNET) == 0
               ? 0
               : 1;
  });
  auto exit = child ? child->wait(Deadline::in(10s), "a test of namespaces") : fail(child.error());
  if (exit && exit->ok()) return {"namespaces", true, "pid, ipc, uts, mnt, net, time", ""};
  return {"namespaces", false, "new ones are refused",
          "run as root; see user limits in /proc/sys/user/max_*_namespaces"};
}

Fitness examine_freezer() {
  auto group = container::Cgroup::create("stillpoint-check-" + std::to_string(::getpid()));
  if (!group) return {"cgroup freezer", false, group.error().what(), group.error().remedy()};
  const std::string path = group->path();
  auto frozen = group->freeze(Deadline::in(5s));
  auto gone = group->destroy(Deadline::in(5s));
  if (frozen && gone)
    return {"cgroup freezer", true, "works in " + path.substr(0, path.rfind('/')), ""};
  const Error& error = frozen ? gone.error() : frozen.error();
  return {"cgroup freezer", false, error.what(), error.remedy()};
}

Fitness examine_ptrace() {
  const auto scope = read_file("/proc/sys/kernel/yama/ptrace_scope");
  if (!scope) return {"ptrace", true, "not restricted", ""};
  const char level = scope->empty() ? '0' : scope->front();
  return {"ptrace", level != '3', std::string("kernel.yama.ptrace_scope is ") + level,
          "3 forbids CRIU's work until the next boot: set it to 2 or less in sysctl.conf and boot"};
}

Fitness examine_staging() {
  struct statvfs about{};
  if (::statvfs("/dev/shm", &about) != 0)
    return {"staging", false, "there is no /dev/shm", "mount a tmpfs there"};
  const uint64_t free = uint64_t{about.f_bavail} * about.f_frsize;
  return {"staging", free >= kLeastStaging, format_bytes(free) + " free in /dev/shm",
          "a checkpoint is staged there, with all memory of the job: free some, or choose another "
          "directory"};
}

Fitness examine_check() {
  auto output = run_program({"criu", "check"}, Deadline::in(20s));
  if (!output) return {"criu check", false, output.error().what(), "run it by hand"};
  std::string last;
  std::istringstream lines(output->out);
  for (std::string line; std::getline(lines, line);)
    if (line.find("Warn") == line.npos && !line.empty()) last = line;
  if (output->exit.status() == 127)
    return {"criu check", false, "there is no program criu", "install CRIU"};
  return {"criu check", output->exit.ok(), last.empty() ? output->exit.describe() : last,
          "run `criu check` as root: it says what the kernel lacks"};
}

}  // namespace

std::vector<Fitness> examine() {
  std::vector<Fitness> all = {examine_kernel(),     examine_privileges(), examine_version(),
                              examine_namespaces(), examine_freezer(),    examine_ptrace(),
                              examine_staging(),    examine_check()};
  for (Fitness& f : all)
    if (f.ok) f.remedy.clear();
  return all;
}

}  // namespace stillpoint::criu
