/* writer PREFIX STEPS MS: every rank writes two files of its own while it runs: PREFIX.<rank>.data,
   open for writing throughout, with a head that is rewritten in place at every step and blocks that
   are added behind; and PREFIX.<rank>.log, opened to append.  At the end both are read back and
   summed up. */
#include <fcntl.h>
#include <mpi.h>
#include <string.h>

#include "program.h"

static void must(int ok, const char* what) {
  if (ok) return;
  perror(what);
  MPI_Abort(MPI_COMM_WORLD, 3);
}

static uint64_t sum_of(const char* path, long* bytes) {
  FILE* file = fopen(path, "rb");
  must(file != NULL, path);
  uint64_t sum = 14695981039346656037u;
  for (int c; (c = getc(file)) != EOF; ++*bytes) sum = (sum ^ (uint64_t)c) * 1099511628211u;
  fclose(file);
  return sum;
}

int main(int argc, char** argv) {
  int rank, ranks;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (argc != 4) return 2;
  const int steps = atoi(argv[2]);
  char data_path[4096], log_path[4096], text[64];
  snprintf(data_path, sizeof data_path, "%s.%d.data", argv[1], rank);
  snprintf(log_path, sizeof log_path, "%s.%d.log", argv[1], rank);
  const int data = open(data_path, O_RDWR | O_CREAT | O_TRUNC, 0644);
  must(data >= 0, data_path);
  const int log = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
  must(log >= 0, log_path);

  for (int step = 1; step <= steps; step++) {
    uint64_t block[512] = {(uint64_t)step};
    must(pwrite(data, block, 64, 0) == 64, "rewriting the head");
    for (int i = 0; i < 512; i++)
      block[i] = scatter((uint64_t)(step * 1000 + i) ^ (uint64_t)rank << 48);
    must(lseek(data, 0, SEEK_END) >= 0, "going to the end");
    must(write(data, block, sizeof block) == (ssize_t)sizeof block, "adding a block");
    const int length = snprintf(text, sizeof text, "step %d of rank %d\n", step, rank);
    must(write(log, text, (size_t)length) == length, "adding a line");
    must(fsync(data) == 0 && fsync(log) == 0, "fsync");
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) SAY("step %d\n", step);
    rest_ms(atol(argv[3]));
  }
  long bytes = 0;
  uint64_t sum = sum_of(data_path, &bytes) + 3 * sum_of(log_path, &bytes), all = 0;
  long all_bytes = 0;
  MPI_Reduce(&sum, &all, 1, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
  MPI_Reduce(&bytes, &all_bytes, 1, MPI_LONG, MPI_SUM, 0, MPI_COMM_WORLD);
  if (rank == 0)
    SAY("%d files, %ld bytes, sum %016llx\n", 2 * ranks, all_bytes, (unsigned long long)all);
  MPI_Finalize();
  return 0;
}
