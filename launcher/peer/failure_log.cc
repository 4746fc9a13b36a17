#include "launcher/peer/failure_log.h"

#include <algorithm>

namespace stillpoint::peer {

void FailureLog::tell(const std::string& address, const std::string& why, Clock::time_point now) {
  const auto known = entries_.find(address);
  if (known != entries_.end() && now - known->second.told < kInterval) {
    known->second.left_out++;
    return;
  }
  const unsigned left_out = known == entries_.end() ? 0 : known->second.left_out;
  if (known == entries_.end() && entries_.size() >= kMostAddresses)
    entries_.erase(std::ranges::min_element(entries_, {},
                                            [](const auto& entry) { return entry.second.told; }));
  entries_[address] = {.told = now, .left_out = 0};
  say_(address + ": " + why +
       (left_out ? " (and " + std::to_string(left_out) + " more since the last such line)" : ""));
}

}  // namespace stillpoint::peer
