// A piece of work in a forked child: it may block, take memory, crash or be killed without harm to
// the caller.  It reports progress and one result, or one error, over a pipe.
//
//   auto worker = Worker::start("pack", &user, [&](Progress& p) -> Result<std::string> {...});
//   ... when worker->fd() is readable: worker->read() ...
//
// The child leads a process group of its own, is killed with its parent, and, if an identity is
// given, becomes that user before the body runs.  The caller has one thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "common/deadline.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/identity.h"
#include "common/process.h"

namespace stillpoint {

// The worker's side: tells how far it is.  Cheap to call often: it sends at most every 50 ms.
// May be called from several threads of the body.
class Progress {
 public:
  explicit Progress(int fd) : fd_(fd) {}
  void total(uint64_t bytes) { __atomic_store_n(&total_, bytes, __ATOMIC_RELAXED); }
  void add(uint64_t bytes);

 private:
  int fd_;
  uint64_t total_ = 0, done_ = 0;
  int64_t last_sent_ = 0;  // milliseconds
};

struct WorkDone {
  uint64_t done = 0, total = 0;  // bytes
};

class Worker {
 public:
  using Body = std::function<Result<std::string>(Progress&)>;
  static Result<Worker> start(std::string name, const Identity* user, const Body& body);

  const std::string& name() const { return name_; }
  pid_t pid() const { return child_.pid(); }
  int fd() const { return pipe_.get(); }  // readable when there is news
  WorkDone progress() const { return progress_; }

  // Takes in what has arrived, without blocking.  A value once the worker has ended: its result.  A
  // worker that died without one gives an error that says how.  Call it no more after that.
  std::optional<Result<std::string>> read();
  // Blocks until the result or the deadline, where it is killed.
  Result<std::string> finish(Deadline deadline);
  void kill();  // with all that it started

 private:
  std::optional<Result<std::string>> take_message();
  std::string name_;
  Child child_;
  Fd pipe_;
  std::string in_;
  WorkDone progress_;
};

}  // namespace stillpoint
