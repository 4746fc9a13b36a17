/* flip.so, for LD_PRELOAD: a disk that loses a bit.  While the file named by STILLPOINT_FAULT_FLIP
   exists, one bit of every large write to a "*.tentative" file is flipped on its way.  Whatever
   else is written stays as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { kLeast = 1024 };

static int hit(int fd, size_t count) {
  static const char ending[] = ".tentative";
  const char* while_exists = getenv("STILLPOINT_FAULT_FLIP");
  char link[64], path[4096];
  if (count < kLeast || !while_exists || access(while_exists, F_OK) != 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < (ssize_t)sizeof ending) return 0;
  path[length] = 0;
  return strcmp(path + length - (sizeof ending - 1), ending) == 0;
}

static void* flipped(const void* data, size_t count) {
  unsigned char* copy = malloc(count);
  if (!copy) abort();
  memcpy(copy, data, count);
  copy[count / 2] ^= 0x10;
  return copy;
}

typedef ssize_t (*write_function)(int, const void*, size_t);
typedef ssize_t (*pwrite_function)(int, const void*, size_t, off_t);

ssize_t write(int fd, const void* data, size_t count) {
  static write_function real;
  if (!real) real = (write_function)dlsym(RTLD_NEXT, "write");
  if (!hit(fd, count)) return real(fd, data, count);
  void* copy = flipped(data, count);
  const ssize_t written = real(fd, copy, count);
  free(copy);
  return written;
}

static ssize_t pwrite_through(const char* name, pwrite_function* real, int fd, const void* data,
                              size_t count, off_t at) {
  if (!*real) *real = (pwrite_function)dlsym(RTLD_NEXT, name);
  if (!hit(fd, count)) return (*real)(fd, data, count, at);
  void* copy = flipped(data, count);
  const ssize_t written = (*real)(fd, copy, count, at);
  free(copy);
  return written;
}

ssize_t pwrite(int fd, const void* data, size_t count, off_t at) {
  static pwrite_function real;
  return pwrite_through("pwrite", &real, fd, data, count, at);
}

ssize_t pwrite64(int fd, const void* data, size_t count, off_t at) {
  static pwrite_function real;
  return pwrite_through("pwrite64", &real, fd, data, count, at);
}
