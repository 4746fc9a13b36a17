// Tells of failed connections without filling the log: one line a minute for each address, with how
// many were left out since the last.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "common/deadline.h"

namespace stillpoint::peer {

class FailureLog {
 public:
  using Clock = Deadline::Clock;
  static constexpr std::chrono::seconds kInterval{60};
  static constexpr size_t kMostAddresses =
      256;  // remembered; then the one that is longest ago goes

  explicit FailureLog(std::function<void(const std::string&)> say) : say_(std::move(say)) {}
  void tell(const std::string& address, const std::string& why,
            Clock::time_point now = Clock::now());

 private:
  struct Entry {
    Clock::time_point told;
    unsigned left_out = 0;
  };
  std::function<void(const std::string&)> say_;
  std::map<std::string, Entry> entries_;
};

}  // namespace stillpoint::peer
