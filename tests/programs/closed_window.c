/* closed_window FILE: rank 0 sends many messages at once that rank 1 does not receive, nor lets MPI
   look at, before FILE exists: they fill what the kernels and MPI can hold, and the connection's
   window closes. */
#include <mpi.h>
#include <string.h>

#include "program.h"

enum { kMessages = 3000, kBytes = 32 << 10 };

static void send_all(void) {
  char* data = malloc((size_t)kMessages * kBytes);
  MPI_Request* requests = malloc(kMessages * sizeof *requests);
  for (int i = 0; i < kMessages; i++) {
    memset(data + (size_t)i * kBytes, (int)(scatter((uint64_t)i) & 0xff), kBytes);
    MPI_Isend(data + (size_t)i * kBytes, kBytes, MPI_CHAR, 1, i, MPI_COMM_WORLD, &requests[i]);
  }
  SAY("all are on their way\n");
  MPI_Waitall(kMessages, requests, MPI_STATUSES_IGNORE);
  free(requests);
  free(data);
}

static void receive_all(void) {
  char* data = malloc(kBytes);
  uint64_t sum = 0;
  for (int i = 0; i < kMessages; i++) {
    MPI_Recv(data, kBytes, MPI_CHAR, 0, i, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (int k = 0; k < kBytes; k += 101) sum = scatter(sum + (unsigned char)data[k]);
  }
  free(data);
  SAY("received %016llx\n", (unsigned long long)sum);
}

int main(int argc, char** argv) {
  int rank, go = 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (argc != 2) return 2;
  /* The connection is there before the silence. */
  if (rank == 0)
    MPI_Send(&go, 1, MPI_INT, 1, kMessages, MPI_COMM_WORLD);
  else
    MPI_Recv(&go, 1, MPI_INT, 0, kMessages, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  if (rank == 0) {
    send_all();
  } else {
    wait_for_file(argv[1]);
    receive_all();
  }
  MPI_Finalize();
  return 0;
}
