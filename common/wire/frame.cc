#include "common/wire/frame.h"

namespace stillpoint::wire {

namespace {
constexpr size_t kHead = 4;
}

std::string frame(std::string_view payload) {
  const auto size = static_cast<uint32_t>(payload.size());
  std::string out;
  out.reserve(kHead + payload.size());
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(size >> shift & 0xff);
  return out.append(payload);
}

Result<std::optional<std::string>> FrameReader::next() {
  if (buffer_.size() < kHead) return std::nullopt;
  uint32_t size = 0;
  for (size_t i = 0; i < kHead; i++)
    size |= static_cast<uint32_t>(static_cast<unsigned char>(buffer_[i])) << (8 * i);
  if (size > most_bytes_)
    return fail(ErrorKind::kProtocol, "a frame of " + std::to_string(size) + " bytes, at most " +
                                          std::to_string(most_bytes_) + " are allowed");
  if (buffer_.size() < kHead + size) return std::nullopt;
  std::string payload = buffer_.substr(kHead, size);
  buffer_.erase(0, kHead + size);
  return payload;
}

}  // namespace stillpoint::wire
