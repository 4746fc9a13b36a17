/* init_wait FILE: the last rank calls MPI_Init once FILE exists; the others wait in MPI_Init for
 * it. */
#include <mpi.h>

#include "program.h"

int main(int argc, char** argv) {
  const char* mine = getenv("PMIX_RANK");
  const char* count = getenv("RANKS"); /* given by the test with -x */
  if (argc != 2 || !mine || !count) return 2;
  if (atoi(mine) == 0) SAY("entering MPI_Init\n");
  if (atoi(mine) == atoi(count) - 1) wait_for_file(argv[1]);
  MPI_Init(&argc, &argv);
  int rank, ranks, sum = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  if (rank == 0) SAY("%d ranks, sum %d\n", ranks, sum);
  MPI_Finalize();
  return 0;
}
