#include "launcher/agent/checkpoint.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/log.h"
#include "common/paths.h"
#include "criu-glue/statefile/manifest.h"
#include "launcher/agent/works.h"

namespace stillpoint::agent {

using namespace std::chrono_literals;
using coordinator::Operation;
using coordinator::Outcome;
using coordinator::Step;

namespace {

constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);
constexpr auto kStoreWait = 60s;  // a file system that does not answer for so long is down
constexpr int kAttempts = 5;

}  // namespace

Checkpointer::Checkpointer(Job& job) : job_(job), idle_(job.executor()) {
  idle_.set();
}

// What is only for a moment (a connection that is being made, in MPI_Init for example) has passed
// the next time.
Task<Result<CheckpointOutcome>> Checkpointer::take(bool stop, ProgressSink& sink) {
  while (busy()) co_await idle_.wait();
  if (job_.ended()) co_return fail(ErrorKind::kNotFound, "the job has ended");
  idle_.reset();
  cancelled_ = false;
  job_.show_progress(&sink);
  auto outcome = co_await attempt(stop);
  for (int again = 1; again < kAttempts; again++) {
    if (outcome || outcome.error().kind() != ErrorKind::kBusy || job_.ended()) break;
    log::debug("dumping again: " + outcome.error().line());
    asio::steady_timer pause(job_.executor(), again * 100ms);
    co_await pause.async_wait(kQuietly);
    outcome = co_await attempt(stop);
  }
  job_.show_progress(nullptr);
  if (!job_.ended()) job_.set_phase("running");
  last_failure_ = outcome ? "" : outcome.error().line();
  if (outcome) {
    last_epoch_ = outcome->epoch;
    last_created_ = manifest_.created;
    last_stop_ = outcome->stood_still;
  }
  idle_.set();
  co_return outcome;
}

Task<Result<CheckpointOutcome>> Checkpointer::attempt(bool stop) {
  const auto started = Clock::now();
  job_.set_phase("preparing a checkpoint");
  output_held_ = false;
  auto store = job_.store();
  if (!store) co_return fail(store.error());
  store_ = std::move(*store);
  auto epoch = co_await begin_epoch(*store_);
  if (!epoch) co_return fail(epoch.error());
  if (cancelled_) {
    co_await discard(*epoch);
    co_return fail(ErrorKind::kNotFound, "the job has ended");
  }
  job_.conductor().set_handlers({.before = [this](const auto& command) { return before(command); },
                                 .details = {},
                                 .commit = [this](uint64_t which) { return commit(which); },
                                 .discard = [this](uint64_t which) { return discard(which); }});
  auto report = co_await job_.conductor().perform({Operation::kCheckpoint, *epoch, stop});
  if (!report) {
    co_await discard(*epoch);
    co_return fail(report.error());
  }
  const bool done = report->outcome == Outcome::kDone;
  if (done && stop)
    job_.stopped_at_checkpoint();
  else
    job_.front().release();
  if (done) co_return outcome(started, stop);
  if (cancelled_) co_return fail(ErrorKind::kNotFound, "the job has ended");
  co_return fail(*report->cause);
}

Task<Result<uint64_t>> Checkpointer::begin_epoch(statefile::Store& store) {
  auto worker = Worker::start("preparing the checkpoint directory", &job_.user(),
                              [&](Progress&) -> Result<std::string> {
                                if (auto r = store.sweep(); !r) return fail(r.error());
                                auto next = store.next_epoch();
                                if (!next) return fail(next.error());
                                const uint64_t epoch = std::max(*next, tried_ + 1);
                                if (auto begun = store.begin(epoch); !begun)
                                  return fail(begun.error());
                                return std::to_string(epoch);
                              });
  if (!worker) co_return fail(worker.error());
  auto epoch = co_await stillpoint::finish(std::move(*worker), Deadline::in(kStoreWait));
  if (!epoch) co_return fail(epoch.error());
  tried_ = std::stoull(*epoch);
  co_return tried_;
}

// The output is held while the supervisors close their links, one after the other; in a stop until
// the job has ended with this checkpoint.
Task<> Checkpointer::before(const coordinator::Command& command) {
  if (command.step == Step::kFreeze) {
    job_.set_phase("dumping");
    if (!std::exchange(output_held_, true)) held_ = Clock::now();  // commands are repeated
    auto held = co_await job_.front().hold();
    if (!held) co_return job_.conductor().cancel(held.error());
    written_ = *held;
    job_.front().input_suspended();
  } else if (command.step == Step::kPack) {
    job_.set_phase("packing");
  }
  if (command.step == Step::kDrain && !command.stop) job_.front().release();
}

