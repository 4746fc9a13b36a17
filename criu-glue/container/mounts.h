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

// A field of mountinfo, or a path in /proc/PID/maps, as it is meant: space, tab, newline and
// backslash are written there as \040 and so on.
std::string unescape(std::string_view field);

}  // namespace stillpoint::container
