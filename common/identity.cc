#include "common/identity.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <utility>

namespace stillpoint {

namespace {

Result<Identity> identity_from(const passwd& entry) {
  Identity user{.uid = entry.pw_uid,
                .gid = entry.pw_gid,
                .groups = {},
                .name = entry.pw_name,
                .home = entry.pw_dir,
                .shell = entry.pw_shell};
  int count = 64;
  for (int attempt = 0; attempt < 2; attempt++) {
    user.groups.resize(static_cast<size_t>(count));
    if (::getgrouplist(entry.pw_name, entry.pw_gid, user.groups.data(), &count) >= 0) break;
  }
  user.groups.resize(static_cast<size_t>(count));
  return user;
}

template <typename Lookup>
Result<Identity> look_up(const std::string& who, Lookup lookup) {
  std::vector<char> buffer(1 << 16);
  passwd entry{};
  passwd* found = nullptr;
  const int rc = lookup(&entry, buffer.data(), buffer.size(), &found);
  if (rc != 0) return fail(system_error("looking up user " + who, rc));
  if (!found) return fail(ErrorKind::kNotFound, "there is no user " + who);
  return identity_from(entry);
}

}  // namespace

Result<Identity> identity_of(uid_t uid) {
  return look_up(std::to_string(uid), [uid](auto... a) { return ::getpwuid_r(uid, a...); });
}

Result<Identity> identity_named(const std::string& name_or_uid) {
  uid_t uid = 0;
  const char* end = name_or_uid.data() + name_or_uid.size();
  if (auto [p, ec] = std::from_chars(name_or_uid.data(), end, uid); ec == std::errc() && p == end)
    return identity_of(uid);
  return look_up(name_or_uid, [&](auto... a) { return ::getpwnam_r(name_or_uid.c_str(), a...); });
}

Result<> become(const Identity& user) {
  if (::geteuid() != 0 && ::geteuid() == user.uid && ::getuid() == user.uid) return {};
  if (::setgroups(user.groups.size(), user.groups.data()) != 0) return fail_errno("setgroups");
  if (::setresgid(user.gid, user.gid, user.gid) != 0) return fail_errno("setresgid");
  if (::setresuid(user.uid, user.uid, user.uid) != 0) return fail_errno("setresuid");
  if (user.uid != 0 && (::setresuid(0, 0, 0) == 0 || ::geteuid() == 0))
    return fail(ErrorKind::kInternal, "privilege could be regained after dropping it");
  return {};
}

Result<ActingAs> ActingAs::user(const Identity& user) {
  std::vector<gid_t> groups(static_cast<size_t>(std::max(0, ::getgroups(0, nullptr))));
  if (::getgroups(static_cast<int>(groups.size()), groups.data()) < 0)
    return fail_errno("getgroups");
  if (::geteuid() != 0) {  // an ordinary caller is who he is
    ActingAs nothing{{}};
    nothing.active_ = false;
    return nothing;
  }
  ActingAs acting(std::move(groups));
  if (::setgroups(user.groups.size(), user.groups.data()) != 0) return fail_errno("setgroups");
  if (::setegid(user.gid) != 0) return fail_errno("setegid");
  if (::seteuid(user.uid) != 0) return fail_errno("seteuid");
  return acting;
}

ActingAs::ActingAs(ActingAs&& other) noexcept
    : groups_(std::move(other.groups_)), active_(std::exchange(other.active_, false)) {}

ActingAs::~ActingAs() {
  if (!active_) return;
  // Going on with half an identity would be worse than ending.
  if (::seteuid(0) != 0 || ::setegid(0) != 0 || ::setgroups(groups_.size(), groups_.data()) != 0)
    std::abort();
}

}  // namespace stillpoint
