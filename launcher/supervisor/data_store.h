// What the ranks publish for each other (MPI_Publish_name, the exchange behind MPI_Comm_connect): a
// small table in memory.  Values are opaque bytes.  No I/O.  Used by one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/error.h"

namespace stillpoint::supervisor {

struct Published {
  uint32_t rank = 0;  // who published it
  std::string key, value;
};

class DataStore {
 public:
  static constexpr size_t kMostBytes = 16 << 20;
  static constexpr size_t kMostWaiting = 4096;
  using Found = std::function<void(const std::vector<Published>&)>;

  explicit DataStore(size_t most_bytes = kMostBytes) : most_bytes_(most_bytes) {}

  // kBusy if the key is taken, kNoSpace if the table is full.  Lookups that waited for it are
  // answered from here.
  Result<> publish(Published item);
  // Removes those of the keys that this rank published; all of its own if there are none.
  void unpublish(uint32_t rank, const std::vector<std::string>& keys);
  // Those of the keys that are there.
  std::vector<Published> find(const std::vector<std::string>& keys) const;
  // Calls `found` once all of the keys are there (perhaps at once).  kNoSpace if too many wait
  // already.
  Result<> await(std::vector<std::string> keys, Found found);

 private:
  struct Waiting {
    std::vector<std::string> keys;
    Found found;
  };
  size_t most_bytes_, bytes_ = 0;
  std::map<std::string, Published> items_;
  std::vector<Waiting> waiting_;
};

}  // namespace stillpoint::supervisor
