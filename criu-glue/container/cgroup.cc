#include "criu-glue/container/cgroup.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <sstream>

#include "common/fd.h"
#include "common/paths.h"

namespace stillpoint::container {

namespace {

constexpr int kRetryMs = 5;  // where the kernel offers nothing to wait on

struct Place {
  std::string mount, root;  // where the hierarchy is mounted, and which of its groups is seen there
};

// Where a hierarchy is mounted: the last fitting line, which lies on top of earlier ones.
std::optional<Place> find_hierarchy(const std::string& mountinfo, const std::string& type,
                                    const std::string& controller) {
  std::optional<Place> found;
  std::istringstream lines(mountinfo);
  for (std::string line; std::getline(lines, line);) {
    const size_t dash = line.find(" - ");
    if (dash == line.npos) continue;
    std::istringstream left(line.substr(0, dash)), right(line.substr(dash + 3));
    std::string id, parent, device, root, mount, fs, source, super;
    left >> id >> parent >> device >> root >> mount;
    right >> fs >> source >> super;
    if (fs == type &&
        (controller.empty() || ("," + super + ",").find("," + controller + ",") != super.npos))
      found = Place{mount, root};
  }
  return found;
}

// The calling process's group in the hierarchy: "0::/path" in v2, "6:freezer:/path" in v1.
std::optional<std::string> own_group(const std::string& groups, const std::string& controller) {
  std::istringstream lines(groups);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string names = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controller.empty() ? names == ",," : names.find("," + controller + ",") != names.npos)
      return line.substr(second + 1);
  }
  return std::nullopt;
}

// The directory of the caller's own group, if it can be seen.
std::optional<std::string> own_directory(const std::string& type, const std::string& controller) {
  const auto mountinfo = read_file("/proc/self/mountinfo"), groups = read_file("/proc/self/cgroup");
  if (!mountinfo || !groups) return std::nullopt;
  const auto place = find_hierarchy(*mountinfo, type, controller);
  auto group = own_group(*groups, controller);
  if (!place || !group) return std::nullopt;
  if (place->root != "/") {  // a part of the hierarchy is mounted there
    if (!group->starts_with(place->root)) return std::nullopt;
    group->erase(0, place->root.size());
  }
  while (group->starts_with('/')) group->erase(0, 1);
  return group->empty() ? place->mount : paths::join(place->mount, *group);
}

Result<std::string> make_group(const std::string& directory, const std::string& name) {
  const std::string path = paths::join(directory, name);
  if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST)
    return fail(system_error("making the cgroup " + path, errno).advise("this needs root"));
  return path;
}

bool exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

// "populated" or "frozen" of cgroup.events.
Result<bool> event_is_set(int fd, const std::string& name) {
  char buffer[256];
  const ssize_t n = ::pread(fd, buffer, sizeof buffer, 0);
  if (n < 0) return fail_errno("cgroup.events");
  const std::string text = "\n" + std::string(buffer, static_cast<size_t>(n));
  return text.find("\n" + name + " 1") != text.npos;
}

// True once the event has the wanted value, false at the deadline.  The kernel says POLLPRI at
// every change.
Result<bool> await_event(const std::string& group, const std::string& name, bool wanted,
                         Deadline deadline) {
  auto events = open_file(group + "/cgroup.events", O_RDONLY);
  if (!events) return fail(events.error());
  for (;;) {
    auto set = event_is_set(events->get(), name);
    if (!set) return fail(set.error());
    if (*set == wanted) return true;
    if (deadline.passed()) return false;
    pollfd p{events->get(), POLLPRI, 0};
    if (::poll(&p, 1, deadline.poll_timeout()) < 0 && errno != EINTR) return fail_errno("poll");
  }
}

// Calls done() until it says true or the deadline passes.
template <typename Done>
Result<bool> retry(Deadline deadline, Done done) {
  for (;;) {
    Result<bool> r = done();
    if (!r || *r) return r;
    if (deadline.passed()) return false;
    ::poll(nullptr, 0, std::min(kRetryMs, deadline.poll_timeout()));
  }
}

