/* numbers COUNT [MS]: every rank prints COUNT numbered lines, with a rest of MS milliseconds after
   every 100 of them, and as many to standard error.  No MPI call in between: output alone. */
#include <mpi.h>

#include "program.h"

int main(int argc, char** argv) {
  int rank;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (argc < 2) return 2;
  const long count = atol(argv[1]), ms = argc > 2 ? atol(argv[2]) : 0;
  for (long i = 1; i <= count; i++) {
    printf("%d: %ld %016llx\n", rank, i, (unsigned long long)scatter((uint64_t)i));
    fprintf(stderr, "%d: error %ld\n", rank, i);
    if (i % 100 == 0) {
      fflush(stdout);
      if (ms) rest_ms(ms);
    }
  }
  MPI_Finalize();
  return 0;
}
