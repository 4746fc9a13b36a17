/* names: rank 0 publishes a name, all look it up. */
#include <mpi.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char** argv) {
  int rank;
  char port[MPI_MAX_PORT_NAME] = "", found[MPI_MAX_PORT_NAME] = "";
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank == 0) {
    MPI_Open_port(MPI_INFO_NULL, port);
    MPI_Publish_name("a service", MPI_INFO_NULL, port);
  }
  MPI_Bcast(port, sizeof port, MPI_CHAR, 0, MPI_COMM_WORLD);
  MPI_Lookup_name("a service", MPI_INFO_NULL, found);
  printf("rank %d: %s\n", rank, strcmp(port, found) == 0 ? "found" : "something else");
  fflush(stdout);
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank == 0) MPI_Unpublish_name("a service", MPI_INFO_NULL, port);
  MPI_Finalize();
  return 0;
}
