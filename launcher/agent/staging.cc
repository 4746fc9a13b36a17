#include "launcher/agent/staging.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>

#include "common/paths.h"

namespace stillpoint::agent {

namespace fs = std::filesystem;

namespace {

constexpr auto kRemovalWait = std::chrono::seconds(60);

// Root's, and changed by nobody else; or sticky, where others cannot touch what is root's.
Result<> check_owner(const std::string& path) {
  struct stat s{};
  if (::lstat(path.c_str(), &s) != 0) return fail_errno("staging directory " + path);
  const char* wrong = nullptr;
  if (!S_ISDIR(s.st_mode))
    wrong = " is not a directory";
  else if (s.st_uid != 0)
    wrong = " does not belong to root";
  else if ((s.st_mode & (S_IWGRP | S_IWOTH)) && !(s.st_mode & S_ISVTX))
    wrong = " can be changed by others than root";
  if (!wrong) return {};
  return fail(ErrorKind::kPermission, "staging directory " + path + wrong,
              "name one with --staging that is root's, as /dev/shm/stillpoint");
}

Result<> check_chain(const std::string& path) {
  for (fs::path p = path; p != p.root_path(); p = p.parent_path())
    if (auto r = check_owner(p.string()); !r) return r;
  return {};
}

}  // namespace

Result<Staging> Staging::create(const std::string& base, const std::string& job) {
  std::error_code error;
  if (::mkdir(base.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno("staging directory " + base);
  if (auto r = check_chain(base); !r) return fail(r.error());
  const std::string path = paths::join(base, job);
  fs::remove_all(path, error);
  if (::mkdir(path.c_str(), 0700) != 0) return fail_errno("staging directory " + path);
  return Staging(path);
}

Staging::~Staging() {
  std::error_code ignored;
  if (path_.empty()) return;
  await_removals();
  fs::remove_all(path_, ignored);
  // Our own base goes too when it is empty; one that a user named is his.
  if (fs::path(path_).parent_path() == paths::kDefaultStaging)
    fs::remove(paths::kDefaultStaging, ignored);
}

void Staging::await_removals() {
  for (auto& removal : removals_) (void)removal.finish(Deadline::in(kRemovalWait));
  removals_.clear();
}

Result<std::string> Staging::make_directory(const std::string& name) {
  await_removals();
  const std::string path = paths::join(path_, name);
  std::error_code error;
  fs::remove_all(path, error);
  if (::mkdir(path.c_str(), 0700) != 0) return fail_errno("staging directory " + path);
  return path;
}

void Staging::remove_directory(const std::string& name) {
  std::error_code error;
  const std::string gone = paths::join(path_, "removed." + std::to_string(removed_++));
  fs::rename(paths::join(path_, name), gone, error);
  if (error) return;  // there is none
  auto worker = Worker::start("freeing staging", nullptr, [&](Progress&) -> Result<std::string> {
    fs::remove_all(gone, error);
    return std::string();
  });
  if (worker)
    removals_.push_back(std::move(*worker));
  else
    fs::remove_all(gone, error);
}

uint64_t Staging::free_bytes() const {
  struct statvfs s{};
  if (::statvfs(path_.c_str(), &s) != 0) return 0;
  return static_cast<uint64_t>(s.f_bavail) * s.f_frsize;
}

void warm_up(const std::string& directory, uint64_t bytes) {
  constexpr uint64_t kPiece = 64 << 20;
  struct statfs s{};
  if (::statfs(directory.c_str(), &s) != 0 || s.f_type != TMPFS_MAGIC) return;
  const Fd file(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!file || ::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) return;
  for (uint64_t at = 0; at < bytes; at += kPiece) {
    const uint64_t size = std::min(kPiece, bytes - at);
    void* piece = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(),
                         static_cast<off_t>(at));
    if (piece == MAP_FAILED) return;
    const bool good = ::madvise(piece, size, MADV_POPULATE_WRITE) == 0;
    ::munmap(piece, size);
    if (!good) return;  // full
  }
}

Result<OpenImages> open_images(const std::string& directory) {
  OpenImages open;
  std::error_code error;
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory, error))
    if (entry.path().extension() == ".img") names.push_back(entry.path().filename().string());
  if (error) return fail(system_error(directory, error.value()));
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    auto fd = open_file(paths::join(directory, name), O_RDONLY | O_NOFOLLOW);
    if (!fd) return fail(fd.error());
    struct stat s{};
    if (::fstat(fd->get(), &s) != 0) return fail_errno(name);
    const auto size = static_cast<uint64_t>(s.st_size);
    open.images.push_back({name, size, fd->get()});
    open.bytes += size;
    open.fds.push_back(std::move(*fd));
  }
  if (open.images.empty()) return fail(ErrorKind::kInternal, "CRIU left no images in " + directory);
  return open;
}

uint64_t image_bytes(const std::string& directory) {
  uint64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const auto size = entry.file_size(error);
    if (!error) bytes += size;
  }
  return bytes;
}

}  // namespace stillpoint::agent
