#include "launcher/agent/checkpoint.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <optional>

#include "common/fd.h"
#include "common/log.h"
#include "common/paths.h"
#include "criu-glue/criu/criu.h"
#include "criu-glue/criu/survey.h"
#include "criu-glue/statefile/manifest.h"
#include "criu-glue/statefile/pack.h"
#include "launcher/agent/launch.h"
#include "launcher/agent/node_facts.h"

namespace stillpoint::agent {

using namespace std::chrono_literals;

namespace {

using Clock = std::chrono::steady_clock;

Milliseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<Milliseconds>(Clock::now() - start);
}

constexpr auto kStoreWait = 60s;  // a file system that does not answer for so long is down
constexpr auto kCallOff = 60s;    // for CRIU to undo a dump that is called off
constexpr auto kWarmWait = 60s;   // then it is too much to be warmed
constexpr int kDumpAttempts = 5;
constexpr auto kPackWait = 24h;  // bounded by the size of memory and the speed of the file system

}  // namespace

struct Checkpointer::Attempt {
  bool stop;
  ProgressSink& sink;
  statefile::Store store;
  uint64_t epoch = 0;
  std::string staging;  // directory of CRIU's images
  std::optional<container::FreezeGuard> frozen;
  Clock::time_point started = Clock::now(), held{};
  Milliseconds stood_still{0};
  uint64_t image_bytes = 0;
  statefile::Manifest manifest;
  statefile::ContainerRecord& container() { return manifest.containers.front(); }
};

Task<Result<CheckpointOutcome>> Checkpointer::take(bool stop, ProgressSink& sink) {
  while (busy()) co_await idle_.wait();
  if (job_.ended()) co_return fail(ErrorKind::kNotFound, "the job has ended");
  idle_.reset();
  dumped_ = cancelled_ = false;
  auto store = job_.store();
  Result<> outcome;
  std::optional<Attempt> attempt;
  if (store) {
    attempt.emplace(Attempt{.stop = stop, .sink = sink, .store = std::move(*store)});
    outcome = co_await run(*attempt);
  } else {
    outcome = fail(store.error());
  }
  sink.finished();
  if (!job_.ended()) job_.set_phase("running");
  last_failure_ = outcome ? "" : outcome.error().line();
  if (!outcome && attempt) co_await undo(*attempt);
  idle_.set();
  if (!outcome) co_return fail(outcome.error());

  last_epoch_ = attempt->epoch;
  last_created_ = attempt->manifest.created;
  last_stop_ = attempt->stood_still;
  co_return CheckpointOutcome{
      .epoch = attempt->epoch,
      .path = paths::epoch_directory(attempt->store.directory(), attempt->epoch),
      .stood_still = attempt->stood_still,
      .total = since(attempt->started),
      .memory_bytes = attempt->image_bytes,
      .stored_bytes = attempt->container().statefile_size};
}

Task<Result<std::string>> Checkpointer::await(Worker worker, Deadline deadline,
                                              std::function<void(WorkDone)> on_progress) {
  worker_ = worker.pid();
  auto result = co_await finish(std::move(worker), deadline, std::move(on_progress));
  worker_ = 0;
  if (!result && cancelled_) co_return fail(ErrorKind::kNotFound, "the job has ended");
  co_return result;
}

void Checkpointer::cancel() {
  cancelled_ = true;
  if (worker_ > 0) ::kill(-worker_, SIGKILL);
}

Task<Result<>> Checkpointer::run(Attempt& attempt) {
  if (auto r = co_await prepare(attempt); !r) co_return r;
  if (auto r = co_await hold_until_dumped(attempt); !r) co_return r;
  dumped_ = true;
  if (auto r = co_await pack(attempt); !r) co_return r;
  if (auto r = co_await commit(attempt); !r) co_return r;
  job_.staging().remove_directory(std::to_string(attempt.epoch));
  if (attempt.stop) {
    attempt.stood_still = since(attempt.held);
    job_.stopped_at_checkpoint();
    // Killed while still frozen: nothing runs, and nothing is printed, beyond the checkpoint.
    if (auto r = job_.cgroup().destroy(Deadline::in(20s)); !r) log::warning(r.error().line());
  }
  co_return Result<>();
}

