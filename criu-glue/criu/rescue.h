// What is done when CRIU itself is killed or crashes in the middle of a dump.  The kernel then lets
// go of all the processes that CRIU traced, and they run: with their TCP connections in repair
// mode, where a send is an error, and perhaps in the middle of code that CRIU made them run.  Left
// to itself, 33 of 34 jobs that talk over TCP did not survive that.
//
// So CRIU has a keeper.  Before CRIU touches the frozen processes, the keeper saves what their
// threads were doing (threads.h) and traces CRIU with PTRACE_O_TRACEEXIT.  If CRIU dies by a
// signal, the keeper freezes the processes before it lets CRIU go; then, nothing running, it takes
// the connections out of repair mode and puts the threads back.
#pragma once

#include <sys/types.h>

#include <string>

#include "common/error.h"
#include "common/fd.h"
#include "common/process.h"

namespace stillpoint::criu {

// What the keeper says when CRIU is gone.
enum class Verdict : char {
  kUntouched = 0,    // CRIU died before it came so far as to have a keeper
  kKeeping = 'k',    // not the last word
  kNotNeeded = 'n',  // CRIU ended by itself
  kRescued = 'r',    // killed; the processes are frozen and as they were
  kHarmed = 'h',     // killed; they are frozen, if that was possible, and some may be harmed
};

// Starts the keeper, as a child of the calling process; it ends with CRIU, and writes its verdict
// into `verdict` before.  The processes are frozen.  Returns once all is saved and it holds on to
// CRIU.
Result<Child> keep_at_death(pid_t criu, const std::string& cgroup, int verdict);

// Blocks until then.  All other holders of the pipe's end for writing have gone.
Verdict await_verdict(int verdict, Deadline deadline);

}  // namespace stillpoint::criu
