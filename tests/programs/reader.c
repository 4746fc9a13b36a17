/* reader [FILE [ALL]]: rank 0 reads standard input to its end, line by line, and tells all ranks
   the length of each; prints a sum over its bytes.  With FILE it rests after line 10 until FILE
   exists; with ALL it goes on to print every line. */
#include <mpi.h>
#include <string.h>

#include "program.h"

int main(int argc, char** argv) {
  int rank;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  static char line[65536];
  uint64_t sum = 14695981039346656037u;
  long lines = 0, bytes = 0;
  for (;;) {
    long length = -1;
    if (rank == 0 && fgets(line, sizeof line, stdin)) length = (long)strlen(line);
    MPI_Bcast(&length, 1, MPI_LONG, 0, MPI_COMM_WORLD);
    if (length < 0) break;
    lines++;
    bytes += length;
    if (rank == 0) {
      for (long i = 0; i < length; i++) sum = (sum ^ (unsigned char)line[i]) * 1099511628211u;
      if (argc > 2) SAY("%s", line);
    }
    if (argc > 1 && lines == 10) {
      if (rank == 0) SAY("ten lines read\n");
      wait_for_file(argv[1]);
    }
  }
  if (rank == 0) SAY("%ld lines, %ld bytes, sum %016llx\n", lines, bytes, (unsigned long long)sum);
  MPI_Finalize();
  return 0;
}
