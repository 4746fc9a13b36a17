// Which of the node's mounts a container shows.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"

namespace stillpoint::container {

struct Mount {
  std::string destination;  // where it is on the node, and in the container
  std::string type;
  bool read_only = false;
};

// The mounts of this process's namespace that hold data: everything but "/" itself, pseudo file
// systems (proc, sysfs, cgroup, devpts, mqueue, ...) and what lies below /proc, /sys, /dev, /run.
// A mount hidden under a later one is left out; so is what an ordinary user mounted through FUSE,
// and an automounter's trigger with nothing mounted below it. In the order in which they must be
// made.
Result<std::vector<Mount>> real_mounts();
// The same from the text of a mountinfo file (proc(5)); kDamaged if it cannot be parsed.
Result<std::vector<Mount>> real_mounts_from(std::string_view mountinfo);

}  // namespace stillpoint::container
