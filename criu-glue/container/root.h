// The file system that a container shows.  For the child that becomes pid 1 only: it works on the
// calling process's own mount, pid and network namespaces, which must be new.
#pragma once

#include <vector>

#include "common/error.h"
#include "criu-glue/container/mounts.h"

namespace stillpoint::container {

// Makes the root from a bind of "/", the mounts given, and what is private, and makes it this
// process's "/". Nothing of the old tree is left.  The error names the mount that could not be
// made.
Result<> build_root(const std::vector<Mount>& mounts);

}  // namespace stillpoint::container
