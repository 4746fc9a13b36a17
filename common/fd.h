// File descriptors that close themselves, and whole reads and writes.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "common/error.h"

namespace stillpoint {

// Owns a descriptor.  Errors of close() are ignored: whoever must know that data arrived calls
// fsync.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

struct Pipe {
  Fd read, write;
};
Result<Pipe> make_pipe();  // both ends close-on-exec

// open(2) with O_CLOEXEC added; the error names the path.
Result<Fd> open_file(const std::string& path, int flags, mode_t mode = 0666);
// The same relative to a directory, refusing symbolic links anywhere below it (openat2).
Result<Fd> open_beneath(int directory, const std::string& path, int flags, mode_t mode = 0600);

Result<> write_all(int fd, std::string_view bytes);
Result<> write_all_at(int fd, std::span<const std::byte> bytes, uint64_t offset);
// Exactly bytes.size() bytes from offset; kDamaged if the file ends before.
Result<> read_all_at(int fd, std::span<std::byte> bytes, uint64_t offset);
// To the end; kDamaged if there are more than limit bytes.
Result<std::string> read_to_end(int fd, size_t limit);
Result<std::string> read_file(const std::string& path, size_t limit = 16 << 20);
Result<> write_file(const std::string& path,
                    std::string_view content);  // existing file; for /proc and /sys

Result<> set_nonblocking(int fd, bool on);

}  // namespace stillpoint
