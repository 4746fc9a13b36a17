// Network namespaces of containers.
#pragma once

#include "common/error.h"

namespace stillpoint::container {

// Brings `lo` up in the calling process's network namespace.
Result<> bring_loopback_up();

}  // namespace stillpoint::container
