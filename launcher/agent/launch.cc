#include "launcher/agent/launch.h"

#include <sched.h>
#include <unistd.h>

#include <climits>
#include <filesystem>

namespace stillpoint::agent {

namespace {

std::string hostname() {
  char name[HOST_NAME_MAX + 1] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

uint32_t processors() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<uint32_t>(CPU_COUNT(&set));
}

}  // namespace

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

Result<std::string> supervisor_program() {
  return installed_program("stillpoint-supervisor");
}

std::string tools_for_criu() {
  const auto gzip = installed_program("for-criu/gzip");
  return gzip ? std::filesystem::path(*gzip).parent_path().string() : std::string();
}

Result<container::ContainerSpec> container_spec(const RunRequest& request) {
  auto program = supervisor_program();
  if (!program) return fail(program.error());
  auto mounts = container::real_mounts();
  if (!mounts) return fail(mounts.error());
  return container::ContainerSpec{.user = request.user,
                                  .hostname = hostname(),
                                  .mounts = std::move(*mounts),
                                  .program = {std::move(*program)},
                                  .env = {"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"}};
}

link::Start start_message(const RunRequest& request) {
  link::Start start;
  for (const std::string& arg : request.argv) start.add_argv(arg);
  for (const std::string& variable : request.env) start.add_env(variable);
  start.set_directory(request.directory);
  start.set_ranks(request.ranks);
  start.set_job(request.job);
  start.set_hostname(hostname());
  start.set_processors(processors());
  start.set_umask(request.umask);
  return start;
}

}  // namespace stillpoint::agent
