// BLAKE3, and how an image's digest is made from those of its chunks.
#pragma once

#include <blake3.h>

#include <cstddef>
#include <span>
#include <string_view>

#include "common/error.h"
#include "criu-glue/statefile/names.h"
#include "criu-glue/statefile/record.h"

namespace stillpoint::statefile {

class Hasher {
 public:
  Hasher() { blake3_hasher_init(&state_); }
  explicit Hasher(const std::array<uint8_t, 32>& key) {
    blake3_hasher_init_keyed(&state_, key.data());
  }
  void add(std::span<const std::byte> bytes) {
    blake3_hasher_update(&state_, bytes.data(), bytes.size());
  }
  void add(std::string_view text) { blake3_hasher_update(&state_, text.data(), text.size()); }
  Digest digest() const {
    Digest digest;
    blake3_hasher_finalize(&state_, digest.data(), digest.size());
    return digest;
  }

 private:
  blake3_hasher state_;
};

Digest digest_of(std::span<const std::byte> bytes);
Digest digest_of_zeros(size_t size);
bool same(const Digest& a, const Digest& b);  // in constant time

// Chunks of an image of `size` bytes, and the bytes of its chunk `index`.
inline uint64_t chunk_count(uint64_t size) {
  return size / names::kChunk + (size % names::kChunk != 0);
}
inline size_t chunk_bytes(uint64_t size, uint64_t index) {
  const uint64_t left = size - index * names::kChunk;
  return left < names::kChunk ? static_cast<size_t>(left) : names::kChunk;
}

// The digest of an image: BLAKE3 over its size (64 bits, little-endian) and its chunks' digests in
// order.
class ImageDigest {
 public:
  explicit ImageDigest(uint64_t size);
  void add(const Digest& chunk) { hasher_.add(std::as_bytes(std::span(chunk))); }
  Digest digest() const { return hasher_.digest(); }

 private:
  Hasher hasher_;
};

// BLAKE3 of the first `size` bytes of a file; kDamaged if it has fewer or more.
Result<Digest> digest_of_file(int fd, uint64_t size);

bool all_zero(std::span<const std::byte> bytes);

}  // namespace stillpoint::statefile
