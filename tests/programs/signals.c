/* signals: every rank prints which signals it gets; SIGTERM and SIGINT end it with status 0.  Ends
   by itself after a minute, with 9. */
#define _GNU_SOURCE
#include <mpi.h>
#include <signal.h>
#include <string.h>

#include "program.h"

int main(int argc, char** argv) {
  int rank;
  sigset_t set;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  sigemptyset(&set);
  const int numbers[] = {SIGUSR1, SIGUSR2, SIGTERM, SIGINT};
  for (int i = 0; i < 4; i++) sigaddset(&set, numbers[i]);
  sigprocmask(SIG_BLOCK, &set, NULL);
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank == 0) SAY("ready\n");
  const double end = monotonic() + 60;
  for (;;) {
    const struct timespec rest = {1, 0};
    const int number = sigtimedwait(&set, NULL, &rest);
    if (number > 0) SAY("rank %d: SIG%s\n", rank, sigabbrev_np(number));
    if (number == SIGTERM || number == SIGINT) break;
    if (monotonic() > end) return 9;
  }
  MPI_Finalize();
  return 0;
}
