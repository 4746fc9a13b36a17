/* heat2d: the temperature of a square plate, by Jacobi's iteration.

   The plate has size x size cells.  Its upper edge is kept at 1, the other edges at 0, and a disc
   in the middle is heated.  Every iteration replaces a cell by the mean of its four neighbours. The
   cells are dealt out to the ranks in rectangles; each rank keeps a frame of its neighbours' cells
   around its own (the halo), refreshed by messages before every iteration.

   What is printed does not depend on the number of ranks, to the last bit: the residual is a
   maximum, and the checksum is a sum of integers, one for each cell. */
#include <getopt.h>
#include <math.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int size = 256, iterations = 1000, every = 100, delay_ms = 0, memory_mb = 0;
static const char *picture = NULL, *slow_while = NULL;

static MPI_Comm plate; /* the ranks, arranged as a grid */
static int rank, ranks, grid[2], at[2];
static int first[2], cells[2]; /* this rank's rectangle: rows and columns */
static double *now, *next;     /* (cells[0] + 2) x (cells[1] + 2): with the halo */

#define CELL(field, row, column) \
  ((field)[(size_t)(row) * (size_t)(cells[1] + 2) + (size_t)(column)])

static void usage(int status) {
  fprintf(
      status ? stderr : stdout,
      "usage: heat2d [--size CELLS] [--iterations N] [--every N] [--picture FILE.pgm]\n"
      "              [--delay MS] [--slow-while FILE] [--memory MB]\n"
      "  --size        the plate has CELLS x CELLS cells (256)\n"
      "  --iterations  how many to compute (1000)\n"
      "  --every       a line after so many iterations (100)\n"
      "  --picture     write the temperatures as a grey picture at the end\n"
      "  --delay       rest so long after every iteration, to have something to watch\n"
      "  --slow-while  but only while this file exists\n"
      "  --memory      use so much more memory in every rank; its content is checked at the end\n");
  exit(status);
}

static int number(const char* text, int least) {
  char* end;
  const long value = strtol(text, &end, 10);
  if (*text == 0 || *end != 0 || value < least || value > 1000000000) {
    fprintf(stderr, "heat2d: '%s' is not a number from %d to 1000000000\n", text, least);
    exit(2);
  }
  return (int)value;
}

static void options(int argc, char** argv) {
  static const struct option known[] = {
      {"size", 1, 0, 's'},    {"iterations", 1, 0, 'i'}, {"every", 1, 0, 'e'},
      {"picture", 1, 0, 'p'}, {"delay", 1, 0, 'd'},      {"slow-while", 1, 0, 'w'},
      {"memory", 1, 0, 'm'},  {"help", 0, 0, 'h'},       {0, 0, 0, 0}};
  for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) switch (c) {
      case 's':
        size = number(optarg, 1);
        break;
      case 'i':
        iterations = number(optarg, 0);
        break;
      case 'e':
        every = number(optarg, 1);
        break;
      case 'p':
        picture = optarg;
        break;
      case 'd':
        delay_ms = number(optarg, 0);
        break;
      case 'w':
        slow_while = optarg;
        break;
      case 'm':
        memory_mb = number(optarg, 0);
        break;
      case 'h':
        usage(0);
        break;
      default:
        usage(2);
    }
  if (optind < argc) usage(2);
}

