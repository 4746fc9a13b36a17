#include "launcher/agent/rollback.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "common/fd.h"

namespace stillpoint::agent {

Result<> check_files(const std::vector<statefile::FileRecord>& files) {
  for (const auto& file : files) {
    struct stat s{};
    if (::stat(file.path.c_str(), &s) != 0) {
      const Error error = system_error(file.path, errno);
      return fail(ErrorKind::kDamaged,
                  "a file that the job had open at the checkpoint cannot be found: " + error.what(),
                  "put it back, or restart from another checkpoint");
    }
    const auto size = static_cast<uint64_t>(s.st_size);
    if (!S_ISREG(s.st_mode) || size < file.size || (!file.writable && size != file.size))
      return fail(ErrorKind::kDamaged,
                  "a file that the job had open at the checkpoint has changed: " + file.path +
                      " has " + std::to_string(size) + " bytes, it had " +
                      std::to_string(file.size),
                  "put back the file as it was, or restart from another checkpoint");
  }
  return {};
}

Result<> roll_back_files(const std::vector<statefile::FileRecord>& files) {
  for (const auto& file : files) {
    if (!file.writable) continue;
    auto fd = open_file(file.path, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
    if (!fd) return fail(fd.error().during("rolling back a file of the job"));
    struct stat s{};
    if (::fstat(fd->get(), &s) != 0) return fail_errno(file.path);
    if (static_cast<uint64_t>(s.st_size) > file.size &&
        ::ftruncate(fd->get(), static_cast<off_t>(file.size)) != 0)
      return fail(system_error(file.path, errno).during("rolling back a file of the job"));
  }
  return {};
}

}  // namespace stillpoint::agent
