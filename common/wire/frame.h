// Frames on a stream: a 32-bit little-endian length, then that many bytes (one Protobuf message).
// The only framing of the project.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/error.h"

namespace stillpoint::wire {

inline constexpr size_t kMostFrameBytes = 4 << 20;

std::string frame(std::string_view payload);

// Cuts a stream into frames.  Memory is bounded by one frame and what was fed beyond it.
class FrameReader {
 public:
  explicit FrameReader(size_t most_bytes = kMostFrameBytes) : most_bytes_(most_bytes) {}
  void feed(std::string_view bytes) { buffer_.append(bytes); }
  // The next whole frame's payload; empty optional: not all of it is there yet; kProtocol: longer
  // than allowed (the stream is of no more use).
  Result<std::optional<std::string>> next();

 private:
  size_t most_bytes_;
  std::string buffer_;
};

}  // namespace stillpoint::wire
