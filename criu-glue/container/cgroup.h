// The cgroup of a container: how its processes are found, frozen and killed together.  cgroup v2
// (cgroup.freeze, cgroup.kill), wherever it is mounted; a v1 freezer where there is no v2.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "common/deadline.h"
#include "common/error.h"

namespace stillpoint::container {

class Cgroup {
 public:
  // A new group below the calling process's own, so that what limits and accounts the caller goes
  // on doing so. kBusy if there is one of that name with processes in it; an empty one is taken
  // over.
  static Result<Cgroup> create(const std::string& name);
  // One that exists, by its path.
  static Result<Cgroup> at(const std::string& path);

  const std::string& path() const { return path_; }  // also what CRIU's freeze_cgroup takes

  Result<> join() const;  // the calling process
  Result<std::vector<pid_t>> processes() const;
  // Moves processes that are not in the pid namespace of this one to the group above: who made a
  // container from inside of its cgroup.
  Result<> expel_others(pid_t init) const;
  // Returns once the kernel says that all are frozen.  kTimeout names those that did not (and thaws
  // the others).
  Result<> freeze(Deadline deadline) const;
  Result<> thaw() const;
  // Kills all, thaws, waits until the group is empty, removes it.  Safe to call again.
  Result<> destroy(Deadline deadline) const;

 private:
  enum class Version { kV1, kV2 };
  Cgroup(std::string path, Version version) : path_(std::move(path)), version_(version) {}
  Result<> kill_all() const;
  Result<bool> empty(Deadline deadline) const;  // false: not by then
  std::string path_;
  Version version_;
};

// Thaws whatever happens.  The group must outlive it.
class FreezeGuard {
 public:
  static Result<FreezeGuard> freeze(const Cgroup& cgroup, Deadline deadline);
  static FreezeGuard frozen(const Cgroup& cgroup) { return FreezeGuard(&cgroup); }  // already
  FreezeGuard(FreezeGuard&& other) noexcept : cgroup_(std::exchange(other.cgroup_, nullptr)) {}
  FreezeGuard& operator=(FreezeGuard&&) = delete;
  ~FreezeGuard();
  Result<> thaw();

 private:
  explicit FreezeGuard(const Cgroup* cgroup) : cgroup_(cgroup) {}
  const Cgroup* cgroup_;
};

}  // namespace stillpoint::container
