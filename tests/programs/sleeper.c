/* sleeper TENTHS JUMP: sleeps in steps of a tenth of a second, and watches CLOCK_MONOTONIC while it
   does: it must neither go back nor jump by JUMP seconds or more.  A job that was killed and
   restarted later must not notice the time in between. */
#include <mpi.h>

#include "program.h"

int main(int argc, char** argv) {
  int rank, bad = 0, worst = 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (argc != 3) return 2;
  const int steps = atoi(argv[1]);
  const double jump = atof(argv[2]);
  double before = monotonic();
  for (int i = 1; i <= steps; i++) {
    rest_ms(100);
    const double now = monotonic();
    if (now < before || now - before >= jump) {
      fprintf(stderr, "rank %d: the clock went from %.3f to %.3f in step %d\n", rank, before, now,
              i);
      bad = 1;
    }
    before = now;
    if (rank == 0) SAY("slept %d\n", i);
  }
  MPI_Allreduce(&bad, &worst, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  if (rank == 0) SAY(worst ? "the clock jumped\n" : "the clock went on\n");
  MPI_Finalize();
  return worst;
}
