#include "launcher/agent/launch.h"

#include <sched.h>
#include <unistd.h>

#include <climits>
#include <filesystem>

namespace stillpoint::agent {

std::string this_host() {
  char name[HOST_NAME_MAX + 1] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

uint32_t processors() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<uint32_t>(CPU_COUNT(&set));
}

namespace {

// Beside us, wherever the product was installed: PREFIX/bin/stillpoint,
// PREFIX/libexec/stillpoint/...
Result<std::string> installed_program(const std::string& name) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto program =
      (self.parent_path() / STILLPOINT_LIBEXEC_FROM_BIN / name).lexically_normal().string();
  if (::access(program.c_str(), X_OK) == 0) return program;
  return fail(ErrorKind::kInternal, program + " is missing", "install stillpoint again");
}

}  // namespace

Result<std::string> supervisor_program() {
  return installed_program("stillpoint-supervisor");
}

std::string tools_for_criu() {
  const auto gzip = installed_program("for-criu/gzip");
  return gzip ? std::filesystem::path(*gzip).parent_path().string() : std::string();
}

Result<container::ContainerSpec> container_spec(const Identity& user) {
  auto program = supervisor_program();
  if (!program) return fail(program.error());
  auto mounts = container::real_mounts();
  if (!mounts) return fail(mounts.error());
  return container::ContainerSpec{.user = user,
                                  .hostname = this_host(),
                                  .mounts = std::move(*mounts),
                                  .program = {std::move(*program)},
                                  .env = {"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"}};
}

}  // namespace stillpoint::agent
