// Whether this node can run and dump containers: what `stillpoint check` prints.
#pragma once

#include <string>
#include <vector>

namespace stillpoint::criu {

struct Fitness {
  std::string name;  // "kernel", "CRIU", "privileges", ...
  bool ok = false;
  std::string found;   // "6.12.4"
  std::string remedy;  // what to do, if not ok
};

// Looks at all of it, in the order in which to mend it.  Takes some seconds at most: `criu check`
// is ended after 20. Makes and removes a cgroup, and namespaces in a child; nothing else is
// changed.
std::vector<Fitness> examine();

}  // namespace stillpoint::criu
