/* clocks FILE: every rank looks at its clocks until FILE exists, and says so if one of them goes
 * back or jumps ahead. */
#include <mpi.h>

#include "program.h"

enum { kMostSeconds = 120 }; /* that a job may be away, as its clocks see it */

static void look(int rank, const char* clock, double now, double* last) {
  if (*last != 0 && (now < *last || now > *last + kMostSeconds)) {
    SAY("rank %d: %s went from %f to %f\n", rank, clock, *last, now);
    MPI_Abort(MPI_COMM_WORLD, 3);
  }
  *last = now;
}

/* Until a moment of the clock itself, which a restored rank has to reach as well. */
static void rest_until(double moment) {
  const struct timespec when = {(time_t)moment, (long)((moment - (double)(time_t)moment) * 1e9)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) != 0) {
  }
}

int main(int argc, char** argv) {
  int rank, over = 0;
  double wtime = 0, boot = 0, mono = 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (argc != 2) return 2;
  SAY("rank %d looks\n", rank);
  while (!over) {
    struct timespec now;
    look(rank, "MPI_Wtime", MPI_Wtime(), &wtime);
    look(rank, "CLOCK_MONOTONIC", monotonic(), &mono);
    clock_gettime(CLOCK_BOOTTIME, &now);
    look(rank, "CLOCK_BOOTTIME", (double)now.tv_sec + (double)now.tv_nsec * 1e-9, &boot);
    rest_until(mono + 0.01);
    over = access(argv[1], F_OK) == 0;
    MPI_Allreduce(MPI_IN_PLACE, &over, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  }
  SAY("rank %d: the clocks went on\n", rank);
  MPI_Finalize();
  return 0;
}
