#include "launcher/agent/works.h"

#include <csignal>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/fd.h"
#include "common/log.h"
#include "common/paths.h"
#include "criu-glue/container/in_flight.h"
#include "criu-glue/container/network_lock.h"
#include "criu-glue/criu/criu.h"
#include "criu-glue/criu/survey.h"
#include "criu-glue/statefile/pack.h"
#include "launcher/agent/launch.h"
#include "launcher/agent/node_facts.h"

namespace stillpoint::agent {

using namespace std::chrono_literals;
using coordinator::Step;

namespace {

using Clock = std::chrono::steady_clock;

Milliseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<Milliseconds>(Clock::now() - start);
}
uint64_t count_since(Clock::time_point start) {
  return static_cast<uint64_t>(since(start).count());
}

constexpr auto kFreezeWait = 30s;
constexpr auto kDrainWait = 10s;  // the round has a bound, too
constexpr auto kLockWait = 10s;
constexpr auto kCallOff = 60s;   // for CRIU to undo a dump that is called off
constexpr auto kWarmWait = 60s;  // then it is too much to be warmed
constexpr auto kPackWait = 24h;  // bounded by the size of memory and the speed of the file system

}  // namespace

std::string to_text(const PackedContainer& packed) {
  return nlohmann::json{{"record", statefile::to_json(packed.record)},
                        {"freeze", packed.times.freeze},
                        {"dump", packed.times.dump},
                        {"thaw", packed.times.thaw},
                        {"pack", packed.times.pack},
                        {"verify", packed.times.verify},
                        {"image_bytes", packed.image_bytes},
                        {"stood_still", packed.stood_still.count()},
                        {"criu", packed.criu_version},
                        {"created", packed.created}}
      .dump();
}

Result<PackedContainer> packed_from_text(const std::string& text) {
  PackedContainer packed;
  try {
    const auto json = nlohmann::json::parse(text);
    auto record = statefile::container_from_json(json.at("record").get<std::string>());
    if (!record) return fail(record.error());
    packed.record = std::move(*record);
    packed.times = {json.at("freeze"), json.at("dump"), json.at("thaw"), json.at("pack"),
                    json.at("verify")};
    packed.image_bytes = json.at("image_bytes");
    packed.stood_still = Milliseconds(json.at("stood_still").get<int64_t>());
    packed.criu_version = json.at("criu");
    packed.created = json.at("created");
  } catch (const nlohmann::json::exception& e) {
    return fail(ErrorKind::kProtocol, std::string("a member's report: ") + e.what());
  }
  return packed;
}

struct Works::Attempt {
  uint64_t epoch = 0;
  bool stop = false;
  std::string staging;  // directory of CRIU's images
  std::optional<container::FreezeGuard> frozen;
  bool parked = false, locked = false;
  Clock::time_point held{};
  PackedContainer packed;
};

Works::Works(Part& part, OnProgress on_progress)
    : part_(part), on_progress_(on_progress), making_(part, std::move(on_progress)) {}
Works::~Works() = default;

Task<Result<std::string>> Works::perform(coordinator::Work work, std::string details) {
  if (work.operation == coordinator::Operation::kCheckpoint) return checkpoint(work);
  return making_.perform(work, std::move(details));
}

Task<Result<std::string>> Works::checkpoint(coordinator::Work work) {
  worker_.begin();
  if (work.step == Step::kPrepare) {
    attempt_ = std::make_unique<Attempt>();
    attempt_->epoch = work.epoch;
    attempt_->stop = work.stop;
  }
  if (!attempt_) co_return fail(ErrorKind::kInternal, "a step of a checkpoint that was not begun");
  Result<> done;
  switch (work.step) {
    case Step::kPrepare:
      done = co_await prepare();
      break;
    case Step::kFreeze:
      done = co_await freeze();
      break;
    case Step::kDrain:
      done = co_await drain();
      break;
    case Step::kLock:
      done = co_await lock();
      break;
    case Step::kDump:
      done = co_await dump();
      break;
    case Step::kGo:
      done = co_await go();
      break;
    case Step::kPack:
      co_return co_await pack();
    case Step::kFinish:
    case Step::kAbort:
      done = co_await finish();
      break;
    case Step::kEnd:
      done = co_await end();
      break;
    default:
      done = fail(ErrorKind::kInternal, "no step of a checkpoint");
  }
  if (!done) co_return fail(done.error());
  co_return std::string();
}

void Works::call_off() {
  making_.call_off();
  worker_.call_off();
}

// ---- while the job runs

Task<Result<>> Works::prepare() {
  auto staging = part_.staging().make_directory(std::to_string(attempt_->epoch));
  if (!staging) co_return fail(staging.error());
  attempt_->staging = *staging;
  co_await warm_staging();
  co_return Result<>();
}

