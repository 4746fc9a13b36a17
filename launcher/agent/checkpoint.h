// Checkpoints of a running job, seen from the process that leads it: has the conductor take the
// members through them, and does what is the lead's alone: output, the store's epochs, the
// manifest.
//
//   begin     as the user: the store is there and writable, a tentative epoch is made
//   rounds    the members' steps (works.h)
//   commit    the manifest is signed, written and renamed: permanent; older ones go
//   discard   as the user: a tentative epoch that came to nothing is removed
//
// Whatever fails before the commit, the job runs on.
#pragma once

#include "launcher/agent/job.h"

namespace stillpoint::agent {

struct CheckpointOutcome {
  uint64_t epoch = 0;
  std::string path;
  Milliseconds stood_still{0}, total{0};
  uint64_t memory_bytes = 0, stored_bytes = 0;
};

class Checkpointer {
 public:
  explicit Checkpointer(Job& job);

  // One at a time: a call that comes meanwhile waits for the one before.
  Task<Result<CheckpointOutcome>> take(bool stop, ProgressSink& sink);

  bool busy() const { return !idle_.is_set(); }
  // The one under way has its dump: worth finishing if the job fails.
  bool dumped() const;
  Task<> idle() { co_await idle_.wait(); }
  void cancel();  // the one under way is ended and undone

  uint64_t last_epoch() const { return last_epoch_; }
  const std::string& last_created() const { return last_created_; }
  Milliseconds last_stop() const { return last_stop_; }
  const std::string& last_failure() const { return last_failure_; }
  void restarted_from(uint64_t epoch, const std::string& created) {
    last_epoch_ = epoch;
    last_created_ = created;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Task<Result<CheckpointOutcome>> attempt(bool stop);
  Task<Result<uint64_t>> begin_epoch(statefile::Store& store);
  Task<> before(const coordinator::Command& command);
  Task<CommitSaid> commit(uint64_t epoch);
  Task<> discard(uint64_t epoch);
  Result<statefile::Manifest> manifest(uint64_t epoch) const;
  CheckpointOutcome outcome(Clock::time_point started, bool stop) const;

  Job& job_;
  Event idle_;
  std::optional<statefile::Store> store_;
  statefile::Manifest manifest_;  // of the attempt under way
  WrittenBytes written_;          // when its output was held
  uint64_t tried_ = 0;            // the last epoch that was begun
  Clock::time_point held_{};
  bool cancelled_ = false, output_held_ = false;
  uint64_t last_epoch_ = 0;
  std::string last_created_, last_failure_;
  Milliseconds last_stop_{0};
};

}  // namespace stillpoint::agent
