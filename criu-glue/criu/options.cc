#include "criu-glue/criu/options.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <limits>

#include "common/paths.h"
#include "criu-glue/criu/explain.h"

namespace stillpoint::criu {

namespace {

// Seconds that CRIU may take to seize all threads of a job (10 unless told; thousands of threads
// take longer).
constexpr unsigned kSeizeSeconds = 120;

// The lines that matter of a log that may be large.
std::string errors_of(const std::string& path) {
  constexpr size_t kMost = 1 << 20;
  std::ifstream file(path);
  std::string errors;
  for (std::string line; errors.size() < kMost && std::getline(file, line);)
    if (line.find("Error (") != line.npos) errors += line + "\n";
  return errors;
}

bool is_full(const std::string& directory) {
  struct statvfs about{};
  return ::statvfs(directory.c_str(), &about) == 0 && about.f_blocks > 0 &&
         about.f_bavail * about.f_frsize < (1 << 16);
}

}  // namespace

Result<Options> make_options(const std::string& binary) {
  criu_opts* raw = nullptr;
  if (criu_local_init_opts(&raw) != 0)
    return fail(ErrorKind::kSystem, "out of memory for CRIU's options");
  Options options(raw);
  if (criu_local_set_service_binary(raw, binary.c_str()) != 0)
    return fail(ErrorKind::kSystem, "out of memory for CRIU's options");
  return options;
}

Result<Options> make_image_options(const std::string& binary, const Fd& images, const char* log) {
  auto made = make_options(binary);
  if (!made) return made;
  criu_opts* options = made->get();
  criu_local_set_images_dir_fd(options, images.get());
  criu_local_set_log_file(options, log);
  criu_local_set_log_level(options, CRIU_LOG_INFO);
  criu_local_set_tcp_established(
      options, true);  // connections inside the container: both ends are in the dump
  criu_local_set_file_locks(options, true);
  // The network of a container is cut by whoever coordinates the dump, not by CRIU.
  if (criu_local_set_network_lock(options, CRIU_NETWORK_LOCK_SKIP) != 0)
    return fail(ErrorKind::kUnfit, "libcriu cannot leave the network unlocked");
  // The container's cgroup is ours: its processes are in one group, and a restore runs in the new
  // one.
  criu_local_set_manage_cgroups_mode(options, CRIU_CG_MODE_IGNORE);
  criu_local_set_timeout(options, kSeizeSeconds);
  // Unlinked files that are open (scratch files, mostly) are saved whole.  The default of 1 MiB
  // would refuse the dump; what is too large for the staging space is told as that.  The field has
  // 32 bits.
  criu_local_set_ghost_limit(options, std::numeric_limits<unsigned>::max());
  // Not used, on purpose.  link_remap: it would write into users' directories as root, and CRIU
  // takes the links away again when processes go on running.  shell_job: terminals from outside do
  // not exist in a container. tcp_skip_in_flight: it drops connections that are just being
  // accepted, behind the client's back.
  return made;
}

Result<> check_mounts(const std::vector<ExternalMount>& mounts) {
  for (const ExternalMount& mount :
       mounts)  // CRIU looks for "mnt[PLACE]:" at the start of "mnt[PLACE]:KEY"
    if (mount.destination.find("]:") != mount.destination.npos)
      return fail(ErrorKind::kUnfit,
                  "CRIU cannot be told of a mount on '" + mount.destination + "'",
                  "mount it elsewhere: its path holds ']:'");
  return {};
}

Error explain_failure(const char* doing, const std::string& images, const char* log, int code) {
  const std::string errors = errors_of(paths::join(images, log));
  Error error = explain(doing, errors);
  // A full file system takes the log's last lines as well.
  if (error.kind() != ErrorKind::kNoSpace && is_full(images))
    return Error(ErrorKind::kNoSpace,
                 std::string("CRIU's ") + doing + " failed: no space is left in " + images,
                 "free some, or choose another staging directory");
  if (code == -ECOMM)
    return Error(ErrorKind::kSystem, std::string("CRIU was killed or crashed during the ") + doing,
                 "see the kernel's log: it may have run out of memory");
  if (errors.empty() && code != -EBADE)
    return Error(ErrorKind::kSystem, std::string("CRIU's ") + doing +
                                         " failed without a word (libcriu says " +
                                         std::to_string(code) + ")");
  return error;
}

QuietStderr::QuietStderr() : saved_(::fcntl(2, F_DUPFD_CLOEXEC, 3)) {
  const Fd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  if (saved_ && null) ::dup2(null.get(), 2);
}

QuietStderr::~QuietStderr() {
  if (saved_) ::dup2(saved_.get(), 2);
}

}  // namespace stillpoint::criu
