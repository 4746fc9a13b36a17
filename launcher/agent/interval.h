// Checkpoints by the clock.
#pragma once

#include <functional>

#include "launcher/agent/checkpoint.h"

namespace stillpoint::agent {

class IntervalTimer {
 public:
  // A checkpoint every `interval` (0: none), counted from the end of the one before.  A failure is
  // said and the next interval tries again.  `make_sink`: where its progress goes.
  IntervalTimer(Job& job, Checkpointer& checkpointer, ProgressSink& sink)
      : job_(job), checkpointer_(checkpointer), sink_(sink) {}
  void start();
  Milliseconds until_next() const;

 private:
  Task<> loop();
  Job& job_;
  Checkpointer& checkpointer_;
  ProgressSink& sink_;
  std::chrono::steady_clock::time_point next_{};
};

// One line about a checkpoint that became permanent.
void announce(const Job& job, const CheckpointOutcome& outcome);

}  // namespace stillpoint::agent
