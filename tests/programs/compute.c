/* compute MILLIONS: so many million steps of arithmetic in every rank without any MPI or system
   call, then one reduction. */
#include <mpi.h>

#include "program.h"

int main(int argc, char** argv) {
  int rank;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (argc != 2) return 2;
  const long steps = atol(argv[1]) * 1000000;
  if (rank == 0) SAY("computing\n");
  uint64_t x = (uint64_t)rank + 1, sum = 0;
  double y = rank; /* the floating-point registers are part of the state, too */
  for (long i = 0; i < steps; i++) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    y = y * 0.75 + (double)(x >> 40);
  }
  x ^= (uint64_t)(y * 16);
  MPI_Reduce(&x, &sum, 1, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
  if (rank == 0) SAY("computed %016llx\n", (unsigned long long)sum);
  MPI_Finalize();
  return 0;
}
