#include "criu-glue/statefile/durable.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "common/fd.h"

namespace stillpoint::statefile {

Result<> sync_directory(const std::string& path) {
  auto fd = open_file(path, O_RDONLY | O_DIRECTORY);
  if (!fd) return fail(fd.error());
  if (::fsync(fd->get()) != 0 && errno != EINVAL && errno != ENOTSUP)
    return fail_errno("fsync " + path);
  return {};
}

}  // namespace stillpoint::statefile
