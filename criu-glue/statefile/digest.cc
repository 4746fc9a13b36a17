#include "criu-glue/statefile/digest.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/fd.h"
#include "criu-glue/statefile/text.h"

namespace stillpoint::statefile {

std::string to_hex(const Digest& digest) {
  return bytes_to_hex({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

Result<Digest> digest_from_hex(std::string_view hex) {
  const auto bytes = bytes_from_hex(hex);
  Digest digest;
  if (!bytes || bytes->size() != digest.size())
    return fail(ErrorKind::kDamaged, "not a digest of 64 hexadecimal digits");
  std::memcpy(digest.data(), bytes->data(), digest.size());
  return digest;
}

Digest digest_of(std::span<const std::byte> bytes) {
  Hasher hasher;
  hasher.add(bytes);
  return hasher.digest();
}

Digest digest_of_zeros(size_t size) {
  static constexpr std::array<std::byte, 64 << 10> kZeros{};
  Hasher hasher;
  for (size_t part; size > 0; size -= part) {
    part = std::min(size, kZeros.size());
    hasher.add(std::span(kZeros).first(part));
  }
  return hasher.digest();
}

bool same(const Digest& a, const Digest& b) {
  volatile uint8_t difference = 0;
  for (size_t i = 0; i < a.size(); ++i)
    difference = static_cast<uint8_t>(difference | (a[i] ^ b[i]));
  return difference == 0;
}

ImageDigest::ImageDigest(uint64_t size) {
  std::array<uint8_t, 8> bytes;
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(size >> (8 * i));
  hasher_.add(std::as_bytes(std::span(bytes)));
}

Result<Digest> digest_of_file(int fd, uint64_t size) {
  struct stat st{};
  if (::fstat(fd, &st) != 0) return fail_errno("fstat");
  if (static_cast<uint64_t>(st.st_size) != size)
    return fail(ErrorKind::kDamaged, "it has " + std::to_string(st.st_size) + " bytes instead of " +
                                         std::to_string(size));
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  Hasher hasher;
  std::vector<std::byte> buffer(256 << 10);  // stays in the processor's cache
  for (uint64_t at = 0; at < size; at += buffer.size()) {
    const auto part = std::span(buffer).first(std::min<uint64_t>(buffer.size(), size - at));
    if (auto r = read_all_at(fd, part, at); !r) return fail(r.error());
    hasher.add(part);
  }
  return hasher.digest();
}

bool all_zero(std::span<const std::byte> bytes) {
  if (bytes.empty()) return true;
  return bytes[0] == std::byte{0} &&
         std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

}  // namespace stillpoint::statefile
