// Progress on standard error: a bar with rate and time left, if that is a terminal (elsewhere the
// plain lines that are said at the end suffice).  The bar takes itself off before anything else is
// written (common/log.h).
#pragma once

#include <chrono>
#include <string>

#include "launcher/agent/progress_sink.h"

namespace stillpoint::cli {

class ProgressBar : public agent::ProgressSink {
 public:
  ProgressBar();
  ~ProgressBar() override;
  void update(const std::string& phase, uint64_t done, uint64_t total) override;
  void finished() override;

 private:
  void draw();
  void erase();

  bool terminal_;
  bool drawn_ = false;
  std::string phase_;
  uint64_t done_ = 0, total_ = 0;
  std::chrono::steady_clock::time_point started_{};
};

}  // namespace stillpoint::cli
