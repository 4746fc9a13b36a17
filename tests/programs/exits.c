/* exits RANK HOW NUMBER: that rank ends early, the others wait for it in MPI_Barrier.  HOW:
   "status" (exit without MPI_Finalize), "signal" (kills itself), "abort" (MPI_Abort), "late" (exit
   with NUMBER after MPI_Finalize). */
#include <mpi.h>
#include <signal.h>
#include <string.h>

#include "program.h"

int main(int argc, char** argv) {
  int rank;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (argc != 4) return 2;
  const int mine = rank == atoi(argv[1]), number = atoi(argv[3]);
  if (rank == 0) SAY("started\n");
  MPI_Barrier(MPI_COMM_WORLD);
  if (mine && strcmp(argv[2], "status") == 0) _exit(number);
  if (mine && strcmp(argv[2], "signal") == 0) {
    signal(number, SIG_DFL);
    raise(number);
  }
  if (mine && strcmp(argv[2], "abort") == 0) MPI_Abort(MPI_COMM_WORLD, number);
  if (strcmp(argv[2], "late") != 0) {
    MPI_Barrier(MPI_COMM_WORLD);
    SAY("rank %d went on\n", rank);
  }
  MPI_Finalize();
  return mine ? number : 0;
}
