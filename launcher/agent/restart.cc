#include "launcher/agent/restart.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "common/paths.h"
#include "criu-glue/criu/criu.h"
#include "criu-glue/statefile/manifest.h"
#include "criu-glue/statefile/pack.h"
#include "launcher/agent/node_facts.h"
#include "launcher/agent/rollback.h"

namespace stillpoint::agent {

using namespace std::chrono_literals;

namespace {

constexpr auto kStoreWait = 60s;
constexpr auto kUnpackWait = 24h;
constexpr auto kRestoreWait = 30min;
constexpr size_t kMostManifest = 64 << 20;

// What the find worker reports: JSON of the place, then the manifest's bytes.
Result<std::string> find_as_user(const RestartRequest& request) {
  auto place = statefile::resolve_checkpoint(paths::absolute(request.checkpoint, request.directory),
                                             request.policy.directory);
  if (!place &&
      request.checkpoint.find('/') == std::string::npos)  // not a path: perhaps a job's name
    place = statefile::resolve_checkpoint(request.checkpoint, request.policy.directory);
  if (!place) return fail(place.error());
  auto store = statefile::Store::open_existing(place->job_directory);
  if (!store) return fail(store.error());
  auto bytes = read_file(store->manifest(place->epoch), kMostManifest);
  if (!bytes) return fail(bytes.error());
  const nlohmann::json head = {{"directory", place->job_directory}, {"epoch", place->epoch}};
  return head.dump() + '\0' + *bytes;
}

Result<> check_owner(const statefile::Manifest& manifest, const Identity& user) {
  if (manifest.uid == user.uid) return {};
  return fail(ErrorKind::kPermission,
              "the checkpoint belongs to " + manifest.user + " (uid " +
                  std::to_string(manifest.uid) + "), you act for " + user.name,
              user.uid == 0 ? "restart it with --user " + manifest.user : "");
}

// Root's own copy of every image, made before the user's process writes into it.
Result<OpenImages> make_images(const std::string& directory,
                               const statefile::ContainerRecord& record) {
  OpenImages made;
  for (const auto& image : record.images) {
    auto fd =
        open_file(paths::join(directory, image.name), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (!fd) return fail(fd.error());
    if (::ftruncate(fd->get(), static_cast<off_t>(image.size)) != 0) return fail_errno(image.name);
    made.images.push_back({image.name, image.size, fd->get()});
    made.bytes += image.size;
    made.fds.push_back(std::move(*fd));
  }
  return made;
}

Milliseconds lap(std::chrono::steady_clock::time_point& from) {
  const auto now = std::chrono::steady_clock::now();
  return std::chrono::duration_cast<Milliseconds>(now - std::exchange(from, now));
}

Task<Result<>> unpack(Job& job, const FoundCheckpoint& found, const std::string& directory,
                      ProgressSink& sink, RestartTimes& times) {
  auto clock = std::chrono::steady_clock::now();
  const auto& record = found.manifest.containers.front();
  uint64_t bytes = 0;
  for (const auto& image : record.images) bytes += image.size;
  if (const uint64_t free = job.staging().free_bytes(); bytes > free)
    co_return fail(ErrorKind::kNoSpace,
                   "the checkpoint holds " + format_bytes(bytes) + ", and staging in " +
                       job.staging().path() + " has room for " + format_bytes(free),
                   "name a larger file system with --staging");
  auto images = make_images(directory, record);
  if (!images) co_return fail(images.error());
  std::vector<int> into;
  for (const auto& image : images->images) into.push_back(image.fd);
  const std::string path = paths::join(
      paths::epoch_directory(found.place.job_directory, found.place.epoch), record.statefile);

  const auto read_it = [&](Progress& progress) -> Result<std::string> {
    progress.total(bytes);
    auto r = statefile::unpack(path, record, into, [&](uint64_t n) { progress.add(n); });
    return r ? Result<std::string>("") : fail(r.error());
  };
  auto worker = Worker::start("reading the statefile", &job.user(), read_it);
  if (!worker) co_return fail(worker.error());
  auto read = co_await finish(std::move(*worker), Deadline::in(kUnpackWait),
                              [&](WorkDone p) { sink.update("read", p.done, p.total); });
  sink.finished();
  times.read = lap(clock);
  if (!read) co_return fail(read.error());

  auto checker =
      Worker::start("checking the images", nullptr, [&](Progress&) -> Result<std::string> {
        auto r = statefile::check_images(record, into);
        return r ? Result<std::string>("") : fail(r.error());
      });
  if (!checker) co_return fail(checker.error());
  auto checked = co_await finish(std::move(*checker), Deadline::in(kUnpackWait));
  times.check = lap(clock);
  if (!checked) co_return fail(checked.error());
  co_return Result<>();
}

Task<Result<>> files_as_they_were(Job& job, const statefile::ContainerRecord& record) {
  auto worker =
      Worker::start("rolling back files", &job.user(), [&](Progress&) -> Result<std::string> {
        if (auto r = check_files(record.files); !r) return fail(r.error());
        if (auto r = roll_back_files(record.files); !r) return fail(r.error());
        return std::string();
      });
  if (!worker) co_return fail(worker.error());
  auto done = co_await finish(std::move(*worker), Deadline::in(kStoreWait));
  co_return done ? Result<>() : fail(done.error());
}

// In a worker of its own: its mount namespace, with the bind that CRIU takes for the container's
// root, goes with it.
Result<std::string> restore_here(const Job& job, const statefile::ContainerRecord& record,
                                 const std::string& directory) {
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno("unshare");
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return fail_errno("making mounts private");
  const std::string root = paths::join(paths::kRunDirectory, "root");
  if (::mkdir(root.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno(root);
  if (::mount("/", root.c_str(), nullptr, MS_BIND, nullptr) != 0) return fail_errno("bind of /");
  if (::mount("none", root.c_str(), nullptr, MS_PRIVATE, nullptr) != 0)
    return fail_errno("making the bind of / private");
  auto network = container::make_network_namespace();
  if (!network) return fail(network.error());
  if (auto r = job.cgroup().join(); !r) return fail(r.error());
  criu::RestoreRequest request{.images = directory,
                               .root = root,
                               .network = network->get(),
                               .network_key = record.network_key,
                               .mounts = {},
                               .before_resume = {}};
  for (const auto& mount : record.mounts) request.mounts.push_back({mount.destination});
  auto pid = criu::make_criu()->restore(request);
  if (!pid) return fail(pid.error());
  return std::to_string(*pid);
}

}  // namespace

Result<FoundCheckpoint> find_checkpoint(const RestartRequest& request) {
  auto worker = Worker::start("looking for the checkpoint", &request.user,
                              [&](Progress&) { return find_as_user(request); });
  if (!worker) return fail(worker.error());
  auto report = worker->finish(Deadline::in(kStoreWait));
  if (!report) return fail(report.error());
  const size_t zero = report->find('\0');
  const auto head = nlohmann::json::parse(report->substr(0, zero), nullptr, false);
  if (zero == report->npos || !head.is_object())
    return fail(ErrorKind::kInternal, "looking for the checkpoint: no answer");
  FoundCheckpoint found;
  found.place = {head.value("directory", ""), head.value("epoch", uint64_t{0})};

  auto key = statefile::load_signing_key(paths::kSigningKey, true);
  if (!key) return fail(key.error());
  auto manifest = statefile::parse_manifest(report->substr(zero + 1), &*key);
  const std::string place = paths::epoch_directory(found.place.job_directory, found.place.epoch);
  if (!manifest) return fail(manifest.error().during(place));
  if (auto r = check_owner(*manifest, request.user); !r) return fail(r.error().during(place));
  if (auto r = fit_to_continue(*manifest); !r) return fail(r.error());
  if (manifest->containers.size() != 1)
    return fail(ErrorKind::kUnfit, place + ": the checkpoint is of a job on several nodes");
  found.manifest = std::move(*manifest);
  return found;
}

Task<Result<RestartTimes>> restore_job(Job& job, const FoundCheckpoint& found, ProgressSink& sink) {
  RestartTimes times;
  job.set_phase("restarting");
  const auto& record = found.manifest.containers.front();
  auto directory = job.staging().make_directory("restart");
  if (!directory) co_return fail(directory.error());
  if (auto r = co_await unpack(job, found, *directory, sink, times); !r) co_return fail(r.error());
  if (auto r = co_await files_as_they_were(job, record); !r) co_return fail(r.error());
  auto clock = std::chrono::steady_clock::now();
  auto worker = Worker::start("the restore", nullptr,
                              [&](Progress&) { return restore_here(job, record, *directory); });
  if (!worker) co_return fail(worker.error());
  auto pid = co_await finish(std::move(*worker), Deadline::in(kRestoreWait));
  times.restore = lap(clock);
  job.staging().remove_directory("restart");
  if (!pid) co_return fail(pid.error());
  if (auto r = job.adopt(std::stoi(*pid), record.network_key); !r) co_return fail(r.error());
  co_return times;
}

}  // namespace stillpoint::agent
