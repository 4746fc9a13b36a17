// Processes and waiting for them: the only place that calls fork, exec and wait.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/deadline.h"
#include "common/error.h"
#include "common/fd.h"

namespace stillpoint {

// How a process ended.
struct Exit {
  int code = 0;    // exit status, if signal is 0
  int signal = 0;  // what killed it, or 0

  bool ok() const { return code == 0 && signal == 0; }
  int status() const { return signal ? 128 + signal : code; }  // as a shell says it
  std::string describe() const;  // "exit status 3", "killed by signal 9 (Killed)"
};

// A child of this process.  Owned: the destructor kills it (with its process group, if it leads
// one) and reaps it.  Move-only; used by one thread.
class Child {
 public:
  Child() = default;
  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;
  ~Child();

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }  // readable once it has ended
  bool running() const { return pid_ > 0; }

  void send(int signal) const;  // to the process group, if it leads one, else to the process
  void leads_group() { group_ = true; }
  // Reaps it, if it has ended.
  Result<std::optional<Exit>> poll();
  // kTimeout, saying `what`, if it still runs at the deadline (it goes on running).
  Result<Exit> wait(Deadline deadline, std::string_view what);
  // SIGKILL, then reap.
  void kill();
  // Gives it up: it is neither killed nor reaped by us any more.
  pid_t release();

  // Takes a child that was made elsewhere (clone, CRIU).
  static Result<Child> adopt(pid_t pid);

 private:
  pid_t pid_ = 0;
  Fd pidfd_;
  bool group_ = false;
};

// fork(): the child runs body and ends with what it returns; it never returns to the caller.  The
// caller should have one thread only: after fork the child may use the heap only then.
Result<Child> fork_child(const std::function<int()>& body);

// fork() for a process that is to live on by itself: in a session of its own, and nobody's to wait
// for.  It keeps the descriptors `keep` and 0 to 2, with the signals as they are by default, and
// ends with what the body returns.
Result<> fork_detached(const std::vector<int>& keep, const std::function<int()>& body);

// A child of this process that has ended, any of them: for pid 1 and subreapers, which inherit the
// children of others.  Never blocks.  None: `children_left` says whether there are any that still
// run.
struct Reaped {
  pid_t pid = 0;
  Exit exit;
};
std::optional<Reaped> reap_any(bool& children_left);

struct Output {
  Exit exit;
  std::string out;  // standard output and standard error together, at most 1 MiB
};
// Runs a program found on PATH with stdin at /dev/null and collects what it prints.  Ended with
// SIGKILL at the deadline (kTimeout).
Result<Output> run_program(const std::vector<std::string>& argv, Deadline deadline);

}  // namespace stillpoint
