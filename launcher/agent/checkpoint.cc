#include "launcher/agent/checkpoint.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/log.h"
#include "common/paths.h"
#include "criu-glue/statefile/manifest.h"

namespace stillpoint::agent {

using namespace std::chrono_literals;
using coordinator::Operation;
using coordinator::Outcome;
using coordinator::Step;

namespace {

constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);
constexpr auto kStoreWait = 60s;  // a file system that does not answer for so long is down
constexpr int kAttempts = 5;

coordinator::Limits limits_of(const CheckpointPolicy& policy) {
  coordinator::Limits limits;
  // The works have bounds of their own, which tell more: these come after them.
  limits.prepare = 3min;
  limits.freeze = 2min;
  limits.dump = policy.hold_limit + 4min;
  limits.hold = policy.hold_limit + 6min;
  limits.go = 1min;
  limits.undo = 5min;
  limits.commit = kStoreWait + 10s;
  return limits;
}

}  // namespace

Checkpointer::Checkpointer(Job& job)
    : job_(job),
      works_(job,
             [this](const std::string& phase, WorkDone done) {
               if (sink_) sink_->update(phase, done.done, done.total);
             }),
      member_(job.executor(), works_, limits_of(job.policy()),
              [this](const coordinator::Answer& answer) {
                if (sink_) sink_->finished();
                act(coordinator_.on_answer(0, answer, machine_time()));
              }),
      coordinator_({""}, limits_of(job.policy())),
      timer_(job.executor()),
      idle_(job.executor()),
      over_(job.executor()) {
  idle_.set();
}

// What is only for a moment (a connection that is being made, in MPI_Init for example) has passed
// the next time.
Task<Result<CheckpointOutcome>> Checkpointer::take(bool stop, ProgressSink& sink) {
  while (busy()) co_await idle_.wait();
  if (job_.ended()) co_return fail(ErrorKind::kNotFound, "the job has ended");
  idle_.reset();
  cancelled_ = false;
  sink_ = &sink;
  auto outcome = co_await attempt(stop);
  for (int again = 1; again < kAttempts; again++) {
    if (outcome || outcome.error().kind() != ErrorKind::kBusy || job_.ended()) break;
    log::debug("dumping again: " + outcome.error().line());
    asio::steady_timer pause(job_.executor(), again * 100ms);
    co_await pause.async_wait(kQuietly);
    outcome = co_await attempt(stop);
  }
  sink.finished();
  sink_ = nullptr;
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
  auto store = job_.store();
  if (!store) co_return fail(store.error());
  store_ = std::move(*store);
  auto epoch = co_await begin_epoch(*store_);
  if (!epoch) co_return fail(epoch.error());
  if (cancelled_) {
    co_await discard(*epoch);
    co_return fail(ErrorKind::kNotFound, "the job has ended");
  }
  report_.reset();
  over_.reset();
  auto begun = coordinator_.begin({Operation::kCheckpoint, *epoch, stop}, machine_time());
  if (!begun) {
    co_await discard(*epoch);
    co_return fail(begun.error());
  }
  act(*begun);
  co_await over_.wait();
  if (report_->outcome == Outcome::kDone) co_return outcome(started, stop);
  if (cancelled_) co_return fail(ErrorKind::kNotFound, "the job has ended");
  co_return fail(*report_->cause);
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
  auto epoch = co_await finish(std::move(*worker), Deadline::in(kStoreWait));
  if (!epoch) co_return fail(epoch.error());
  tried_ = std::stoull(*epoch);
  co_return tried_;
}

void Checkpointer::act(const coordinator::Actions& actions) {
  for (const auto& action : actions) {
    if (const auto* send = std::get_if<coordinator::Send>(&action)) {
      if (send->command.step == Step::kFreeze) held_ = Clock::now();
      asio::post(job_.executor(), [this, command = send->command] { member_.command(command); });
    } else if (const auto* what = std::get_if<coordinator::Commit>(&action)) {
      asio::co_spawn(job_.executor(), commit(*what), asio::detached);
    } else if (const auto* gone = std::get_if<coordinator::Discard>(&action)) {
      asio::co_spawn(job_.executor(), discard(gone->epoch), asio::detached);
    } else {
      report_ = std::get<coordinator::Report>(action);
      if (busy_with_store_ == 0) over_.set();
    }
  }
  arm();
}

