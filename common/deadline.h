// A moment by which a wait ends.  Every wait of the project takes one.
#pragma once

#include <algorithm>
#include <chrono>

namespace stillpoint {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;
  static Deadline in(Clock::duration wait) { return Deadline(Clock::now() + wait); }

  bool passed() const { return Clock::now() >= at_; }
  Clock::time_point at() const { return at_; }
  // For poll(2): milliseconds left, rounded up, at least 0.
  int poll_timeout() const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(at_ - Clock::now()).count();
    return static_cast<int>(std::clamp<long long>(left, 0, 1'000'000'000));
  }

 private:
  explicit Deadline(Clock::time_point at) : at_(at) {}
  Clock::time_point at_;
};

}  // namespace stillpoint