Task<Result<>> Checkpointer::prepare(Attempt& attempt) {
  job_.set_phase("preparing a checkpoint");
  auto worker = Worker::start("preparing the checkpoint directory", &job_.user(),
                              [&](Progress&) -> Result<std::string> {
                                if (auto r = attempt.store.sweep(); !r) return fail(r.error());
                                auto epoch = attempt.store.next_epoch();
                                if (!epoch) return fail(epoch.error());
                                if (auto begun = attempt.store.begin(*epoch); !begun)
                                  return fail(begun.error());
                                return std::to_string(*epoch);
                              });
  if (!worker) co_return fail(worker.error());
  auto epoch = co_await await(std::move(*worker), Deadline::in(kStoreWait));
  if (!epoch) co_return fail(epoch.error());
  attempt.epoch = std::stoull(*epoch);
  auto staging = job_.staging().make_directory(*epoch);
  if (!staging) co_return fail(staging.error());
  attempt.staging = *staging;
  attempt.manifest = job_.about();
  attempt.manifest.epoch = attempt.epoch;
  attempt.manifest.containers.resize(1);
  co_return co_await warm_staging(attempt);
}

// While the job still runs.  A quarter of the room stays for what else the node does.
Task<Result<>> Checkpointer::warm_staging(Attempt& attempt) {
  auto processes = job_.cgroup().processes();
  if (!processes) co_return fail(processes.error());
  const auto survey = criu::survey(job_.init_pid(), *processes);
  if (!survey || survey->memory > job_.staging().free_bytes() / 4 * 3) co_return Result<>();
  auto worker = Worker::start("warming staging up", nullptr, [&](Progress&) -> Result<std::string> {
    warm_up(attempt.staging, survey->memory);
    return std::string();
  });
  if (!worker) co_return fail(worker.error());
  auto warm = co_await await(std::move(*worker), Deadline::in(kWarmWait));
  if (!warm && cancelled_) co_return fail(warm.error());
  co_return Result<>();
}

