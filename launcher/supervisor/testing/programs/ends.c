/* ends RANK HOW NUMBER: that rank ends badly while the others wait for it in MPI_Barrier.
   HOW: "abort" (MPI_Abort), "exit" (without MPI_Finalize), "signal" (kills itself), "late" (status
   after MPI_Finalize), "never" (does not call MPI_Init at all). */
#include <mpi.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const char* how = argv[2];
  const int number = atoi(argv[3]);
  const char* own = getenv("OMPI_COMM_WORLD_RANK");
  if (!own) return 3;
  const int mine = atoi(own) == atoi(argv[1]);
  if (mine && strcmp(how, "never") == 0) return number;
  MPI_Init(&argc, &argv);
  MPI_Barrier(MPI_COMM_WORLD);
  if (mine && strcmp(how, "abort") == 0) MPI_Abort(MPI_COMM_WORLD, number);
  if (mine && strcmp(how, "exit") == 0) _exit(number);
  if (mine && strcmp(how, "signal") == 0) {
    signal(number, SIG_DFL);
    raise(number);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  MPI_Finalize();
  return mine ? number : 0;
}