static void* allocate(size_t count, size_t each) {
  void* memory = calloc(count ? count : 1, each);
  if (!memory) {
    fprintf(stderr, "heat2d: rank %d has no memory for %zu bytes\n", rank, count * each);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  return memory;
}

/* Scatters the bits of x: neighbouring numbers give unrelated ones (the finalizer of splitmix64).
 */
static uint64_t scatter(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/* Row 0 of the plate's own frame is the hot edge; a disc around the middle is heated. */
static int heated(int row, int column) {
  const double y = row + 0.5 - size / 2.0, x = column + 0.5 - size / 2.0;
  return x * x + y * y < size * (size / 100.0);
}

static void deal_out(void) {
  const int open[2] = {0, 0};
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  MPI_Dims_create(ranks, 2, grid);
  MPI_Cart_create(MPI_COMM_WORLD, 2, grid, open, 0, &plate);
  MPI_Comm_rank(plate, &rank);
  MPI_Cart_coords(plate, rank, 2, at);
  for (int d = 0; d < 2; d++) {
    first[d] = (int)((int64_t)size * at[d] / grid[d]);
    cells[d] = (int)((int64_t)size * (at[d] + 1) / grid[d]) - first[d];
  }
  const size_t count = (size_t)(cells[0] + 2) * (size_t)(cells[1] + 2);
  now = allocate(count, sizeof *now);
  next = allocate(count, sizeof *next);
  for (int r = 0; r < cells[0] + 2; r++)
    for (int c = 0; c < cells[1] + 2; c++)
      CELL(now, r, c) = CELL(next, r, c) =
          first[0] + r == 0 || heated(first[0] + r - 1, first[1] + c - 1);
}

/* Every side's outermost cells go to the neighbour there; at the plate's edge there is none
 * (MPI_PROC_NULL). */
static void exchange_halo(MPI_Datatype column) {
  int up, down, left, right;
  MPI_Cart_shift(plate, 0, 1, &up, &down);
  MPI_Cart_shift(plate, 1, 1, &left, &right);
  MPI_Sendrecv(&CELL(now, 1, 1), cells[1], MPI_DOUBLE, up, 0, &CELL(now, cells[0] + 1, 1), cells[1],
               MPI_DOUBLE, down, 0, plate, MPI_STATUS_IGNORE);
  MPI_Sendrecv(&CELL(now, cells[0], 1), cells[1], MPI_DOUBLE, down, 1, &CELL(now, 0, 1), cells[1],
               MPI_DOUBLE, up, 1, plate, MPI_STATUS_IGNORE);
  MPI_Sendrecv(&CELL(now, 1, 1), 1, column, left, 2, &CELL(now, 1, cells[1] + 1), 1, column, right,
               2, plate, MPI_STATUS_IGNORE);
  MPI_Sendrecv(&CELL(now, 1, cells[1]), 1, column, right, 3, &CELL(now, 1, 0), 1, column, left, 3,
               plate, MPI_STATUS_IGNORE);
}

/* One iteration; returns the largest change of a cell of this rank. */
static double iterate(void) {
  double change = 0;
  for (int r = 1; r <= cells[0]; r++)
    for (int c = 1; c <= cells[1]; c++) {
      const double before = CELL(now, r, c);
      const double after = heated(first[0] + r - 1, first[1] + c - 1)
                               ? 1.0
                               : 0.25 * (CELL(now, r - 1, c) + CELL(now, r + 1, c) +
                                         CELL(now, r, c - 1) + CELL(now, r, c + 1));
      CELL(next, r, c) = after;
      change = fmax(change, fabs(after - before));
    }
  double* swap = now;
  now = next;
  next = swap;
  return change;
}

static uint64_t checksum(void) {
  uint64_t mine = 0, all = 0;
  for (int r = 1; r <= cells[0]; r++)
    for (int c = 1; c <= cells[1]; c++) {
      uint64_t bits;
      memcpy(&bits, &CELL(now, r, c), sizeof bits);
      mine += scatter(
          bits + scatter((uint64_t)(first[0] + r) * (uint64_t)size + (uint64_t)(first[1] + c)));
    }
  MPI_Allreduce(&mine, &all, 1, MPI_UINT64_T, MPI_SUM, plate);
  return all;
}

/* Rank 0 collects the rectangles one after the other and writes them where they belong. */
static int write_picture(void) {
  const size_t count = (size_t)cells[0] * (size_t)cells[1];
  unsigned char* grey = allocate(count, 1);
  for (int r = 0; r < cells[0]; r++)
    for (int c = 0; c < cells[1]; c++)
      grey[(size_t)r * (size_t)cells[1] + (size_t)c] =
          (unsigned char)(CELL(now, r + 1, c + 1) * 255.0 + 0.5);
  const int mine[4] = {first[0], first[1], cells[0], cells[1]};
  int bad = 0;
  if (rank != 0) {
    MPI_Send(mine, 4, MPI_INT, 0, 4, plate);
    MPI_Send(grey, (int)count, MPI_BYTE, 0, 5, plate);
  } else {
    unsigned char* all = allocate((size_t)size * (size_t)size, 1);
    for (int from = 0; from < ranks; from++) {
      int box[4];
      memcpy(box, mine, sizeof box);
      unsigned char* part = grey;
      if (from) {
        MPI_Recv(box, 4, MPI_INT, from, 4, plate, MPI_STATUS_IGNORE);
        part = allocate((size_t)box[2] * (size_t)box[3], 1);
        MPI_Recv(part, box[2] * box[3], MPI_BYTE, from, 5, plate, MPI_STATUS_IGNORE);
      }
      for (int r = 0; r < box[2]; r++)
        memcpy(all + (size_t)(box[0] + r) * (size_t)size + box[1],
               part + (size_t)r * (size_t)box[3], (size_t)box[3]);
      if (from) free(part);
    }
    FILE* file = fopen(picture, "wb");
    bad = !file || fprintf(file, "P5\n%d %d\n255\n", size, size) < 0 ||
          fwrite(all, (size_t)size, (size_t)size, file) != (size_t)size;
    if (file && fclose(file)) bad = 1;
    if (bad) perror(picture);
    free(all);
  }
  free(grey);
  MPI_Bcast(&bad, 1, MPI_INT, 0, plate);
  return bad;
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  options(argc, argv);
  deal_out();
  const size_t words = (size_t)memory_mb * (1 << 20) / sizeof(uint64_t);
  uint64_t* ballast = allocate(words, sizeof *ballast);
  for (size_t i = 0; i < words; i++) ballast[i] = scatter(i + (uint64_t)rank * words) >> 32;

  MPI_Datatype column;
  MPI_Type_vector(cells[0], 1, cells[1] + 2, MPI_DOUBLE, &column);
  MPI_Type_commit(&column);
  for (int i = 1; i <= iterations; i++) {
    exchange_halo(column);
    const double change = iterate();
    if (i % every == 0 || i == iterations) {
      double residual;
      MPI_Allreduce(&change, &residual, 1, MPI_DOUBLE, MPI_MAX, plate);
      const uint64_t sum = checksum();
      if (rank == 0) {
        printf("iteration %d residual %.6e checksum %016llx\n", i, residual,
               (unsigned long long)sum);
        fflush(stdout);
      }
    }
    if (delay_ms && (!slow_while || access(slow_while, F_OK) == 0)) {
      const struct timespec rest = {delay_ms / 1000, delay_ms % 1000 * 1000000L};
      nanosleep(&rest, NULL);
    }
  }
  MPI_Type_free(&column);

  int bad = 0;
  for (size_t i = 0; i < words; i++) bad |= ballast[i] != scatter(i + (uint64_t)rank * words) >> 32;
  if (bad) fprintf(stderr, "heat2d: the additional memory of rank %d has changed\n", rank);
  if (picture) bad |= write_picture();
  const uint64_t sum = checksum();
  if (rank == 0)
    printf("heat2d: %d x %d cells, %d iterations, result %016llx\n", size, size, iterations,
           (unsigned long long)sum);
  free(ballast);
  free(now);
  free(next);
  MPI_Finalize();
  return bad;
}
