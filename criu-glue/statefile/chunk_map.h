// Numbers the chunks of several images in a row, so that they can be given out as jobs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "criu-glue/statefile/digest.h"

namespace stillpoint::statefile {

class ChunkMap {
 public:
  struct Place {
    size_t image;
    uint64_t chunk;  // of that image
  };
  void add(uint64_t image_size) { ends_.push_back(chunks() + chunk_count(image_size)); }
  uint64_t chunks() const { return ends_.empty() ? 0 : ends_.back(); }
  Place at(uint64_t job) const {
    const auto end = std::upper_bound(ends_.begin(), ends_.end(), job);
    const uint64_t first = end == ends_.begin() ? 0 : *(end - 1);
    return {static_cast<size_t>(end - ends_.begin()), job - first};
  }

 private:
  std::vector<uint64_t> ends_;  // by image: number of the first chunk behind it
};

}  // namespace stillpoint::statefile
