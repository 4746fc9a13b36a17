// One checkpoint of a running job, from the quiesce to the permanent manifest:
//
//   prepare   as the user: the store is there and writable, a tentative epoch is begun   (job runs)
//   hold      the supervisor closes its link; the container is frozen                    (job
//   stands still) survey    what is open; what CRIU could not dump dump      CRIU, into staging
//   release   thaw, link open again: the job is told to go on                            (job runs)
//   pack      as the user: staging -> tentative statefile, fsync, verified, sealed
//   commit    the manifest is signed, written and renamed: permanent; older ones go
//
// An error in any phase undoes the tentative epoch and the staging, and the job runs on.  With
// `stop` the container stays frozen until the commit and is then ended.
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
  explicit Checkpointer(Job& job) : job_(job), idle_(job.executor()) { idle_.set(); }

  // One at a time: a call that comes meanwhile waits for the one before.
  Task<Result<CheckpointOutcome>> take(bool stop, ProgressSink& sink);

  bool busy() const { return !idle_.is_set(); }
  bool dumped() const {
    return dumped_;
  }  // the one under way has its dump: worth finishing if the job fails
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
  struct Attempt;
  Task<Result<>> run(Attempt& attempt);
  Task<Result<>> prepare(Attempt& attempt);
  Task<Result<>> hold_until_dumped(Attempt& attempt);
  Task<Result<>> hold_and_dump(Attempt& attempt);
  Task<Result<>> dump(Attempt& attempt);
  Task<Result<>> warm_staging(Attempt& attempt);
  Task<Result<>> pack(Attempt& attempt);
  Task<Result<>> read_back(Attempt& attempt);
  Task<Result<>> commit(Attempt& attempt);
  Task<> undo(Attempt& attempt);
  Result<> look(Attempt& attempt);
  Task<Result<std::string>> await(Worker worker, Deadline deadline,
                                  std::function<void(WorkDone)> on_progress = {});

  Job& job_;
  Event idle_;
  bool dumped_ = false, cancelled_ = false;
  pid_t worker_ = 0;  // the worker under way, 0: none
  uint64_t last_epoch_ = 0;
  std::string last_created_, last_failure_;
  Milliseconds last_stop_{0};
};

}  // namespace stillpoint::agent
