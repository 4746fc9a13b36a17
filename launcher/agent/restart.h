// From a checkpoint back to a running container:
//
//   find      as the user: which checkpoint, its manifest's bytes
//   trust     root: signature, format, owner; fit for this node (CPU, mounts); files as they were
//   unpack    as the user: statefile -> staging; then root checks every byte against the signed
//   manifest roll back as the user: files open for writing, to their length at the checkpoint
//   restore   CRIU, into a new cgroup and network namespace
//
// An error in any phase leaves the checkpoint as it was and nothing behind.
#pragma once

#include "launcher/agent/job.h"

namespace stillpoint::agent {

struct FoundCheckpoint {
  statefile::CheckpointPlace place;
  statefile::Manifest manifest;
};
// find and trust.
Result<FoundCheckpoint> find_checkpoint(const RestartRequest& request);

struct RestartTimes {
  Milliseconds read{0}, check{0}, restore{0};
};
// The rest, into a job that was prepared with this manifest; the job has its container afterwards.
Task<Result<RestartTimes>> restore_job(Job& job, const FoundCheckpoint& found, ProgressSink& sink);

}  // namespace stillpoint::agent
