// What this node is, as checkpoints record it and restarts compare it.
#pragma once

#include <set>

#include "common/error.h"
#include "criu-glue/statefile/record.h"

namespace stillpoint::agent {

statefile::CpuRecord this_cpu();
std::string kernel_release();
std::string machine();  // "x86_64"

// The ranks of a container, by rank: what they are and use now.  `pids` are those inside the
// container, 0 of one that has ended, -1 of one that is elsewhere;
// `processes` all processes of the container as seen from here.
std::vector<statefile::RankRecord> rank_records(const std::vector<int32_t>& pids,
                                                const std::vector<pid_t>& processes);

// Of these processes, as seen from here, the pids inside their container of those that have not
// ended (zombies have).
std::set<int32_t> alive_inside(const std::vector<pid_t>& processes);

// Whether processes dumped there can go on here: machine, CPU flags, mounts.  kUnfit names what is
// missing.
Result<> fit_to_continue(const statefile::Manifest& manifest);

// The part of fit_to_continue that compares processors, by itself.
Result<> cpu_can_run(const statefile::CpuRecord& dumped, const statefile::CpuRecord& here);

}  // namespace stillpoint::agent
