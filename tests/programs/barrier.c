/* barrier FILE: all ranks but the last wait in MPI_Barrier; the last one enters once FILE exists.
 */
#include <mpi.h>

#include "program.h"

int main(int argc, char** argv) {
  int rank, ranks;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (argc != 2) return 2;
  if (rank == ranks - 1) wait_for_file(argv[1]);
  if (rank == 0) SAY("waiting in MPI_Barrier\n");
  MPI_Barrier(MPI_COMM_WORLD);
  int sum = 0, mine = rank + 1;
  MPI_Reduce(&mine, &sum, 1, MPI_INT, MPI_SUM, 0, MPI_COMM_WORLD);
  if (rank == 0) SAY("through, sum %d\n", sum);
  MPI_Finalize();
  return 0;
}
