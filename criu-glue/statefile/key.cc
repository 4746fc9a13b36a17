// The site's signing key: 32 random bytes in a file of root's.
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "common/fd.h"
#include "criu-glue/statefile/durable.h"
#include "criu-glue/statefile/manifest.h"

namespace stillpoint::statefile {

namespace {

Result<SigningKey> read_key(int fd, const std::string& path) {
  struct stat st{};
  if (::fstat(fd, &st) != 0) return fail_errno(path);
  if (!S_ISREG(st.st_mode)) return fail(ErrorKind::kPermission, path + " is not a regular file");
  if ((st.st_mode & 077) != 0 || st.st_uid != ::geteuid())
    return fail(ErrorKind::kPermission, "the signing key " + path + " is open to others",
                "make it its owner's alone (chown root, chmod 0400), or remove it for a new one");
  SigningKey key;
  if (static_cast<size_t>(st.st_size) != key.bytes.size())
    return fail(ErrorKind::kDamaged, "the signing key " + path + " does not have 32 bytes",
                "copy it again from a machine that has it");
  if (auto r = read_all_at(fd, std::as_writable_bytes(std::span(key.bytes)), 0); !r)
    return fail(r.error().during(path));
  return key;
}

Result<> draw(SigningKey& key) {
  ssize_t n;
  do n = ::getrandom(key.bytes.data(), key.bytes.size(), 0);
  while (n < 0 && errno == EINTR);
  if (n != static_cast<ssize_t>(key.bytes.size())) return fail_errno("drawing random bytes");
  return {};
}

// Written under another name first and linked: the key's name never holds half of one, and of two
// who make it at the same time one wins.
Result<> make_key(const std::string& path) {
  const std::string directory = std::filesystem::path(path).parent_path();
  if (::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno(directory);
  SigningKey key;
  if (auto r = draw(key); !r) return r;
  const std::string draft = path + "." + std::to_string(::getpid()) + ".tentative";
  ::unlink(draft.c_str());
  auto fd = open_file(draft, O_WRONLY | O_CREAT | O_EXCL, 0400);
  if (!fd) return fail(fd.error());
  auto result = write_all_at(fd->get(), std::as_bytes(std::span(key.bytes)), 0);
  if (result && ::fsync(fd->get()) != 0) result = fail_errno("fsync");
  if (result && ::link(draft.c_str(), path.c_str()) != 0 && errno != EEXIST)
    result = fail_errno(path);
  ::unlink(draft.c_str());
  if (!result) return fail(result.error().during("making " + path));
  return sync_directory(directory);
}

Result<Fd> open_key(const std::string& path) {
  return open_file(path, O_RDONLY | O_NOFOLLOW);
}

}  // namespace

Result<SigningKey> load_signing_key(const std::string& path, bool create) {
  auto fd = open_key(path);
  if (!fd && fd.error().kind() == ErrorKind::kNotFound && create) {
    if (auto r = make_key(path); !r) return fail(r.error().during("the signing key"));
    fd = open_key(path);
  }
  if (!fd) return fail(fd.error().during("the signing key"));
  return read_key(fd->get(), path);
}

}  // namespace stillpoint::statefile
