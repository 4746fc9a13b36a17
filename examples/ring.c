/* ring: every rank sends a large message to its right and to its left neighbour at the same time,
   and checks every byte of what it gets from them.  What a message holds follows from the
   iteration, its sender and its direction, so a message that is lost, doubled, late or altered is
   found.

   Standard output is the same for every run.  The bandwidth, which is not, goes to standard error.
 */
#include <getopt.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { kRight = 0, kLeft = 1 }; /* the way a message goes, also its tag */

static int iterations = 100, every = 10, delay_ms = 0;
static const char* slow_while = NULL;
static long bytes = 1 << 20;
static int rank, ranks;

static void usage(int status) {
  fprintf(status ? stderr : stdout,
          "usage: ring [--bytes N] [--iterations N] [--every N] [--delay MS] [--slow-while FILE]\n"
          "  --bytes       length of each message (1048576)\n"
          "  --iterations  messages each way (100)\n"
          "  --every       a line after so many iterations (10)\n"
          "  --delay       rest so long after every iteration\n"
          "  --slow-while  but only while this file exists\n");
  exit(status);
}

static long number(const char* text, long least, long most) {
  char* end;
  const long value = strtol(text, &end, 10);
  if (*text == 0 || *end != 0 || value < least || value > most) {
    fprintf(stderr, "ring: '%s' is not a number from %ld to %ld\n", text, least, most);
    exit(2);
  }
  return value;
}

static void options(int argc, char** argv) {
  static const struct option known[] = {
      {"bytes", 1, 0, 'b'}, {"iterations", 1, 0, 'i'}, {"every", 1, 0, 'e'},
      {"delay", 1, 0, 'd'}, {"slow-while", 1, 0, 'w'}, {"help", 0, 0, 'h'},
      {0, 0, 0, 0}};
  for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) switch (c) {
      case 'b':
        bytes = number(optarg, 1, 1 << 30);
        break;
      case 'i':
        iterations = (int)number(optarg, 0, 1000000000);
        break;
      case 'e':
        every = (int)number(optarg, 1, 1000000000);
        break;
      case 'd':
        delay_ms = (int)number(optarg, 0, 3600000);
        break;
      case 'w':
        slow_while = optarg;
        break;
      case 'h':
        usage(0);
        break;
      default:
        usage(2);
    }
  if (optind < argc) usage(2);
}

static unsigned char* allocate(void) {
  unsigned char* memory = malloc((size_t)bytes);
  if (!memory) {
    fprintf(stderr, "ring: rank %d has no memory for %ld bytes\n", rank, bytes);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  return memory;
}

/* The number `index` of the message that `from` sends in this iteration and direction (splitmix64).
 */
static uint64_t word(int iteration, int from, int direction, long index) {
  uint64_t x = ((uint64_t)iteration << 24 | (uint64_t)from << 1 | (uint64_t)direction) *
                   0x9e3779b97f4a7c15u +
               (uint64_t)index * 0xd1342543de82ef95u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

static void fill(unsigned char* message, int iteration, int direction) {
  for (long i = 0; i < bytes; i += 8) {
    const uint64_t w = word(iteration, rank, direction, i);
    memcpy(message + i, &w, (size_t)(bytes - i < 8 ? bytes - i : 8));
  }
}

/* Compares every byte with what the sender must have sent; adds the bytes to the checksum. */
static uint64_t check(const unsigned char* message, int iteration, int from, int direction) {
  uint64_t sum = 0;
  for (long i = 0; i < bytes; i += 8) {
    const size_t length = (size_t)(bytes - i < 8 ? bytes - i : 8);
    const uint64_t expected = word(iteration, from, direction, i);
    uint64_t got = 0;
    memcpy(&got, message + i, length);
    if (memcmp(&got, &expected, length)) {
      fprintf(stderr,
              "ring: iteration %d: rank %d got a wrong message from rank %d, first in bytes %ld to "
              "%ld\n",
              iteration, rank, from, i, i + (long)length - 1);
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
    sum += got;
  }
  return sum;
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  options(argc, argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  const int right = (rank + 1) % ranks, left = (rank + ranks - 1) % ranks;
  unsigned char *to_right = allocate(), *to_left = allocate(), *from_left = allocate(),
                *from_right = allocate();

  uint64_t mine = 0, all = 0;
  double busy = 0;
  for (int i = 1; i <= iterations; i++) {
    fill(to_right, i, kRight);
    fill(to_left, i, kLeft);
    const double start = MPI_Wtime();
    MPI_Request requests[4];
    MPI_Irecv(from_left, (int)bytes, MPI_BYTE, left, kRight, MPI_COMM_WORLD, &requests[0]);
    MPI_Irecv(from_right, (int)bytes, MPI_BYTE, right, kLeft, MPI_COMM_WORLD, &requests[1]);
    MPI_Isend(to_right, (int)bytes, MPI_BYTE, right, kRight, MPI_COMM_WORLD, &requests[2]);
    MPI_Isend(to_left, (int)bytes, MPI_BYTE, left, kLeft, MPI_COMM_WORLD, &requests[3]);
    MPI_Waitall(4, requests, MPI_STATUSES_IGNORE);
    busy += MPI_Wtime() - start;
    mine += check(from_left, i, left, kRight) + check(from_right, i, right, kLeft);
    if (i % every == 0 || i == iterations) {
      MPI_Allreduce(&mine, &all, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
      if (rank == 0) {
        printf("iteration %d checksum %016llx\n", i, (unsigned long long)all);
        fflush(stdout);
      }
    }
    if (delay_ms && (!slow_while || access(slow_while, F_OK) == 0)) {
      const struct timespec rest = {delay_ms / 1000, delay_ms % 1000 * 1000000L};
      nanosleep(&rest, NULL);
    }
  }

  const double moved = 2.0 * (double)bytes * iterations; /* out of each rank, and as much into it */
  if (rank == 0) {
    printf("ring: %d iterations, %.0f bytes checked, ok, checksum %016llx\n", iterations,
           moved * ranks, (unsigned long long)all);
    if (busy > 0) fprintf(stderr, "ring: %.1f MB/s out of each rank\n", moved / busy / 1e6);
  }
  free(to_right);
  free(to_left);
  free(from_left);
  free(from_right);
  MPI_Finalize();
  return 0;
}
