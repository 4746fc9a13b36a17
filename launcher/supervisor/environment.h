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
  uint32_t ranks = 1;  // of the whole job
  uint32_t nodes = 1;
  uint32_t local_ranks = 1;     // of this node
  bool oversubscribed = false;  // more of them than processors
};

// The value of a variable, or empty.
std::string_view value_of(const Environment& env, std::string_view name);

// Without the variables by which mpirun, srun, MPICH or another supervisor tells a process that it
// is one of *its* ranks: they would make the MPI library look for a server that is not there.  What
// a user sets (OMPI_MCA_*, PMIX_MCA_*, SLURM_JOB_*) stays.
Environment without_outer_launcher(const Environment& env);

// For one rank, the `local_rank`th of this node; `pmix` is what PMIx's server wants it to know.  A
// variable that the user has set and that is a mere default of ours stays as it is.
//
// In a job over several nodes Open MPI is told to connect ranks by mpi0: connections over it are
// what survives a restart on other nodes.  No other variable is needed: it chooses its TCP
// transport by itself where the container has no fabric, and shared memory within a node.
Environment rank_environment(const Launch& launch, uint32_t rank, uint32_t local_rank,
                             const Environment& pmix);

// What to tell a user whose own settings keep Open MPI from using mpi0; empty if they do not.
std::string network_warning(const Launch& launch);

}  // namespace stillpoint::supervisor
