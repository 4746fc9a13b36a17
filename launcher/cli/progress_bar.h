// Progress on standard error: a bar with rate and time left on a terminal, a plain line at the end of a phase
// elsewhere.  The bar takes itself off before anything else is written (common/log.h).
#pragma once

#include <chrono>
#include <string>

#include "launcher/agent/progress_sink.h"

namespace stillpoint::cli {

class ProgressBar : public agent::ProgressSink {
 public:
  explicit ProgressBar(bool plain_lines);  // whether phases are told where there is no terminal
  ~ProgressBar() override;
  void update(const std::string& phase, uint64_t done, uint64_t total) override;
  void finished() override;

 private:
  void draw();
  void erase();
  void end_phase();

  bool terminal_, plain_lines_;
  bool drawn_ = false;
  std::string phase_;
  uint64_t done_ = 0, total_ = 0;
  std::chrono::steady_clock::time_point started_{};
};

}  // namespace stillpoint::cli
