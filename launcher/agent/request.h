// What a command asks the agent to do, parsed and checked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/identity.h"
#include "common/units.h"

namespace stillpoint::agent {

// How a job is kept safe; the same for a fresh job and a restarted one.
struct CheckpointPolicy {
  Milliseconds interval{0};          // 0: only when asked
  std::string directory;             // absolute; <directory>/<job>.<step> holds the checkpoints
  uint32_t keep = 2;                 // permanent checkpoints kept; 0: all
  std::string staging;               // base directory
  Milliseconds hold_limit{600'000};  // longest time a job is held still for a dump
};

struct RunRequest {
  std::string job;
  Identity user;
  std::vector<std::string> argv;
  std::vector<std::string> env;  // NAME=VALUE
  std::string directory;         // working directory, absolute
  uint32_t umask = 022;
  uint32_t ranks = 1;
  bool tag_output = false;
  CheckpointPolicy policy;
};

struct RestartRequest {
  std::string checkpoint;  // as the user named it; relative to `directory`
  std::string directory;   // the caller's
  Identity user;
  // What the user gave; the rest is taken from the checkpoint.
  bool has_interval = false, has_keep = false;
  bool tag_output = false;
  CheckpointPolicy policy;
};

// The exit status of a job that was ended on purpose once its checkpoint was permanent.
inline constexpr int kStoppedAtCheckpoint = 85;

}  // namespace stillpoint::agent
