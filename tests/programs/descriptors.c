/* descriptors WHAT FILE: opens something, holds it until FILE exists, says so and ends.  WHAT:
   "io_uring", which CRIU cannot dump; or what it can: "pipe", "socketpair", "eventfd", "epoll",
   "timerfd", "unlinked", "memfd". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <mpi.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "program.h"

static int open_it(const char* what, int* other) {
  int pair[2] = {-1, -1};
  if (strcmp(what, "io_uring") == 0) {
    char parameters[256] = {0}; /* struct io_uring_params is 120 bytes; zero is the default */
    return (int)syscall(SYS_io_uring_setup, 4, parameters);
  }
  if (strcmp(what, "eventfd") == 0) return eventfd(7, 0);
  if (strcmp(what, "epoll") == 0) return epoll_create1(0);
  if (strcmp(what, "timerfd") == 0) return timerfd_create(CLOCK_MONOTONIC, 0);
  if (strcmp(what, "memfd") == 0) return memfd_create("held", 0);
  if (strcmp(what, "unlinked") == 0) {
    const int fd = open("unlinked", O_RDWR | O_CREAT | O_EXCL, 0600);
    unlink("unlinked");
    return fd;
  }
  if (strcmp(what, "pipe") == 0 && pipe(pair) != 0) return -1;
  if (strcmp(what, "socketpair") == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return -1;
  *other = pair[1];
  return pair[0];
}

/* Content that must survive: 5 bytes in whatever can hold them, a count in the eventfd. */
static int put(const char* what, int fd, int other) {
  if (strcmp(what, "pipe") == 0 || strcmp(what, "socketpair") == 0)
    return write(other, "hello", 5) == 5;
  if (strcmp(what, "unlinked") == 0 || strcmp(what, "memfd") == 0)
    return pwrite(fd, "hello", 5, 0) == 5;
  return 1;
}

static int get(const char* what, int fd) {
  char text[8] = {0};
  uint64_t count = 0;
  if (strcmp(what, "pipe") == 0 || strcmp(what, "socketpair") == 0)
    return read(fd, text, 5) == 5 && strcmp(text, "hello") == 0;
  if (strcmp(what, "unlinked") == 0 || strcmp(what, "memfd") == 0)
    return pread(fd, text, 5, 0) == 5 && strcmp(text, "hello") == 0;
  if (strcmp(what, "eventfd") == 0)
    return read(fd, &count, sizeof count) == sizeof count && count == 7;
  return fcntl(fd, F_GETFD) >= 0;
}

int main(int argc, char** argv) {
  int rank, other = -1;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (argc != 3) return 2;
  const int fd = rank == 0 ? open_it(argv[1], &other) : 0;
  if (fd < 0 || (rank == 0 && !put(argv[1], fd, other))) {
    perror(argv[1]);
    MPI_Abort(MPI_COMM_WORLD, 3);
  }
  if (rank == 0) SAY("holding %s\n", argv[1]);
  wait_for_file(argv[2]);
  const int ok = rank != 0 || get(argv[1], fd);
  if (rank == 0) SAY("%s %s\n", argv[1], ok ? "kept" : "lost");
  MPI_Finalize();
  return !ok;
}