std::string first_line(const std::string& path) {
  auto text = read_file(path);
  return text ? text->substr(0, text->find('\n')) : "";
}

// A task that the freezer holds sleeps in it; the name needs kallsyms, the state D does not.
bool seems_frozen(pid_t pid) {
  const std::string wchan = first_line("/proc/" + std::to_string(pid) + "/wchan");
  if (wchan.find("freez") != wchan.npos || wchan.find("refrigerator") != wchan.npos) return true;
  const std::string stat = first_line("/proc/" + std::to_string(pid) + "/stat");
  const size_t end = stat.rfind(") ");
  return (wchan.empty() || wchan == "0") && end != stat.npos && stat[end + 2] == 'S';
}

// "pid:[4026531836]"; empty: it has ended.
std::string pid_namespace(pid_t pid) {
  char text[64];
  const ssize_t n =
      ::readlink(("/proc/" + std::to_string(pid) + "/ns/pid").c_str(), text, sizeof text);
  return std::string(text, n > 0 ? static_cast<size_t>(n) : 0);
}

std::string name_unfrozen(const std::vector<pid_t>& processes) {
  std::string names;
  size_t count = 0;
  for (const pid_t pid : processes) {
    if (seems_frozen(pid) || count++ >= 8) continue;
    names += (names.empty() ? "" : ", ") + std::to_string(pid) + " (" +
             first_line("/proc/" + std::to_string(pid) + "/comm") + ")";
  }
  if (count > 8) names += " and " + std::to_string(count - 8) + " more";
  return names.empty() ? "a thread of one of its processes" : names;
}

}  // namespace

Result<Cgroup> Cgroup::create(const std::string& name) {
  if (name.empty() || name.front() == '.' || name.find('/') != name.npos)
    return fail(ErrorKind::kUsage, "'" + name + "' cannot be the name of a cgroup");
  std::optional<Cgroup> group;
  if (const auto directory = own_directory("cgroup2", "")) {
    auto path = make_group(*directory, name);
    if (!path) return fail(path.error());
    if (exists(*path + "/cgroup.freeze"))
      group = Cgroup(*path, Version::kV2);
    else
      ::rmdir(path->c_str());  // before Linux 5.2
  }
  if (!group) {
    const auto directory = own_directory("cgroup", "freezer");
    if (!directory)
      return fail(ErrorKind::kUnfit,
                  "no cgroup freezer: neither cgroup v2 nor the v1 freezer is mounted",
                  "mount cgroup2 on /sys/fs/cgroup");
    auto path = make_group(*directory, name);
    if (!path) return fail(path.error());
    group = Cgroup(*path, Version::kV1);
  }
  auto inside = group->processes();
  if (!inside) return fail(inside.error());
  if (!inside->empty())
    return fail(ErrorKind::kBusy, "the cgroup " + group->path_ + " is in use by process " +
                                      std::to_string(inside->front()));
  if (auto r = group->thaw(); !r) return fail(r.error());
  return *group;
}

Result<Cgroup> Cgroup::at(const std::string& path) {
  if (!exists(path + "/cgroup.procs")) return fail(ErrorKind::kNotFound, path + " is no cgroup");
  return Cgroup(path, exists(path + "/freezer.state") ? Version::kV1 : Version::kV2);
}

Result<> Cgroup::join() const {
  if (auto r = write_file(path_ + "/cgroup.procs", "0"); !r)
    return fail(r.error().during("joining the cgroup"));
  return {};
}

Result<std::vector<pid_t>> Cgroup::processes() const {
  auto text = read_file(path_ + "/cgroup.procs");
  if (!text) return fail(text.error());
  std::vector<pid_t> processes;
  std::istringstream lines(*text);
  for (pid_t pid; lines >> pid;)
    if (pid > 0) processes.push_back(pid);  // 0: in a pid namespace that we do not see
  return processes;
}

