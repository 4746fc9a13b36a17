// What is permanent is decided by one name, manifest.h5: it appears last (commit) and goes first
// (prune), so a crash between any two calls leaves an epoch that is whole or one that sweep()
// removes.
#include "criu-glue/statefile/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/log.h"
#include "common/paths.h"
#include "criu-glue/statefile/directory.h"
#include "criu-glue/statefile/durable.h"

namespace stillpoint::statefile {

namespace {

std::string tentative(const std::string& name) {
  return name + paths::kTentative;
}

// Names that we make in an epoch's directory; anything else there is somebody else's and stays.
bool is_ours(const std::string& name) {
  std::string_view number(name);
  if (name == paths::kManifest || name.ends_with(paths::kTentative)) return true;
  if (!number.starts_with('c') || !number.ends_with(".h5")) return false;
  number = number.substr(1, number.size() - 4);
  return !number.empty() && number.find_first_not_of("0123456789") == number.npos;
}

// Makes a directory, and what is missing above it.
Result<> make_directories(const std::string& path) {
  if (::mkdir(path.c_str(), 0777) == 0 || errno == EEXIST) return {};
  if (errno != ENOENT) return fail_errno("making " + path);
  const std::string parent = parent_of(path);
  if (parent == path) return fail_errno("making " + path);
  if (auto r = make_directories(parent); !r) return r;
  if (::mkdir(path.c_str(), 0777) != 0 && errno != EEXIST) return fail_errno("making " + path);
  return sync_directory(parent);
}

// Empties an epoch's directory of what is ours (the manifest first) and removes it, unless somebody
// keeps something of his own in it.
Result<> remove_epoch(const Directory& job, const std::string& name) {
  auto epoch = job.sub(name);
  if (!epoch) return fail(epoch.error());
  if (auto r = epoch->remove(paths::kManifest); !r) return r;
  if (auto r = epoch->sync(); !r) return r;
  auto names = epoch->names();
  if (!names) return fail(names.error());
  for (const auto& file : *names)
    if (is_ours(file))
      if (auto r = epoch->remove(file); !r) return r;
  return job.remove_directory(name);
}

bool is_permanent(const Directory& job, uint64_t epoch) {
  return job.has_file(std::to_string(epoch) + "/" + paths::kManifest);
}

}  // namespace

Result<Store> Store::open(const std::string& checkpoints, const std::string& job, uint32_t step,
                          bool create) {
  if (auto r = paths::check_job_name(job); !r) return fail(r.error());
  const std::string path = paths::job_directory(checkpoints, job, step);
  if (create) {
    if (auto r = make_directories(checkpoints); !r) return fail(r.error());
    // The images hold a job's memory: nobody else's to read.
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno("making " + path);
    if (auto r = sync_directory(checkpoints); !r) return fail(r.error());
  }
  return open_existing(path);
}

Result<Store> Store::open_existing(const std::string& job_directory) {
  auto directory = Directory::open(job_directory);
  if (!directory) return fail(directory.error().during("the directory of checkpoints"));
  return at(job_directory);
}

Store Store::at(std::string job_directory) {
  Store store;
  store.directory_ = std::move(job_directory);
  return store;
}

Result<Fd> Store::lock() const {
  const std::string path = paths::join(directory_, paths::kLock);
  auto fd = open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
  if (!fd) return fail(fd.error());
  int r;
  do r = ::flock(fd->get(), LOCK_EX | LOCK_NB);
  while (r != 0 && errno == EINTR);
  if (r == 0) return std::move(*fd);
  if (errno == EWOULDBLOCK)
    return fail(ErrorKind::kBusy, "another run of this job holds " + path,
                "wait for it to end, or give this one another name");
  if (errno == ENOSYS || errno == ENOLCK || errno == EOPNOTSUPP)
    return fail(
        system_error("locking " + path, errno)
            .advise("the file system has to support flock (Lustre: mount it with -o flock)"));
  return fail_errno("locking " + path);
}

std::vector<uint64_t> Store::epochs() const {
  std::vector<uint64_t> found;
  auto job = Directory::open(directory_);
  if (!job) return found;
  auto names = job->names();
  if (!names) return found;
  for (const auto& name : *names)
    if (const auto epoch = paths::epoch_of(name); epoch && is_permanent(*job, *epoch))
      found.push_back(*epoch);
  std::sort(found.begin(), found.end());
  return found;
}

Result<uint64_t> Store::latest() const {
  // Tells a directory that cannot be read from one that has nothing.
  if (auto job = Directory::open(directory_); !job) return fail(job.error());
  const auto all = epochs();
  if (all.empty()) return fail(ErrorKind::kNotFound, "there is no checkpoint in " + directory_);
  return all.back();
}

Result<uint64_t> Store::next_epoch() const {
  auto job = Directory::open(directory_);
  if (!job) return fail(job.error());
  auto names = job->names();
  if (!names) return fail(names.error());
  uint64_t highest = 0;
  for (const auto& name : *names) highest = std::max(highest, paths::epoch_of(name).value_or(0));
  if (highest == UINT64_MAX) return fail(ErrorKind::kUsage, directory_ + " has no epoch left");
  return highest + 1;
}

std::string Store::statefile(uint64_t epoch, uint32_t container) const {
  return paths::join(paths::epoch_directory(directory_, epoch), paths::statefile(container));
}
std::string Store::tentative_statefile(uint64_t epoch, uint32_t container) const {
  return tentative(statefile(epoch, container));
}
std::string Store::manifest(uint64_t epoch) const {
  return paths::join(paths::epoch_directory(directory_, epoch), paths::kManifest);
}

Result<std::string> Store::begin(uint64_t epoch) const {
  auto job = Directory::open(directory_);
  if (!job) return fail(job.error());
  const std::string name = std::to_string(epoch), path = paths::join(directory_, name);
  if (epoch == 0 || is_permanent(*job, epoch))
    return fail(ErrorKind::kInternal, path + " cannot be begun: it is a permanent checkpoint");
  if (::mkdirat(job->fd(), name.c_str(), 0700) != 0) {
    if (errno != EEXIST) return fail_errno("making " + path);
    if (auto r = remove_epoch(*job, name); !r) return fail(r.error());  // of a run that died
    if (::mkdirat(job->fd(), name.c_str(), 0700) != 0) return fail_errno("making " + path);
  }
  if (auto r = job->sync(); !r) return fail(r.error());
  return path;
}

Result<> Store::seal(uint64_t epoch, uint32_t container) const {
  auto directory = Directory::open(paths::epoch_directory(directory_, epoch));
  if (!directory) return fail(directory.error());
  const std::string name = paths::statefile(container);
  if (auto r = directory->rename(tentative(name), name); !r) return r;
  return directory->sync();
}

Result<> Store::commit(uint64_t epoch, const std::string& manifest_bytes) const {
  auto job = Directory::open(directory_);
  if (!job) return fail(job.error());
  const std::string name = std::to_string(epoch);
  auto directory = job->sub(name);
  if (!directory) return fail(directory.error());
  if (is_permanent(*job, epoch))
    return fail(ErrorKind::kInternal, directory->path() + " is a permanent checkpoint already");
  const std::string draft = tentative(paths::kManifest);
  if (auto r = directory->write(draft, manifest_bytes); !r) return r;
  if (auto r = directory->rename(draft, paths::kManifest); !r) return r;
  if (auto r = directory->sync(); !r) return r;

  // Permanent.  The link is for people: no reason to call the checkpoint failed.
  if (auto r = job->link(paths::kLatest, name); !r)
    log::warning("checkpoint " + name +
                 " is complete, but 'latest' does not point to it: " + r.error().line());
  return {};
}

Result<> Store::abort(uint64_t epoch) const {
  auto job = Directory::open(directory_);
  if (!job) return fail(job.error());
  const std::string name = std::to_string(epoch);
  if (is_permanent(*job, epoch) || !job->has_directory(name)) return {};
  if (auto r = remove_epoch(*job, name); !r) return r;
  return job->sync();
}

Result<unsigned> Store::sweep() const {
  auto job = Directory::open(directory_);
  if (!job) return fail(job.error());
  auto names = job->names();
  if (!names) return fail(names.error());
  unsigned removed = 0;
  for (const auto& name : *names) {
    const auto epoch = paths::epoch_of(name);
    if (epoch && job->has_directory(name) && !is_permanent(*job, *epoch)) {
      if (auto r = remove_epoch(*job, name); !r) return fail(r.error());
    } else if (name.ends_with(paths::kTentative)) {
      if (auto r = job->remove(name); !r) return fail(r.error());
    } else {
      continue;
    }
    removed += !job->has(name);
  }
  if (auto r = job->sync(); !r) return fail(r.error());
  return removed;
}

Result<> Store::prune(unsigned keep) const {
  auto job = Directory::open(directory_);
  if (!job) return fail(job.error());
  const auto all = epochs();
  if (keep == 0 || all.size() <= keep) return {};
  for (size_t i = 0; i < all.size() - keep; ++i)
    if (auto r = remove_epoch(*job, std::to_string(all[i])); !r)
      return fail(r.error().during("removing an old checkpoint"));
  return job->sync();
}

}  // namespace stillpoint::statefile
