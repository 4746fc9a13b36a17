/* threads ROUNDS: four OpenMP threads in every rank, each with its own thread-local counter, and an
   MPI reduction by the first of them after every round. */
#include <mpi.h>
#include <omp.h>

#include "program.h"

static _Thread_local uint64_t mine;

int main(int argc, char** argv) {
  int rank, level;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (argc != 2) return 2;
  const int rounds = atoi(argv[1]);
  uint64_t shared = 0;
#pragma omp parallel num_threads(4)
  {
    mine = (uint64_t)(rank * 4 + omp_get_thread_num());
    for (int round = 1; round <= rounds; round++) {
      for (int i = 0; i < 20000; i++) mine = scatter(mine + (uint64_t)i);
#pragma omp atomic
      shared += mine;
#pragma omp barrier
#pragma omp master
      {
        uint64_t all = 0;
        MPI_Allreduce(&shared, &all, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
        if (rank == 0 && round % 10 == 0)
          SAY("round %d: %016llx\n", round, (unsigned long long)all);
        rest_ms(20);
      }
#pragma omp barrier
    }
  }
  if (rank == 0) SAY("threads: ok\n");
  MPI_Finalize();
  return 0;
}
