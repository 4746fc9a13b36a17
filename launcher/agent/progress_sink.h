// Where the phases of a checkpoint or restart are shown: a bar on a terminal, messages to a client,
// or nothing.
#pragma once

#include <cstdint>
#include <string>

namespace stillpoint::agent {

class ProgressSink {
 public:
  virtual ~ProgressSink() = default;
  virtual void update(const std::string& phase, uint64_t done, uint64_t total) = 0;  // bytes
  virtual void finished() = 0;  // of this phase, or of all: the bar goes
};

}  // namespace stillpoint::agent