// What is only for a moment (a connection that is being made, in MPI_Init for example) has passed
// the next time.
Task<Result<>> Checkpointer::hold_until_dumped(Attempt& attempt) {
  for (int attempts = 1;; attempts++) {
    auto held = co_await hold_and_dump(attempt);
    if (held || held.error().kind() != ErrorKind::kBusy || attempts == kDumpAttempts ||
        job_.ended())
      co_return held;
    log::debug("dumping again: " + held.error().line());
    auto staging = job_.staging().make_directory(std::to_string(attempt.epoch));
    if (!staging) co_return fail(staging.error());
    asio::steady_timer pause(job_.executor(), attempts * 100ms);
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

// From here the job stands still; every way out lets it go on, except a successful dump before a
// stop.
Task<Result<>> Checkpointer::hold_and_dump(Attempt& attempt) {
  job_.set_phase("dumping");
  if (auto r = co_await job_.park(); !r) co_return r;
  attempt.held = Clock::now();
  Result<> outcome;
  auto frozen = container::FreezeGuard::freeze(job_.cgroup(), Deadline::in(30s));
  if (frozen) {
    attempt.frozen.emplace(std::move(*frozen));
    attempt.manifest.times.freeze = static_cast<uint64_t>(since(attempt.held).count());
    outcome = look(attempt);
    if (outcome) outcome = co_await dump(attempt);
  } else {
    outcome = fail(frozen.error());
  }
  attempt.sink.finished();
  const bool stays = attempt.stop && outcome;
  if (!stays) {
    attempt.frozen.reset();
    attempt.stood_still = since(attempt.held);
    if (auto r = co_await job_.reopen(); !r && outcome) outcome = r;
    attempt.manifest.times.thaw =
        static_cast<uint64_t>((since(attempt.held) - attempt.stood_still).count());
  }
  co_return outcome;
}

Result<> Checkpointer::look(Attempt& attempt) {
  auto processes = job_.cgroup().processes();
  if (!processes) return fail(processes.error());
  auto survey = criu::survey(job_.init_pid(), *processes);
  if (!survey) return fail(survey.error().during("looking at the job's processes"));
  if (!survey->obstacles.empty())
    return fail(ErrorKind::kUnfit, "the job cannot be dumped: " + survey->obstacles.front(),
                survey->obstacles.size() > 1
                    ? "and " + std::to_string(survey->obstacles.size() - 1) + " more such"
                    : "");
  const uint64_t free = job_.staging().free_bytes();
  if (survey->memory > free)
    return fail(ErrorKind::kNoSpace,
                "the job holds about " + format_bytes(survey->memory) + ", and staging in " +
                    job_.staging().path() + " has room for " + format_bytes(free),
                "name a larger file system with --staging");
  auto& record = attempt.container();
  record.hostname = {};
  record.network_key = job_.network_key();
  record.files = std::move(survey->files);
  record.ranks = rank_records(job_.rank_pids(), *processes);
  const auto mountinfo = read_file("/proc/" + std::to_string(job_.init_pid()) + "/mountinfo");
  if (!mountinfo) return fail(mountinfo.error());
  auto mounts = container::real_mounts_from(*mountinfo);
  if (!mounts) return fail(mounts.error());
  for (const auto& mount : *mounts) record.mounts.push_back({mount.destination, mount.type});
  return {};
}

Task<Result<>> Checkpointer::dump(Attempt& attempt) {
  const auto start = Clock::now();
  criu::DumpRequest request{.init = job_.init_pid(),
                            .images = attempt.staging,
                            .freeze_cgroup = job_.cgroup().path(),
                            .network_inode = job_.network_inode(),
                            .network_key = job_.network_key(),
                            .mounts = {},
                            .tools = tools_for_criu(),
                            .deadline = Deadline::in(job_.policy().hold_limit)};
  uint64_t memory = 0;
  for (const auto& rank : attempt.container().ranks) memory += rank.memory;
  for (const auto& mount : attempt.container().mounts)
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
  watch.emplace(job_.executor(), 200ms, [&attempt, memory] {
    attempt.sink.update("dump", image_bytes(attempt.staging), memory);
  });
  auto version =
      co_await await(std::move(*worker), Deadline::in(job_.policy().hold_limit + kCallOff));
  watch.reset();
  if (!version) {
    // If the worker was lost, CRIU may still be at work in the processes: it must be out before
    // they are thawed.
    const std::string images = attempt.staging;
    auto waiter = Worker::start("waiting for CRIU", nullptr, [&](Progress&) -> Result<std::string> {
      auto r = criu::await_dump_end(images, Deadline::in(kCallOff));
      return r ? Result<std::string>("") : fail(r.error());
    });
    if (waiter)
      if (auto out = co_await finish(std::move(*waiter), Deadline::in(2 * kCallOff)); !out)
        log::warning(out.error().line());
    co_return fail(version.error());
  }
  attempt.manifest.criu_version = *version;
  attempt.manifest.times.dump = static_cast<uint64_t>(since(start).count());
  co_return Result<>();
}

Task<Result<>> Checkpointer::pack(Attempt& attempt) {
  job_.set_phase("packing");
  const auto start = Clock::now();
  auto images = open_images(attempt.staging);
  if (!images) co_return fail(images.error());
  attempt.image_bytes = images->bytes;
  auto& manifest = attempt.manifest;
  manifest.created = utc_now();
  manifest.stdout_bytes = job_.output_at_park().out;
  manifest.stderr_bytes = job_.output_at_park().err;
  auto& record = attempt.container();
  record.statefile = paths::statefile(record.index);

  const auto body = [&](Progress& progress) -> Result<std::string> {
    progress.total(images->bytes);
    const std::string path = attempt.store.tentative_statefile(attempt.epoch, record.index);
    if (auto r = statefile::pack(path, manifest, record, images->images, {},
                                 [&](uint64_t n) { progress.add(n); });
        !r)
      return fail(r.error());
    return statefile::to_json(record);
  };
  auto worker = Worker::start("packing", &job_.user(), body);
  if (!worker) co_return fail(worker.error());
  auto packed = co_await await(std::move(*worker), Deadline::in(kPackWait),
                               [&](WorkDone p) { attempt.sink.update("pack", p.done, p.total); });
  if (!packed) co_return fail(packed.error());
  auto parsed = statefile::container_from_json(*packed);
  if (!parsed) co_return fail(parsed.error().during("the packer's report"));
  record = std::move(*parsed);
  manifest.times.pack = static_cast<uint64_t>(since(start).count());
  co_return co_await read_back(attempt);
}

// What cannot be read as it was written must not become permanent.
Task<Result<>> Checkpointer::read_back(Attempt& attempt) {
  const auto start = Clock::now();
  const auto& record = attempt.container();
  const auto body = [&](Progress& progress) -> Result<std::string> {
    progress.total(attempt.image_bytes);
    const std::string path = attempt.store.tentative_statefile(attempt.epoch, record.index);
    if (auto r = statefile::verify(path, record, [&](uint64_t n) { progress.add(n); }); !r)
      return fail(r.error().during("reading back what was written"));
    if (auto r = attempt.store.seal(attempt.epoch, record.index); !r) return fail(r.error());
    return std::string();
  };
  auto worker = Worker::start("reading back", &job_.user(), body);
  if (!worker) co_return fail(worker.error());
  auto verified = co_await await(std::move(*worker), Deadline::in(kPackWait), [&](WorkDone p) {
    attempt.sink.update("verify", p.done, p.total);
  });
  if (!verified) co_return fail(verified.error());
  attempt.manifest.times.verify = static_cast<uint64_t>(since(start).count());
  co_return Result<>();
}

Task<Result<>> Checkpointer::commit(Attempt& attempt) {
  auto key = statefile::load_signing_key(paths::kSigningKey, true);
  if (!key) co_return fail(key.error());
  auto bytes = statefile::manifest_bytes(attempt.manifest, *key);
  if (!bytes) co_return fail(bytes.error());
  auto worker =
      Worker::start("writing the manifest", &job_.user(), [&](Progress&) -> Result<std::string> {
        if (auto r = attempt.store.commit(attempt.epoch, *bytes); !r) return fail(r.error());
        // Permanent from here: what fails now is only said.
        auto pruned = attempt.store.prune(job_.policy().keep);
        return pruned ? "" : pruned.error().line();
      });
  if (!worker) co_return fail(worker.error());
  auto committed = co_await await(std::move(*worker), Deadline::in(kStoreWait));
  if (!committed) co_return fail(committed.error());
  if (!committed->empty()) log::warning("older checkpoints remain: " + *committed);
  co_return Result<>();
}

Task<> Checkpointer::undo(Attempt& attempt) {
  cancelled_ = false;  // this much is done in any case
  if (attempt.frozen) {
    attempt.frozen.reset();
    (void)co_await job_.reopen();
  }
  job_.staging().remove_directory(std::to_string(attempt.epoch));
  if (attempt.epoch == 0) co_return;
  auto worker = Worker::start("removing the tentative checkpoint", &job_.user(),
                              [&](Progress&) -> Result<std::string> {
                                if (auto r = attempt.store.abort(attempt.epoch); !r)
                                  return fail(r.error());
                                return std::string();
                              });
  if (!worker) co_return;
  auto removed = co_await await(std::move(*worker), Deadline::in(kStoreWait));
  if (!removed && removed.error().kind() != ErrorKind::kNotFound)
    log::warning("a tentative checkpoint remains until the next one: " + removed.error().line());
}

}  // namespace stillpoint::agent
