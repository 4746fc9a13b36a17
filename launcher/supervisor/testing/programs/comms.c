/* comms: communicators of every origin, checked by a sum over their ranks: dup, split,
   create_group, and create_from_group in a session.  Rank 0 prints the total. */
#include <mpi.h>
#include <stdio.h>

static int world_rank;

static int add_up(MPI_Comm comm) {
  int sum = 0;
  MPI_Allreduce(&world_rank, &sum, 1, MPI_INT, MPI_SUM, comm);
  return sum;
}

static int from_session(void) {
  MPI_Session session;
  MPI_Group group;
  MPI_Comm comm;
  MPI_Session_init(MPI_INFO_NULL, MPI_ERRORS_ARE_FATAL, &session);
  MPI_Group_from_session_pset(session, "mpi://WORLD", &group);
  MPI_Comm_create_from_group(group, "comms", MPI_INFO_NULL, MPI_ERRORS_ARE_FATAL, &comm);
  const int sum = add_up(comm);
  MPI_Comm_free(&comm);
  MPI_Group_free(&group);
  MPI_Session_finalize(&session);
  return sum;
}

int main(int argc, char** argv) {
  int size, total = 0;
  MPI_Group world;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Comm_group(MPI_COMM_WORLD, &world);
  for (int i = 0; i < 30; i++) {
    MPI_Comm comm;
    if (i % 2)
      MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    else
      MPI_Comm_split(MPI_COMM_WORLD, world_rank % 2, 0, &comm);
    total += add_up(comm);
    MPI_Comm_free(&comm);
  }
  for (int i = 0; i < 5; i++) {
    MPI_Group part;
    MPI_Comm comm;
    int range[1][3] = {{world_rank % 2, size - 1, 2}}; /* all of the same parity */
    MPI_Group_range_incl(world, 1, range, &part);
    MPI_Comm_create_group(MPI_COMM_WORLD, part, i, &comm);
    total += add_up(comm);
    MPI_Comm_free(&comm);
    MPI_Group_free(&part);
    total += from_session();
  }
  if (world_rank == 0) printf("total %d\n", total);
  MPI_Group_free(&world);
  MPI_Finalize();
  return 0;
}
