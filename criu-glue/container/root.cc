// Real mounts are bound through descriptors that are looked up without following symbolic links:
// parts of their paths belong to users, and a link put there meanwhile could lay a user's directory
// over /etc. A clone of a mount keeps its flags: read-only, nosuid, nodev, noexec.
#include "criu-glue/container/root.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "common/fd.h"

namespace stillpoint::container {

namespace {

// Where the new root is put together: any directory that surely exists.  It is covered in this
// namespace only.
constexpr const char* kStage = "/proc";

std::string staged(const char* path) {
  return std::string(kStage) + path;
}

Result<Fd> open_place(int directory, const std::string& path, uint64_t resolve) {
  struct open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = resolve | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const long fd = ::syscall(SYS_openat2, directory, path.c_str(), &how, sizeof how);
  if (fd < 0) return fail_errno(path);
  return Fd(static_cast<int>(fd));
}

Result<> move_clone(int from, int to, const std::string& what) {
  const long tree =
      ::syscall(SYS_open_tree, from, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (tree < 0) return fail_errno("cloning the mount " + what);
  const Fd clone(static_cast<int>(tree));
  if (::syscall(SYS_move_mount, clone.get(), "", to, "",
                MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0)
    return fail_errno("showing the mount " + what);
  return {};
}

bool is_mount_root(int fd) {
  struct statx about{};
  return ::statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, 0, &about) == 0 &&
         (about.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

Result<> bind_real(int root, const Mount& mount) {
  auto from = open_place(AT_FDCWD, mount.destination, 0);
  if (!from) return fail(from.error());
  if (!is_mount_root(from->get()))
    return fail(ErrorKind::kNotFound, mount.destination + " is no longer a mount");
  auto to = open_place(root, mount.destination.substr(1), RESOLVE_BENEATH);
  if (!to)
    return fail(
        to.error()
            .during("the mount " + mount.destination + " cannot be shown in the container")
            .advise("its directory must exist in the file systems that the container shows"));
  return move_clone(from->get(), to->get(), mount.destination);
}

Result<> mount_new(const char* type, const char* path, unsigned long flags,
                   const std::string& options) {
  if (::mount(type, staged(path).c_str(), type, flags, options.c_str()) != 0)
    return fail_errno("mounting " + std::string(type) + " on " + path + " of the container");
  return {};
}

struct Node {
  const char* path;
  unsigned major, minor;
};
struct Symlink {
  const char* path;
  const char* target;
};
constexpr Node kNodes[] = {{"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
                           {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0}};
constexpr Symlink kLinks[] = {{"/dev/ptmx", "pts/ptmx"},
                              {"/dev/fd", "/proc/self/fd"},
                              {"/dev/stdin", "/proc/self/fd/0"},
                              {"/dev/stdout", "/proc/self/fd/1"},
                              {"/dev/stderr", "/proc/self/fd/2"}};

// Size of the node's /dev/shm, so that what fits on the node fits in the container.
std::string shm_options() {
  struct statvfs about{};
  std::string options = "mode=1777";
  if (::statvfs("/dev/shm", &about) == 0 && about.f_blocks > 0)
    options += ",size=" + std::to_string(uint64_t{about.f_blocks} * about.f_frsize);
  return options;
}

Result<> fill_dev() {
  const std::string shm = shm_options();
  if (auto r = mount_new("tmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755"); !r) return r;
  for (const Node& node : kNodes)
    if (::mknod(staged(node.path).c_str(), S_IFCHR | 0666, makedev(node.major, node.minor)) != 0)
      return fail_errno("making " + std::string(node.path) + " of the container");
  for (const Symlink& link : kLinks)
    if (::symlink(link.target, staged(link.path).c_str()) != 0)
      return fail_errno("making " + std::string(link.path) + " of the container");
  for (const char* directory : {"/dev/pts", "/dev/shm"})
    if (::mkdir(staged(directory).c_str(), 0755) != 0)
      return fail_errno("making " + std::string(directory) + " of the container");
  if (auto r = mount_new("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC,
                         "newinstance,ptmxmode=0666,mode=0620");
      !r)
    return r;
  return mount_new("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, shm);
}

Result<> make_private_mounts() {
  constexpr unsigned long kStrict = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (auto r = mount_new("proc", "/proc", kStrict, ""); !r) return r;
  // The devices of the new network namespace; nothing below it is for a job to change.
  if (auto r = mount_new("sysfs", "/sys", kStrict | MS_RDONLY, ""); !r) return r;
  if (auto r = fill_dev(); !r) return r;
  return mount_new("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755");
}

// pivot_root(".", ".") stacks the old root over the new one, from where it is taken off.
Result<> enter_root(int root) {
  if (::fchdir(root) != 0) return fail_errno("entering the container's root");
  if (::syscall(SYS_pivot_root, ".", ".") != 0) return fail_errno("pivot_root");
  if (::umount2(".", MNT_DETACH) != 0) return fail_errno("detaching the node's root");
  if (::chdir("/") != 0) return fail_errno("chdir to /");
  return {};
}

}  // namespace

Result<> build_root(const std::vector<Mount>& mounts) {
  ::umask(0);
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return fail_errno("making mounts private");
  // Before anything covers a path, all is where mounts.h saw it.
  auto slash = open_place(AT_FDCWD, "/", 0), stage = open_place(AT_FDCWD, kStage, 0);
  if (!slash) return fail(slash.error());
  if (!stage) return fail(stage.error());
  if (auto r = move_clone(slash->get(), stage->get(), "/"); !r) return r;
  auto root = open_place(AT_FDCWD, kStage, 0);
  if (!root) return fail(root.error());
  for (const Mount& mount : mounts)
    if (auto r = bind_real(root->get(), mount); !r) return r;
  if (auto r = make_private_mounts(); !r) return r;
  if (auto r = enter_root(root->get()); !r) return r;
  ::umask(022);
  return {};
}

}  // namespace stillpoint::container
