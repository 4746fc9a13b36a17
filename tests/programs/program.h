/* What the test programs share. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static inline void rest_ms(long ms) {
  const struct timespec rest = {ms / 1000, ms % 1000 * 1000000L};
  nanosleep(&rest, NULL);
}

static inline double monotonic(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Until `path` exists; the program ends with status 9 if it does not within two minutes. */
static inline void wait_for_file(const char* path) {
  const double end = monotonic() + 120;
  while (access(path, F_OK) != 0) {
    if (monotonic() > end) {
      fprintf(stderr, "waited two minutes for %s\n", path);
      exit(9);
    }
    rest_ms(10);
  }
}

static inline uint64_t scatter(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/* Prints a whole line at once. */
#define SAY(...) (printf(__VA_ARGS__), fflush(stdout))
