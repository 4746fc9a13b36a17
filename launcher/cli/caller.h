// Who calls, and for whom he acts.
#pragma once

#include <string>

#include "common/error.h"
#include "common/identity.h"

namespace stillpoint::cli {

// The user a command acts for: --user (root only, and not through sudo for somebody else), else the
// user who called sudo, else the caller.
Result<Identity> acting_user(const std::string& user_option);

// kPermission unless the process is root: containers and CRIU need it.
Result<> need_root(const std::string& command);

// Commands that only read give up root first, once they have read what root alone can.
Result<> read_as(const Identity& user);

std::string current_directory();

}  // namespace stillpoint::cli
