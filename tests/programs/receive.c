/* receive FILE: rank 0 waits in MPI_Recv for each of the others, which send once FILE exists. */
#include <mpi.h>

#include "program.h"

int main(int argc, char** argv) {
  int rank, ranks;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (argc != 2) return 2;
  if (rank == 0) {
    SAY("waiting in MPI_Recv\n");
    for (int from = 1; from < ranks; from++) {
      int value = 0;
      MPI_Recv(&value, 1, MPI_INT, from, 7, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      SAY("got %d from rank %d\n", value, from);
    }
  } else {
    const int value = 1000 + rank;
    wait_for_file(argv[1]);
    MPI_Send(&value, 1, MPI_INT, 0, 7, MPI_COMM_WORLD);
  }
  MPI_Finalize();
  return 0;
}
