/* spawn: asks for one more process, which is refused. */
#include <mpi.h>
#include <stdio.h>

int main(int argc, char** argv) {
  MPI_Comm child;
  MPI_Init(&argc, &argv);
  MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
  const int rc =
      MPI_Comm_spawn("true", MPI_ARGV_NULL, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &child, NULL);
  printf("%s\n", rc == MPI_SUCCESS ? "spawned" : "refused");
  MPI_Finalize();
  return 0;
}
