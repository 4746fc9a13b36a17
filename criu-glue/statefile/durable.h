// Making names last.
#pragma once

#include <string>

#include "common/error.h"

namespace stillpoint::statefile {

// fsync of a directory, so that what was made, renamed or removed in it survives a crash.  File
// systems that cannot do this are believed to need nothing.
Result<> sync_directory(const std::string& path);

}  // namespace stillpoint::statefile