bool Checkpointer::dumped() const {
  const auto step = job_.conductor().step();
  return step && (*step == Step::kGo || *step == Step::kPack || *step == Step::kCommit ||
                  *step == Step::kFinish || *step == Step::kEnd);
}

void Checkpointer::cancel() {
  cancelled_ = true;
  job_.conductor().cancel(Error(ErrorKind::kNotFound, "the job has ended"));
}

// ---- what is the lead's alone

namespace {

// A round is over when its slowest member is through.
void slower(statefile::PhaseTimes& all, const statefile::PhaseTimes& one) {
  all.freeze = std::max(all.freeze, one.freeze);
  all.dump = std::max(all.dump, one.dump);
  all.thaw = std::max(all.thaw, one.thaw);
  all.pack = std::max(all.pack, one.pack);
  all.verify = std::max(all.verify, one.verify);
}

}  // namespace

Result<statefile::Manifest> Checkpointer::manifest(uint64_t epoch) const {
  statefile::Manifest manifest = job_.about();
  manifest.epoch = epoch;
  manifest.stdout_bytes = written_.out;
  manifest.stderr_bytes = written_.err;
  for (const std::string& answer : job_.conductor().answers(Step::kPack)) {
    auto packed = packed_from_text(answer);
    if (!packed) return fail(packed.error());
    manifest.created = packed->created;
    manifest.criu_version = packed->criu_version;
    slower(manifest.times, packed->times);
    manifest.containers.push_back(std::move(packed->record));
  }
  return manifest;
}

Task<CommitSaid> Checkpointer::commit(uint64_t epoch) {
  using coordinator::CommitOutcome;
  auto manifest = this->manifest(epoch);
  auto key = statefile::load_signing_key(paths::kSigningKey, true);
  Result<std::string> bytes;
  if (!manifest || !key)
    bytes = fail(manifest ? key.error() : manifest.error());
  else
    bytes = statefile::manifest_bytes(*manifest, *key);
  if (!bytes) co_return CommitSaid{CommitOutcome::kNot, bytes.error()};
  manifest_ = std::move(*manifest);
  auto worker =
      Worker::start("writing the manifest", &job_.user(), [&](Progress&) -> Result<std::string> {
        if (auto r = store_->commit(epoch, *bytes); !r) return fail(r.error());
        // Permanent from here: what fails now is only said.
        auto pruned = store_->prune(job_.policy().keep);
        return pruned ? "" : pruned.error().line();
      });
  if (!worker) co_return CommitSaid{CommitOutcome::kNot, worker.error()};
  auto committed = co_await stillpoint::finish(std::move(*worker), Deadline::in(kStoreWait));
  if (committed && !committed->empty()) log::warning("older checkpoints remain: " + *committed);
  if (committed) co_return CommitSaid{CommitOutcome::kPermanent, {}};
  // A worker that was lost may have renamed the manifest before.
  const bool unknown = committed.error().kind() == ErrorKind::kTimeout ||
                       committed.error().kind() == ErrorKind::kInternal;
  co_return CommitSaid{unknown ? CommitOutcome::kUnknown : CommitOutcome::kNot, committed.error()};
}

Task<> Checkpointer::discard(uint64_t epoch) {
  auto worker = Worker::start("removing the tentative checkpoint", &job_.user(),
                              [&](Progress&) -> Result<std::string> {
                                if (auto r = store_->abort(epoch); !r) return fail(r.error());
                                return std::string();
                              });
  if (!worker) co_return;
  auto removed = co_await stillpoint::finish(std::move(*worker), Deadline::in(kStoreWait));
  if (!removed && removed.error().kind() != ErrorKind::kNotFound)
    log::warning("a tentative checkpoint remains until the next one: " + removed.error().line());
}

CheckpointOutcome Checkpointer::outcome(Clock::time_point started, bool stop) const {
  const auto now = Clock::now();
  CheckpointOutcome outcome{.epoch = manifest_.epoch,
                            .path = paths::epoch_directory(store_->directory(), manifest_.epoch),
                            .total = std::chrono::duration_cast<Milliseconds>(now - started)};
  for (const std::string& answer : job_.conductor().answers(Step::kPack)) {
    const auto packed = packed_from_text(answer);
    if (!packed) continue;
    outcome.stood_still = std::max(outcome.stood_still, packed->stood_still);
    outcome.memory_bytes += packed->image_bytes;
    outcome.stored_bytes += packed->record.statefile_size;
  }
  if (stop) outcome.stood_still = std::chrono::duration_cast<Milliseconds>(now - held_);
  return outcome;
}

}  // namespace stillpoint::agent
