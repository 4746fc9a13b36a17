// A look at a container's processes through /proc: what a restart must find again, and what CRIU
// cannot dump and we can name before it tries.
#pragma once

#include <string>
#include <vector>

#include "common/error.h"
#include "criu-glue/statefile/record.h"

namespace stillpoint::criu {

struct Survey {
  std::vector<statefile::FileRecord> files;  // regular files open or mapped, each path once, sorted
  std::vector<std::string> obstacles;  // one line each: "rank process 12 (a.out) uses io_uring"
  uint64_t memory = 0;  // resident bytes of all, shared pages counted once as far as known
};

// `processes` as seen from here; they should be frozen, so that the picture is one.  Obstacles:
// io_uring, character and block devices other than null, zero, full, random, urandom, tty, pts;
// inotify or fanotify on NFS; processes of the container outside its pid namespace; sockets of
// families CRIU does not know; files on mounts that the container does not show; debuggers
// attached; perf, bpf, kvm, userfaultfd descriptors.
Result<Survey> survey(pid_t init, const std::vector<pid_t>& processes);

}  // namespace stillpoint::criu