// A quarter of the room stays for what else the node does.
Task<> Works::warm_staging() {
  auto processes = part_.cgroup().processes();
  if (!processes) co_return;
  const auto survey = criu::survey(part_.init_pid(), *processes);
  if (!survey || survey->memory > part_.staging().free_bytes() / 4 * 3) co_return;
  auto worker = Worker::start("warming staging up", nullptr, [&](Progress&) -> Result<std::string> {
    warm_up(attempt_->staging, survey->memory);
    return std::string();
  });
  if (worker) (void)co_await worker_.await(std::move(*worker), Deadline::in(kWarmWait));
}

// ---- while it stands still

Task<Result<>> Works::freeze() {
  auto parked = co_await part_.park();
  if (!parked) co_return parked;
  attempt_->parked = true;
  attempt_->held = Clock::now();
  auto frozen = container::FreezeGuard::freeze(part_.cgroup(), Deadline::in(kFreezeWait));
  if (!frozen) co_return fail(frozen.error());
  attempt_->frozen.emplace(std::move(*frozen));
  attempt_->packed.times.freeze = count_since(attempt_->held);
  co_return look();
}

Result<> Works::look() {
  if (auto r = part_.check_alive(); !r) return r;
  auto processes = part_.cgroup().processes();
  if (!processes) return fail(processes.error());
  auto survey = criu::survey(part_.init_pid(), *processes);
  if (!survey) return fail(survey.error().during("looking at the job's processes"));
  if (!survey->obstacles.empty())
    return fail(ErrorKind::kUnfit, "the job cannot be dumped: " + survey->obstacles.front(),
                survey->obstacles.size() > 1
                    ? "and " + std::to_string(survey->obstacles.size() - 1) + " more such"
                    : "");
  const uint64_t free = part_.staging().free_bytes();
  if (survey->memory > free)
    return fail(ErrorKind::kNoSpace,
                "the job holds about " + format_bytes(survey->memory) + ", and staging in " +
                    part_.staging().path() + " has room for " + format_bytes(free),
                "name a larger file system with --staging");
  auto& record = attempt_->packed.record;
  record.index = part_.spec().index;
  record.hostname = this_host();
  record.network_key = part_.network_key();
  record.files = std::move(survey->files);
  record.ranks = rank_records(part_.rank_pids(), *processes);
  const auto mountinfo = read_file("/proc/" + std::to_string(part_.init_pid()) + "/mountinfo");
  if (!mountinfo) return fail(mountinfo.error());
  auto mounts = container::real_mounts_from(*mountinfo);
  if (!mounts) return fail(mounts.error());
  for (const auto& mount : *mounts) record.mounts.push_back({mount.destination, mount.type});
  return {};
}

// What is left in flight at the bound stays in its sender's queue, and is in the dump with it.
Task<Result<>> Works::drain() {
  if (!part_.spec().tunnel) co_return Result<>();
  auto worker = Worker::start("draining", nullptr, [&](Progress&) -> Result<std::string> {
    auto left = container::drained(part_.network(), Deadline::in(kDrainWait));
    if (!left) return fail(left.error());
    return nlohmann::json{left->connections, left->bytes, left->closed_windows, left->describe()}
        .dump();
  });
  if (!worker) co_return fail(worker.error());
  auto told = co_await worker_.await(std::move(*worker), Deadline::in(2 * kDrainWait));
  if (!told) co_return fail(told.error());
  const auto left = nlohmann::json::parse(*told);
  attempt_->packed.record.in_flight = {left[0], left[1], left[2]};
  if (left[0] != 0) log::info("in flight between nodes at the lock: " + left[3].get<std::string>());
  co_return Result<>();
}

Task<Result<>> Works::lock() {
  if (!part_.spec().tunnel) co_return Result<>();
  attempt_->locked = true;
  co_return container::network_lock::lock(part_.network(), Deadline::in(kLockWait));
}

Task<Result<>> Works::dump() {
  const auto start = Clock::now();
  criu::DumpRequest request{.init = part_.init_pid(),
                            .images = attempt_->staging,
                            .freeze_cgroup = part_.cgroup().path(),
                            .network_inode = part_.network_inode(),
                            .network_key = part_.network_key(),
                            .mounts = {},
                            .tools = tools_for_criu(),
                            .deadline = Deadline::in(part_.policy().hold_limit)};
  uint64_t memory = 0;
  for (const auto& rank : attempt_->packed.record.ranks) memory += rank.memory;
  for (const auto& mount : attempt_->packed.record.mounts)
    request.mounts.push_back({mount.destination});
  auto worker = Worker::start("the dump", nullptr, [&](Progress&) -> Result<std::string> {
    auto criu = criu::make_criu();
    auto version = criu->version();
    if (!version) return fail(version.error());
    if (auto r = criu->dump(request); !r) return fail(r.error());
    return version->text();
  });
  if (!worker) co_return fail(worker.error());
  // The dump itself tells nothing on its way; the growing images do.
  std::optional<Ticker> watch;
  watch.emplace(part_.executor(), 200ms,
                [this, memory] { on_progress_("dump", {image_bytes(attempt_->staging), memory}); });
  auto version = co_await worker_.await(std::move(*worker),
                                        Deadline::in(part_.policy().hold_limit + kCallOff));
  watch.reset();
  if (!version) {
    // If the worker was lost, CRIU may still be at work in the processes: it must be out before
    // they are thawed.
    const std::string images = attempt_->staging;
    auto waiter = Worker::start("waiting for CRIU", nullptr, [&](Progress&) -> Result<std::string> {
      auto r = criu::await_dump_end(images, Deadline::in(kCallOff));
      return r ? Result<std::string>("") : fail(r.error());
    });
    if (waiter)
      if (auto out = co_await stillpoint::finish(std::move(*waiter), Deadline::in(2 * kCallOff));
          !out)
        log::warning(out.error().line());
    co_return fail(version.error());
  }
  // A rank that was killed meanwhile may be dead in the dump, and would end a restarted job.
  if (auto r = part_.check_alive(); !r) co_return r;
  attempt_->packed.criu_version = *version;
  attempt_->packed.times.dump = count_since(start);
  co_return Result<>();
}

