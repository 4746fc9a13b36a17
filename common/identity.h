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

// Becomes the user for good: groups, gid, uid (real, effective, saved), and checks that there is no
// way back.  Nothing happens if the process is this user already and is not root.
Result<> become(const Identity& user);

// Acts on files as the user while it lives: effective groups, gid and uid, for the whole process
// (which has one thread).  For short calls; longer work goes into a worker that becomes the user.
class ActingAs {
 public:
  static Result<ActingAs> user(const Identity& user);
  ActingAs(ActingAs&& other) noexcept;
  ActingAs& operator=(ActingAs&&) = delete;
  ~ActingAs();

 private:
  explicit ActingAs(std::vector<gid_t> groups) : groups_(std::move(groups)), active_(true) {}
  std::vector<gid_t> groups_;  // to return to
  bool active_;
};

}  // namespace stillpoint
