// Memory of a fixed size for one thread or slot, not initialized.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace stillpoint::statefile {

class Buffer {
 public:
  explicit Buffer(size_t size)
      : bytes_(std::make_unique_for_overwrite<std::byte[]>(size)), size_(size) {}
  std::byte* data() const { return bytes_.get(); }
  size_t size() const { return size_; }
  std::span<std::byte> first(size_t count) const { return {bytes_.get(), count}; }
  std::span<std::byte> all() const { return {bytes_.get(), size_}; }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  size_t size_;
};

}  // namespace stillpoint::statefile