void Checkpointer::arm() {
  timer_.cancel();
  const auto at = coordinator_.next_wakeup();
  if (!at) return;
  timer_.expires_at(Clock::time_point(*at));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) act(coordinator_.on_time(machine_time()));
  });
}

bool Checkpointer::dumped() const {
  const auto step = coordinator_.step();
  return step && (*step == Step::kGo || *step == Step::kPack || *step == Step::kCommit ||
                  *step == Step::kFinish || *step == Step::kEnd);
}

void Checkpointer::cancel() {
  cancelled_ = true;
  act(coordinator_.cancel(Error(ErrorKind::kNotFound, "the job has ended"), machine_time()));
}

// ---- what is the lead's alone

Result<statefile::Manifest> Checkpointer::manifest(uint64_t epoch) const {
  statefile::Manifest manifest = job_.about();
  manifest.epoch = epoch;
  manifest.stdout_bytes = job_.output_at_park().out;
  manifest.stderr_bytes = job_.output_at_park().err;
  for (const std::string& answer : coordinator_.answers(Step::kPack)) {
    auto packed = packed_from_text(answer);
    if (!packed) return fail(packed.error());
    manifest.created = packed->created;
    manifest.criu_version = packed->criu_version;
    manifest.times = packed->times;
    manifest.containers.push_back(std::move(packed->record));
  }
  return manifest;
}

Task<> Checkpointer::commit(coordinator::Commit what) {
  const auto say = [&](coordinator::CommitOutcome outcome, std::optional<Error> why) {
    act(coordinator_.on_commit(what.attempt, outcome, std::move(why), machine_time()));
  };
  auto manifest = this->manifest(what.epoch);
  auto key = statefile::load_signing_key(paths::kSigningKey, true);
  Result<std::string> bytes;
  if (!manifest || !key)
    bytes = fail(manifest ? key.error() : manifest.error());
  else
    bytes = statefile::manifest_bytes(*manifest, *key);
  if (!bytes) co_return say(coordinator::CommitOutcome::kNot, bytes.error());
  manifest_ = std::move(*manifest);
  auto worker =
      Worker::start("writing the manifest", &job_.user(), [&](Progress&) -> Result<std::string> {
        if (auto r = store_->commit(what.epoch, *bytes); !r) return fail(r.error());
        // Permanent from here: what fails now is only said.
        auto pruned = store_->prune(job_.policy().keep);
        return pruned ? "" : pruned.error().line();
      });
  if (!worker) co_return say(coordinator::CommitOutcome::kNot, worker.error());
  auto committed = co_await finish(std::move(*worker), Deadline::in(kStoreWait));
  if (committed && !committed->empty()) log::warning("older checkpoints remain: " + *committed);
  if (committed) co_return say(coordinator::CommitOutcome::kPermanent, {});
  // A worker that was lost may have renamed the manifest before.
  const bool unknown = committed.error().kind() == ErrorKind::kTimeout ||
                       committed.error().kind() == ErrorKind::kInternal;
  say(unknown ? coordinator::CommitOutcome::kUnknown : coordinator::CommitOutcome::kNot,
      committed.error());
}

Task<> Checkpointer::discard(uint64_t epoch) {
  busy_with_store_++;
  auto worker = Worker::start("removing the tentative checkpoint", &job_.user(),
                              [&](Progress&) -> Result<std::string> {
                                if (auto r = store_->abort(epoch); !r) return fail(r.error());
                                return std::string();
                              });
  if (worker) {
    auto removed = co_await finish(std::move(*worker), Deadline::in(kStoreWait));
    if (!removed && removed.error().kind() != ErrorKind::kNotFound)
      log::warning("a tentative checkpoint remains until the next one: " + removed.error().line());
  }
  if (--busy_with_store_ == 0 && report_) over_.set();
}

CheckpointOutcome Checkpointer::outcome(Clock::time_point started, bool stop) const {
  const auto now = Clock::now();
  CheckpointOutcome outcome{.epoch = manifest_.epoch,
                            .path = paths::epoch_directory(store_->directory(), manifest_.epoch),
                            .total = std::chrono::duration_cast<Milliseconds>(now - started)};
  for (const std::string& answer : coordinator_.answers(Step::kPack)) {
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
