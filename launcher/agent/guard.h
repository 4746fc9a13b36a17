// The guard of a job: a small process that outlives its agent and cleans up if the agent dies
// without having done so (killed, crashed, out of memory): nothing frozen, running or stored is
// left behind.
#pragma once

#include "common/error.h"
#include "common/fd.h"
#include "common/process.h"
#include "launcher/agent/registry.h"

namespace stillpoint::agent {

class Guard {
 public:
  // Watches this process.  Inherits the claim's lock, so the job's name stays taken until it is
  // done.
  static Result<Guard> start(const JobClaim& claim, const std::string& job);
  Guard(Guard&&) = default;
  Guard& operator=(Guard&&) = delete;

  Result<> tell(const JobNote& note);  // what there is to clean up from now on
  void dismiss();                      // all is cleaned up; the guard ends

 private:
  Guard(Child child, Fd pipe) : child_(std::move(child)), pipe_(std::move(pipe)) {}
  Child child_;
  Fd pipe_;
};

}  // namespace stillpoint::agent
