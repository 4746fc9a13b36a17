// What the threads of a frozen group were doing, saved with ptrace before CRIU lays hands on them,
// so that it can be put back should CRIU be killed in the middle (rescue.h).
//
// CRIU makes a thread run code of its own in two ways.  It sets the thread's registers to a system
// call that it has written over the process's first executable page, or to its *parasite*, a
// mapping of a memfd, for one command; in both the thread then meets a breakpoint, which kills it
// if CRIU is gone.  Such threads get back their registers, signal mask and the overwritten code. Or
// the process's main thread serves commands in the parasite as a daemon: that one notices CRIU's
// end and goes back to where it was by itself, and is left alone.
//
// x86-64.  A group under the cgroup v1 freezer cannot be saved: its threads do not stop for ptrace.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/deadline.h"
#include "common/error.h"

namespace stillpoint::criu {

class SavedThreads {
 public:
  // The caller traces none of them, before or after.
  static Result<SavedThreads> save(const std::string& cgroup, Deadline deadline);
  // Only those that CRIU has moved.  Frozen threads do not end; kNotFound, if one is gone all the
  // same: it met CRIU's breakpoint after CRIU's death and before the group was frozen.
  Result<> put_back(Deadline deadline) const;
  size_t size() const { return threads_.size(); }

 private:
  struct Thread {
    pid_t process = 0, thread = 0;
    user_regs_struct registers{};
    std::vector<char> extended;  // XSAVE area
    uint64_t signal_mask = 0;
  };
  struct Process {
    pid_t pid = 0;
    uint64_t code_at = 0;  // where CRIU writes its system call
    std::string code;
  };
  static Result<Thread> save_thread(pid_t process, pid_t thread, Deadline deadline);
  static Result<> put_back(const Thread& saved, Deadline deadline);
  std::vector<Thread> threads_;
  std::vector<Process> processes_;
};

}  // namespace stillpoint::criu
