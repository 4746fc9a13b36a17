// The environment of a rank: what the user had, without what an outer launcher left in it, with
// what mpirun gives.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace stillpoint::supervisor {

using Environment = std::vector<std::string>;  // NAME=VALUE

struct Launch {
  std::vector<std::string> argv;
  Environment env;
  std::string directory;
  uint32_t ranks = 1;
  bool oversubscribed = false;  // more ranks than processors
};

// The value of a variable, or empty.
std::string_view value_of(const Environment& env, std::string_view name);

// Without the variables by which mpirun, srun, MPICH or another supervisor tells a process that it
// is one of *its* ranks: they would make the MPI library look for a server that is not there.  What
// a user sets (OMPI_MCA_*, PMIX_MCA_*, SLURM_JOB_*) stays.
Environment without_outer_launcher(const Environment& env);

// For one rank; `pmix` is what PMIx's server wants it to know.  All ranks are on this node.  A
// variable that the user has set and that is a mere default of ours stays as it is.
Environment rank_environment(const Launch& launch, uint32_t rank, const Environment& pmix);

}  // namespace stillpoint::supervisor
