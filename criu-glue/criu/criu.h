// CRIU behind one small interface.  Calls block; the agent makes them in a worker.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/deadline.h"
#include "common/error.h"

namespace stillpoint::criu {

// A mount that belongs to the node: CRIU is told its key at the dump, and what to bind there at the
// restore.
struct ExternalMount {
  std::string destination;  // inside the container; it is its own key
};

struct DumpRequest {
  pid_t init = 0;              // the container's pid 1, as seen from here
  std::string images;          // directory for the images and dump.log; exists
  std::string freeze_cgroup;   // frozen already, and frozen again when the dump returns
  uint64_t network_inode = 0;  // the container's network namespace: external
  std::string network_key;
  std::vector<ExternalMount> mounts;
  std::string
      tools;  // a directory with programs that CRIU is to find before those on PATH, or empty
  // Then the dump is called off in order, so that the processes are as before (kTimeout).
  Deadline deadline = Deadline::in(std::chrono::minutes(10));
};

struct RestoreRequest {
  std::string images;  // restore.log is written there
  std::string root;    // private bind of "/", in the caller's mount namespace
  int network = -1;    // the namespace to restore into
  std::string network_key;
  std::vector<ExternalMount> mounts;  // source and destination are the same path of the node
  // Called when everything is restored and still stopped: an error ends the restore, with all
  // restored processes.
  std::function<Result<>(pid_t init)> before_resume;
};

struct Version {
  int major = 0, minor = 0, sublevel = 0;
  std::string text() const;
  auto operator<=>(const Version&) const = default;
};

class Criu {
 public:
  virtual ~Criu() = default;
  // kUnfit where CRIU is missing, or too old for us or for this kernel.
  virtual Result<Version> version() = 0;

  // The processes run on (frozen, if their cgroup is).  On failure the error holds CRIU's own error
  // lines and, where known, their usual cause (explain.h); the images are useless then.
  //
  // CRIU works inside the processes that it dumps.  Ended with SIGKILL in the middle of that, it
  // may leave them broken; so it runs in a session of its own, where a signal to the caller's
  // process group does not reach it, and is called off instead, when the deadline passes or the
  // caller dies: its writes begin to fail, and it undoes what it did.  After a caller's death wait
  // for that with await_dump_end(), before anything is thawed.
  virtual Result<> dump(const DumpRequest& request) = 0;

  // The pid of the restored pid 1 as seen from here.  It is a child of the calling process, as a
  // made one is (should the caller end before it, it goes to the nearest subreaper:
  // PR_SET_CHILD_SUBREAPER).  Run from inside the cgroup that is to hold the container.  Has no
  // deadline: a restore can be killed at any time, with its cgroup, and the images stay what they
  // are.
  virtual Result<pid_t> restore(const RestoreRequest& request) = 0;
};

// Through libcriu and the program `binary`, found on PATH.  Used by one thread; the caller has only
// that one.
std::unique_ptr<Criu> make_criu(std::string binary = "criu");

// Waits until no dump into this directory is under way any more: for whoever lost the process that
// called dump().  kTimeout otherwise.
Result<> await_dump_end(const std::string& images, Deadline deadline);

}  // namespace stillpoint::criu