Result<> Cgroup::expel_others(pid_t init) const {
  const auto own = pid_namespace(init);
  if (own.empty())
    return fail(ErrorKind::kNotFound, "process " + std::to_string(init) + " has ended");
  auto inside = processes();
  if (!inside) return fail(inside.error());
  const std::string above = path_.substr(0, path_.rfind('/')) + "/cgroup.procs";
  for (const pid_t pid : *inside)
    if (pid_namespace(pid) != own)
      if (auto r = write_file(above, std::to_string(pid)); !r && pid_namespace(pid) != "")
        return fail(r.error().during("leaving the container's cgroup"));
  return {};
}

Result<> Cgroup::freeze(Deadline deadline) const {
  Result<bool> frozen = false;
  if (version_ == Version::kV2) {
    if (auto r = write_file(path_ + "/cgroup.freeze", "1"); !r) return fail(r.error());
    frozen = await_event(path_, "frozen", true, deadline);
  } else {
    frozen = retry(deadline, [&]() -> Result<bool> {
      // Written anew each time: a task that forked while freezing is caught only so.
      if (auto r = write_file(path_ + "/freezer.state", "FROZEN"); !r) return fail(r.error());
      return first_line(path_ + "/freezer.state") == "FROZEN";
    });
  }
  if (frozen && *frozen) return {};
  auto inside = processes();
  const std::string names = name_unfrozen(inside ? *inside : std::vector<pid_t>{});
  (void)thaw();
  if (!frozen) return fail(frozen.error().during("freezing " + path_));
  return fail(ErrorKind::kTimeout, "these processes did not freeze in time: " + names,
              "they may wait for a disk or a file server that does not answer");
}

Result<> Cgroup::thaw() const {
  auto r = version_ == Version::kV2 ? write_file(path_ + "/cgroup.freeze", "0")
                                    : write_file(path_ + "/freezer.state", "THAWED");
  if (!r) return fail(r.error().during("thawing"));
  return {};
}

Result<> Cgroup::kill_all() const {
  // cgroup.kill (Linux 5.14) catches what forks meanwhile; without it the caller comes again.
  if (exists(path_ + "/cgroup.kill")) return write_file(path_ + "/cgroup.kill", "1");
  auto inside = processes();
  if (!inside) return fail(inside.error());
  for (const pid_t pid : *inside) ::kill(pid, SIGKILL);
  return {};
}

Result<bool> Cgroup::empty(Deadline deadline) const {
  if (version_ == Version::kV2 && exists(path_ + "/cgroup.kill"))
    return await_event(path_, "populated", false, deadline);
  return retry(deadline, [&]() -> Result<bool> {
    if (auto r = kill_all(); !r) return fail(r.error());
    auto inside = processes();
    if (!inside) return fail(inside.error());
    return inside->empty();
  });
}

Result<> Cgroup::destroy(Deadline deadline) const {
  if (!exists(path_)) return {};
  // Killed first, so that nothing runs on for an instant.  v1 delivers the signal once it has
  // thawed.
  if (auto r = kill_all(); !r) return fail(r.error().during("ending the processes of the cgroup"));
  if (auto r = thaw(); !r) return r;
  auto gone = empty(deadline);
  if (!gone) return fail(gone.error());
  if (!*gone) {
    auto inside = processes();
    return fail(ErrorKind::kTimeout, "processes of the cgroup " + path_ + " do not end: " +
                                         name_unfrozen(inside ? *inside : std::vector<pid_t>{}));
  }
  int error_number = 0;
  auto removed = retry(deadline, [&]() -> Result<bool> {
    if (::rmdir(path_.c_str()) == 0 || errno == ENOENT) return true;
    error_number = errno;
    return error_number != EBUSY;
  });
  if (removed && *removed && (error_number == 0 || !exists(path_))) return {};
  return fail(system_error("removing the cgroup " + path_, error_number));
}

Result<FreezeGuard> FreezeGuard::freeze(const Cgroup& cgroup, Deadline deadline) {
  if (auto r = cgroup.freeze(deadline); !r) return fail(r.error());
  return FreezeGuard(&cgroup);
}

FreezeGuard::~FreezeGuard() {
  (void)thaw();
}

Result<> FreezeGuard::thaw() {
  if (!cgroup_) return {};
  auto r = cgroup_->thaw();
  if (r) cgroup_ = nullptr;  // else once more in the destructor
  return r;
}

}  // namespace stillpoint::container
