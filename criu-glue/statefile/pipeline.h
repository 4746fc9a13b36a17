// Numbered jobs on several threads with a bounded number of buffers ("slots").  HDF5 is called by
// one thread, so one side of the pipeline is always the calling thread:
//
//   run_ordered: threads produce into slots, the caller consumes in the order of the jobs (packing)
//   run_fed:     the caller fills slots in order, threads work on them in any order (unpacking)
//
// Both end at the failed job with the lowest number and return its error, so the same damage gives
// the same message every time.  When they return, no thread is left.
#pragma once

#include <cstdint>
#include <functional>

#include "common/error.h"

namespace stillpoint::statefile {

struct Crew {
  unsigned threads = 1;
  unsigned slots = 2;
};

// As many threads as asked for (0: as this process may use processors), but no more than fit into a
// memory budget with per_thread bytes each and per_slot bytes for each slot (threads + 2 of them).
Crew make_crew(unsigned threads, size_t per_thread, size_t per_slot);

using ThreadWork = std::function<Result<>(unsigned thread, unsigned slot, uint64_t job)>;
using CallerWork = std::function<Result<>(unsigned slot, uint64_t job)>;

Result<> run_ordered(Crew crew, uint64_t jobs, const ThreadWork& produce,
                     const CallerWork& consume);
Result<> run_fed(Crew crew, uint64_t jobs, const CallerWork& feed, const ThreadWork& work);

}  // namespace stillpoint::statefile