Task<Result<>> Works::go() {
  if (attempt_->locked)
    if (auto r = container::network_lock::unlock(part_.network(), Deadline::in(kLockWait)); !r)
      log::warning(r.error().line());
  attempt_->locked = false;
  attempt_->frozen.reset();
  const auto still = since(attempt_->held);
  if (auto r = co_await part_.reopen(); !r) co_return r;
  attempt_->parked = false;
  attempt_->packed.stood_still = still;
  attempt_->packed.times.thaw = static_cast<uint64_t>((since(attempt_->held) - still).count());
  co_return Result<>();
}

// ---- in its back

// The lead has made the epoch's directory and holds the lock of the store.
statefile::Store Works::store() const {
  return statefile::Store::at(
      paths::job_directory(part_.policy().directory, part_.about().job, part_.about().step));
}

Task<Result<std::string>> Works::pack() {
  const auto start = Clock::now();
  auto images = open_images(attempt_->staging);
  if (!images) co_return fail(images.error());
  const statefile::Store store = this->store();
  PackedContainer& packed = attempt_->packed;
  packed.image_bytes = images->bytes;
  packed.record.statefile = paths::statefile(packed.record.index);
  statefile::Manifest about = part_.about();
  about.epoch = attempt_->epoch;
  about.created = packed.created = utc_now();
  about.criu_version = packed.criu_version;

  const auto body = [&](Progress& progress) -> Result<std::string> {
    progress.total(images->bytes);
    const std::string path = store.tentative_statefile(attempt_->epoch, packed.record.index);
    if (auto r = statefile::pack(path, about, packed.record, images->images, {},
                                 [&](uint64_t n) { progress.add(n); });
        !r)
      return fail(r.error());
    return statefile::to_json(packed.record);
  };
  auto worker = Worker::start("packing", &part_.user(), body);
  if (!worker) co_return fail(worker.error());
  auto report = co_await worker_.await(std::move(*worker), Deadline::in(kPackWait),
                                       [this](WorkDone done) { on_progress_("pack", done); });
  if (!report) co_return fail(report.error());
  auto parsed = statefile::container_from_json(*report);
  if (!parsed) co_return fail(parsed.error().during("the packer's report"));
  packed.record = std::move(*parsed);
  packed.times.pack = count_since(start);
  if (auto r = co_await read_back(store); !r) co_return fail(r.error());
  co_return to_text(packed);
}

// What cannot be read as it was written must not become permanent.
Task<Result<>> Works::read_back(const statefile::Store& store) {
  const auto start = Clock::now();
  const PackedContainer& packed = attempt_->packed;
  const auto body = [&](Progress& progress) -> Result<std::string> {
    progress.total(packed.image_bytes);
    const std::string path = store.tentative_statefile(attempt_->epoch, packed.record.index);
    if (auto r = statefile::verify(path, packed.record, [&](uint64_t n) { progress.add(n); }); !r)
      return fail(r.error().during("reading back what was written"));
    if (auto r = store.seal(attempt_->epoch, packed.record.index); !r) return fail(r.error());
    return std::string();
  };
  auto worker = Worker::start("reading back", &part_.user(), body);
  if (!worker) co_return fail(worker.error());
  auto verified = co_await worker_.await(std::move(*worker), Deadline::in(kPackWait),
                                         [this](WorkDone done) { on_progress_("verify", done); });
  if (!verified) co_return fail(verified.error());
  attempt_->packed.times.verify = count_since(start);
  co_return Result<>();
}

// ---- how it ends

// Whether it succeeded or is undone: the job runs, staging goes.
Task<Result<>> Works::finish() {
  Result<> running;
  if (attempt_->parked) running = co_await go();
  part_.staging().remove_directory(std::to_string(attempt_->epoch));
  attempt_.reset();
  co_return running;
}

Task<Result<>> Works::end() {
  co_await part_.destroy();
  part_.staging().remove_directory(std::to_string(attempt_->epoch));
  attempt_.reset();
  co_return Result<>();
}

}  // namespace stillpoint::agent
