// The running jobs of this node: /run/stillpoint/jobs/<job>/.  A job's directory is held by a lock
// on it for as long as its agent or its guard lives; what is found there without a lock is the rest
// of an agent that died, and is swept.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/fd.h"

namespace stillpoint::agent {

// What a sweep must know to clean up after a dead agent.
struct JobNote {
  std::string job;
  std::string cgroup;   // path, empty if there is none yet
  std::string staging;  // directory, empty if there is none
  uid_t uid = 0;        // whose job it is
  int agent_pid = 0;
};

class JobClaim {
 public:
  // kBusy if a job of that name runs on this node.  Sweeps what dead agents left first.
  static Result<JobClaim> claim(const std::string& job);
  JobClaim(JobClaim&&) = default;
  JobClaim& operator=(JobClaim&&) = delete;

  const std::string& directory() const { return directory_; }
  int lock() const { return lock_.get(); }
  Result<> write(const JobNote& note) const;

 private:
  JobClaim(std::string directory, Fd lock)
      : directory_(std::move(directory)), lock_(std::move(lock)) {}
  std::string directory_;
  Fd lock_;
};

// Jobs that have something on this node, sorted.
std::vector<std::string> jobs_here();

// How many jobs and parts of jobs there are.
size_t claims_here();

// None if there is no such job, or it is only just beginning.
std::optional<uid_t> owner_of(const std::string& job);

// Ends and removes all that a job has on this node: cgroup with its processes, staging, the job's
// directory. Says what could not be removed.
Result<> clean_up(const JobNote& note);

// Cleans up after agents that died.  Needs root; returns how many.
unsigned sweep_dead_jobs();

}  // namespace stillpoint::agent
