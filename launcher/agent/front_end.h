// Where the user is, from a job's lead: takes output, gives input and signals, is shown what goes
// on.  In the same process (terminal.h), or the user's command elsewhere
// (launcher/remote/remote_front_end.h).
#pragma once

#include <functional>
#include <string>

#include "common/async/event.h"
#include "common/wire/link.pb.h"
#include "launcher/agent/progress_sink.h"

namespace stillpoint::agent {

struct WrittenBytes {
  uint64_t out = 0, err = 0;
};

// What comes from the user.  Never called from within a call of FrontEnd.
struct FrontEndEvents {
  std::function<void(uint32_t part, uint64_t next)> written;  // every record below next
  std::function<void(const link::Stdin&)> input;
  std::function<void(int number)> signal;
  // Nobody reads the output any more, or the user's command is gone.
  std::function<void(const std::string& why, int status)> gone;
};

class FrontEnd {
 public:
  virtual ~FrontEnd() = default;
  // Once, before all else.  `tag`: the rank stands in front of each line.
  virtual void serve(FrontEndEvents events, bool tag) = 0;

  virtual void output(uint32_t part, const link::Output& record) = 0;
  // Nothing is written from its return on until release(): what was written, and told by then, is
  // exactly what a job restarted from a dump taken meanwhile will not print again.
  virtual Task<Result<WrittenBytes>> hold() = 0;
  virtual void release() = 0;
  virtual void drop() = 0;  // what waits is in the dump with which the job ends
  virtual Task<bool> drained(Deadline deadline) = 0;  // all is written; false: not by then

  // The link to rank 0's supervisor: opened, closed for now, and what it has taken.
  virtual void input_opened(uint64_t taken, bool closed) = 0;
  virtual void input_suspended() = 0;
  virtual void input_taken(const link::StdinTaken& news) = 0;

  virtual ProgressSink& progress() = 0;

  // The last of all: the job's exit status, or why it did not begin.
  virtual Task<> finish(Result<int> status) = 0;
};

}  // namespace stillpoint::agent
