#include "criu-glue/statefile/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "common/paths.h"

namespace stillpoint::statefile {

namespace {

bool is_mode(int directory, const std::string& name, mode_t type) {
  struct stat st{};
  if (::fstatat(directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return false;
  return type == 0 || (st.st_mode & S_IFMT) == type;
}

}  // namespace

std::string parent_of(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

Result<Directory> Directory::open(const std::string& path) {
  auto fd = open_file(path, O_RDONLY | O_DIRECTORY);
  if (!fd) return fail(fd.error());
  return Directory(path, std::move(*fd));
}

Result<Directory> Directory::sub(const std::string& name) const {
  const std::string path = paths::join(path_, name);
  int fd;
  do fd = ::openat(fd_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  while (fd < 0 && errno == EINTR);
  if (fd < 0) return fail_errno(path);
  return Directory(path, Fd(fd));
}

Result<std::vector<std::string>> Directory::names() const {
  Fd own(::openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::unique_ptr<DIR, int (*)(DIR*)> stream(own ? ::fdopendir(own.get()) : nullptr, ::closedir);
  if (!stream) return fail_errno("reading " + path_);
  own.release();
  std::vector<std::string> found;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (!entry && errno != 0) return fail_errno("reading " + path_);
    if (!entry) break;
    const std::string name = entry->d_name;
    if (name != "." && name != "..") found.push_back(name);
  }
  std::sort(found.begin(), found.end());
  return found;
}

bool Directory::has(const std::string& name) const {
  return is_mode(fd_.get(), name, 0);
}
bool Directory::has_file(const std::string& name) const {
  return is_mode(fd_.get(), name, S_IFREG);
}
bool Directory::has_directory(const std::string& name) const {
  return is_mode(fd_.get(), name, S_IFDIR);
}

Result<> Directory::remove(const std::string& name) const {
  if (::unlinkat(fd_.get(), name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno == EISDIR) return {};  // not made by us
  return fail_errno("removing " + paths::join(path_, name));
}

Result<> Directory::remove_directory(const std::string& name) const {
  if (::unlinkat(fd_.get(), name.c_str(), AT_REMOVEDIR) == 0) return {};
  if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOENT) return {};
  return fail_errno("removing " + paths::join(path_, name));
}

Result<> Directory::rename(const std::string& from, const std::string& to) const {
  if (::renameat(fd_.get(), from.c_str(), fd_.get(), to.c_str()) == 0) return {};
  return fail_errno("renaming " + paths::join(path_, from) + " to " + to);
}

Result<> Directory::write(const std::string& name, const std::string& bytes) const {
  const std::string path = paths::join(path_, name);
  if (auto r = remove(name); !r) return r;
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  Fd fd(::openat(fd_.get(), name.c_str(), flags, 0600));
  if (!fd) return fail_errno("making " + path);
  Result<> result = write_all(fd.get(), bytes);
  if (result && ::fsync(fd.get()) != 0) result = fail_errno("fsync");
  if (result) return {};
  ::unlinkat(fd_.get(), name.c_str(), 0);
  return fail(result.error().during("writing " + path));
}

Result<> Directory::link(const std::string& name, const std::string& target) const {
  const std::string draft = name + paths::kTentative;
  if (auto r = remove(draft); !r) return r;
  if (::symlinkat(target.c_str(), fd_.get(), draft.c_str()) != 0)
    return fail_errno("making " + paths::join(path_, draft));
  if (auto r = rename(draft, name); !r) {
    ::unlinkat(fd_.get(), draft.c_str(), 0);
    return r;
  }
  return sync();
}

Result<> Directory::sync() const {
  if (::fsync(fd_.get()) != 0 && errno != EINVAL && errno != ENOTSUP)
    return fail_errno("fsync " + path_);
  return {};
}

}  // namespace stillpoint::statefile
