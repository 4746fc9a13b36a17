// Users, and the one place that gives privilege up.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/error.h"

namespace stillpoint {

struct Identity {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary, with gid
  std::string name, home, shell;
};

Result<Identity> identity_of(uid_t uid);  // kNotFound if the system does not know the user
Result<Identity> identity_named(const std::string& name_or_uid);

// Becomes the user for good: groups, gid, uid (real, effective, saved), and checks that there is no way
// back.  Nothing happens if the process is this user already and is not root.
Result<> become(const Identity& user);

}  // namespace stillpoint
