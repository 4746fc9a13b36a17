#include "launcher/cli/caller.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace stillpoint::cli {

Result<Identity> acting_user(const std::string& user_option) {
  const char* sudo_uid = std::getenv("SUDO_UID");
  const bool through_sudo = ::getuid() == 0 && sudo_uid && *sudo_uid;
  auto caller = through_sudo ? identity_named(sudo_uid) : identity_of(::getuid());
  if (user_option.empty()) return caller;
  auto user = identity_named(user_option);
  if (!user) return fail(ErrorKind::kUsage, user.error().what());
  const bool may = ::getuid() == 0 && (!through_sudo || (caller && caller->uid == 0));
  if (may || (caller && caller->uid == user->uid)) return user;
  return fail(ErrorKind::kPermission, "--user " + user_option + ": only root may act for others");
}

Result<> need_root(const std::string& command) {
  if (::geteuid() == 0) return {};
  return fail(ErrorKind::kPermission, "'" + command + "' makes containers, which needs root",
              "call it as: sudo stillpoint " + command + " ... (the job runs as you)");
}

Result<> read_as(const Identity& user) {
  return ::geteuid() == 0 ? become(user) : Result<>();
}

std::string current_directory() {
  std::error_code error;
  const auto path = std::filesystem::current_path(error);
  return error ? "/" : path.string();
}

}  // namespace stillpoint::cli
