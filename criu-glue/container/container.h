// A container: one job step's processes on one node, in pid, ipc, uts, mount and network namespaces
// of their own, so that CRIU can dump them as a whole.  Its root is the node's: a bind of "/" and
// of the node's real mounts (mounts.h); private are /proc, /sys, /dev (with pts and shm), /run.
// /tmp is the node's: what a job leaves there must not vanish with the container.
#pragma once

#include <string>
#include <vector>

#include "common/deadline.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/identity.h"
#include "common/process.h"
#include "criu-glue/container/cgroup.h"
#include "criu-glue/container/mounts.h"

namespace stillpoint::container {

struct ContainerSpec {
  Identity user;
  std::string hostname;
  std::vector<Mount> mounts;         // from real_mounts()
  std::vector<std::string> program;  // pid 1 and its arguments; absolute path
  std::vector<std::string> env;
};

// A container that was made.  pid 1 is a child of the caller; destroying this object ends the
// container (its cgroup is the caller's to destroy).
struct Container {
  Child init;                  // pid 1, as seen from here
  Fd network;                  // its network namespace
  uint64_t network_inode = 0;  // what CRIU calls it by in a dump
};

// Makes the namespaces and mounts, brings `lo` up, binds and listens on paths::kSupervisorSocket as
// root, becomes the user and executes the program with the listening socket as descriptor 3,
// /dev/null as 0, 1 and 2, nothing else open, in a session of its own, no core of ours leaked.
// Joins the cgroup first.  An error of any step comes back here, with nothing left behind.
Result<Container> create(const ContainerSpec& spec, const Cgroup& cgroup, Deadline deadline);

// Connects to the supervisor's socket inside the container of this pid 1 (through /proc/PID/root,
// no symbolic links followed), retrying until the deadline while it is not there yet.
Result<Fd> connect_supervisor(pid_t init, Deadline deadline);

// A network namespace with `lo` up, for a restore.
Result<Fd> make_network_namespace();

}  // namespace stillpoint::container
