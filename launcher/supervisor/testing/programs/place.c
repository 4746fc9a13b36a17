/* place: each rank says where MPI and the environment think it is, and with how many. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static const char* of(const char* name) {
  const char* value = getenv(name);
  return value ? value : "-";
}

int main(int argc, char** argv) {
  int rank, size, near_rank, near_size, length, *universe, found;
  char node[MPI_MAX_PROCESSOR_NAME];
  MPI_Comm near;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &near);
  MPI_Comm_rank(near, &near_rank);
  MPI_Comm_size(near, &near_size);
  MPI_Get_processor_name(node, &length);
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_UNIVERSE_SIZE, &universe, &found);
  printf("%d/%d %d/%d on %s, told %s/%s %s/%s, universe %d\n", rank, size, near_rank, near_size,
         node, of("OMPI_COMM_WORLD_RANK"), of("OMPI_COMM_WORLD_SIZE"),
         of("OMPI_COMM_WORLD_LOCAL_RANK"), of("OMPI_COMM_WORLD_LOCAL_SIZE"),
         found ? *universe : -1);
  MPI_Comm_free(&near);
  MPI_Finalize();
  return 0;
}
