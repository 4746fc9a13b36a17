#include "launcher/agent/making.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "common/log.h"
#include "common/paths.h"
#include "common/wire/job.pb.h"
#include "criu-glue/container/network_lock.h"
#include "criu-glue/criu/criu.h"
#include "criu-glue/statefile/pack.h"
#include "launcher/agent/launch.h"
#include "launcher/agent/node_facts.h"
#include "launcher/agent/rollback.h"

namespace stillpoint::agent {

using namespace std::chrono_literals;
using coordinator::Operation;
using coordinator::Step;
namespace network_lock = container::network_lock;
namespace mpi_network = container::mpi_network;

namespace {

constexpr auto kContainerWait = 30s;
constexpr auto kNetworkWait = 10s;
constexpr auto kFilesWait = 60s;
constexpr auto kUnpackWait = 24h;  // bounded by the size of memory and the speed of the file system
constexpr auto kRestoreWait = 9min;
constexpr auto kFreezeWait = 10s;
constexpr const char* kImages = "restart";  // in staging

uint64_t size_of_images(const statefile::ContainerRecord& record) {
  uint64_t bytes = 0;
  for (const auto& image : record.images) bytes += image.size;
  return bytes;
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

// Everything is restored and traced by CRIU.  Once frozen it stays so when CRIU lets go; CRIU and
// this worker, which had to be in the cgroup for the container to be made there, leave it before.
Result<> hold(const container::Cgroup& cgroup, pid_t init) {
  if (auto r = cgroup.expel_others(init); !r) return r;
  return cgroup.freeze(Deadline::in(kFreezeWait));
}

// In a worker of its own: its mount namespace, with the bind that CRIU takes for the container's
// root, goes with it.
Result<std::string> restore_here(const Part& part, int network, const std::string& images) {
  const auto& record = *part.spec().record;
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno("unshare");
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return fail_errno("making mounts private");
  const std::string root = paths::join(paths::kRunDirectory, "root");
  if (::mkdir(root.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno(root);
  if (::mount("/", root.c_str(), nullptr, MS_BIND, nullptr) != 0) return fail_errno("bind of /");
  if (::mount("none", root.c_str(), nullptr, MS_PRIVATE, nullptr) != 0)
    return fail_errno("making the bind of / private");
  const container::Cgroup& cgroup = part.cgroup();
  if (auto r = cgroup.join(); !r) return fail(r.error());
  criu::RestoreRequest request{.images = images,
                               .root = root,
                               .network = network,
                               .network_key = record.network_key,
                               .mounts = {},
                               .before_resume = [&](pid_t init) { return hold(cgroup, init); }};
  for (const auto& mount : record.mounts) request.mounts.push_back({mount.destination});
  auto pid = criu::make_criu()->restore(request);
  if (!pid) return fail(pid.error());
  return std::to_string(*pid);
}

Result<> no_answer(Result<std::string> result) {
  return result ? Result<>() : fail(result.error());
}

}  // namespace

std::string to_text(const RestartTimes& times) {
  return nlohmann::json{{"read", times.read.count()},
                        {"check", times.check.count()},
                        {"restore", times.restore.count()}}
      .dump();
}

Result<RestartTimes> times_from_text(const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return fail(ErrorKind::kProtocol, "a member's report is none");
  const auto number = [&](const char* name) {
    const auto it = json.find(name);
    return Milliseconds(it != json.end() && it->is_number_integer() ? it->get<int64_t>() : 0);
  };
  return RestartTimes{number("read"), number("check"), number("restore")};
}

Task<Result<std::string>> Making::perform(coordinator::Work work, std::string details) {
  worker_.begin();
  const bool restart = work.operation == Operation::kRestart;
  Result<> done;
  switch (work.step) {
    case Step::kPrepare:
      done = prepare();
      break;
    case Step::kCreate:
      co_return create(restart);
    case Step::kConnect:
      done = connect(details);
      break;
    case Step::kStart:
      done = co_await start(details);
      break;
    case Step::kUnpack:
      done = co_await unpack();
      break;
    case Step::kRestore:
      done = co_await restore();
      break;
    case Step::kGo:
      co_return co_await go();
    case Step::kDestroy:
      done = co_await destroy();
      break;
    default:
      done = fail(ErrorKind::kInternal, "no step by which a job begins");
  }
  if (!done) co_return fail(done.error());
  co_return std::string();
}

void Making::call_off() {
  worker_.call_off();
}

Result<> Making::prepare() {
  const auto& record = *part_.spec().record;
  statefile::Manifest dumped = part_.spec().dumped;
  dumped.containers = {record};
  if (auto r = fit_to_continue(dumped); !r) return r;
  const uint64_t bytes = size_of_images(record);
  if (const uint64_t free = part_.staging().free_bytes(); bytes > free)
    return fail(ErrorKind::kNoSpace,
                "the checkpoint holds " + format_bytes(bytes) + ", and staging in " +
                    part_.staging().path() + " has room for " + format_bytes(free),
                "name a larger file system with --staging");
  auto directory = part_.staging().make_directory(kImages);
  if (!directory) return fail(directory.error());
  images_ = *directory;
  return {};
}

Result<std::string> Making::create(bool restart) {
  if (restart) {
    auto network = container::make_network_namespace();
    if (!network) return fail(network.error());
    network_ = std::move(*network);
    auto end = tunnel(network_.get());
    if (end && part_.spec().tunnel)
      if (auto r = network_lock::lock(network_.get(), Deadline::in(kNetworkWait)); !r)
        return fail(r.error());
    return end;
  }
  auto spec = container_spec(part_.user());
  if (!spec) return fail(spec.error());
  auto made = container::create(*spec, part_.cgroup(), Deadline::in(kContainerWait));
  if (!made) return fail(made.error());
  if (auto r = part_.made(std::move(made->init), std::move(made->network), "network"); !r)
    return fail(r.error());
  return tunnel(part_.network());
}

Result<std::string> Making::tunnel(int network) {
  const auto& tunnel = part_.spec().tunnel;
  if (!tunnel) return std::string();
  auto port = mpi_network::create({.vni = tunnel->vni,
                                   .index = part_.spec().index,
                                   .local = tunnel->local,
                                   .ports = tunnel->ports,
                                   .ns = network},
                                  Deadline::in(kNetworkWait));
  if (!port) return fail(port.error());
  job::Created created;
  created.set_node(tunnel->local);
  created.set_port(*port);
  return created.SerializeAsString();
}

Result<> Making::connect(const std::string& details) {
  if (!part_.spec().tunnel) return {};
  job::FarEnds told;
  if (!told.ParseFromString(details)) return fail(ErrorKind::kProtocol, "far ends that are none");
  std::vector<mpi_network::FarEnd> ends;
  for (const auto& end : told.far_end()) {
    if (end.port() > 65535) return fail(ErrorKind::kProtocol, "a port that is none");
    ends.push_back({end.index(), end.node(), static_cast<uint16_t>(end.port())});
  }
  const int network = network_ ? network_.get() : part_.network();
  return mpi_network::connect(network, ends, Deadline::in(kNetworkWait));
}

Task<Result<>> Making::start(const std::string& details) {
  link::Start start;
  if (!start.ParseFromString(details)) co_return fail(ErrorKind::kProtocol, "a start that is none");
  start.set_hostname(this_host());
  start.set_processors(processors());
  co_return co_await part_.start(start);
}

Task<Result<>> Making::unpack() {
  auto clock = std::chrono::steady_clock::now();
  const auto& record = *part_.spec().record;
  auto images = make_images(images_, record);
  if (!images) co_return fail(images.error());
  std::vector<int> into;
  for (const auto& image : images->images) into.push_back(image.fd);
  const std::string path = paths::join(part_.spec().checkpoint, record.statefile);
  const uint64_t bytes = size_of_images(record);
  auto worker = Worker::start(
      "reading the statefile", &part_.user(), [&](Progress& progress) -> Result<std::string> {
        progress.total(bytes);
        auto r = statefile::unpack(path, record, into, [&](uint64_t n) { progress.add(n); });
        return r ? Result<std::string>("") : fail(r.error());
      });
  if (!worker) co_return fail(worker.error());
  auto read = co_await worker_.await(std::move(*worker), Deadline::in(kUnpackWait),
                                     [this](WorkDone done) { on_progress_("read", done); });
  times_.read = lap(clock);
  if (!read) co_return fail(read.error());
  auto checker =
      Worker::start("checking the images", nullptr, [&](Progress&) -> Result<std::string> {
        auto r = statefile::check_images(record, into);
        return r ? Result<std::string>("") : fail(r.error());
      });
  if (!checker) co_return fail(checker.error());
  auto checked = co_await worker_.await(std::move(*checker), Deadline::in(kUnpackWait));
  times_.check = lap(clock);
  if (!checked) co_return fail(checked.error());
  auto files = Worker::start("looking at the job's files", &part_.user(),
                             [&](Progress&) -> Result<std::string> {
                               auto r = check_files(record.files);
                               return r ? Result<std::string>("") : fail(r.error());
                             });
  if (!files) co_return fail(files.error());
  co_return no_answer(co_await worker_.await(std::move(*files), Deadline::in(kFilesWait)));
}

Task<Result<>> Making::restore() {
  auto clock = std::chrono::steady_clock::now();
  const auto& record = *part_.spec().record;
  auto files =
      Worker::start("rolling back files", &part_.user(), [&](Progress&) -> Result<std::string> {
        auto r = roll_back_files(record.files);
        return r ? Result<std::string>("") : fail(r.error());
      });
  if (!files) co_return fail(files.error());
  if (auto r = co_await worker_.await(std::move(*files), Deadline::in(kFilesWait)); !r)
    co_return fail(r.error());
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // the restored pid 1 becomes our child when the worker ends
  auto worker = Worker::start("the restore", nullptr, [&](Progress&) {
    return restore_here(part_, network_.get(), images_);
  });
  if (!worker) co_return fail(worker.error());
  auto pid = co_await worker_.await(std::move(*worker), Deadline::in(kRestoreWait));
  times_.restore = lap(clock);
  if (!pid) co_return fail(pid.error());
  held_.emplace(container::FreezeGuard::frozen(part_.cgroup()));
  part_.staging().remove_directory(kImages);
  auto init = Child::adopt(std::stoi(*pid));
  if (!init) co_return fail(init.error());
  co_return part_.made(std::move(*init), std::move(network_), record.network_key);
}

Task<Result<std::string>> Making::go() {
  if (part_.spec().tunnel)
    if (auto r = network_lock::unlock(part_.network(), Deadline::in(kNetworkWait)); !r)
      co_return fail(r.error());
  held_.reset();
  if (auto r = co_await part_.reopen(); !r) co_return fail(r.error());
  co_return to_text(times_);
}

Task<Result<>> Making::destroy() {
  co_await part_.destroy();  // held still: it never runs
  held_.reset();
  if (!images_.empty()) part_.staging().remove_directory(kImages);
  network_.reset();
  co_return Result<>();
}

}  // namespace stillpoint::agent
