// Reads a statefile: the HDF5 side of unpacking.  One thread only.  Nothing in the file is
// believed: what it says has to be what the record says, and sizes are compared before anything is
// read.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/fd.h"
#include "criu-glue/statefile/digest.h"
#include "criu-glue/statefile/hdf5.h"
#include "criu-glue/statefile/record.h"

namespace stillpoint::statefile {

class StatefileReader {
 public:
  // Checks size and digest of the whole file before HDF5 looks at it.
  static Result<StatefileReader> open(const std::string& path, const ContainerRecord& record);

  // Also ends the image before: kDamaged if the checksums of that one do not make up its digest.
  Result<> begin_image(const ImageRecord& image);
  Result<> end_image();
  // The next chunk as it is stored: bytes read into `frame` (max_frame() bytes), or 0 for a chunk
  // that is all zeros and so is not stored; and the digest that its content must have.
  Result<size_t> next_chunk(std::span<std::byte> frame, Digest& digest);

  static size_t max_frame();

  // Nobody will read the file again soon: the kernel may forget it.
  void uncache() const;

 private:
  StatefileReader(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  Result<> open_image_dataset(const ImageRecord& image);
  Result<> open_checksums(const ImageRecord& image);
  Result<> read_checksums();
  Result<size_t> read_chunk(uint64_t index, std::span<std::byte> frame);
  std::unexpected<Error> damaged(const std::string& why) const;
  std::unexpected<Error> failed(const std::string& doing) const;

  std::string path_;
  Fd fd_;    // of our own: HDF5 opens the same file through it
  Id file_;  // closed in reverse
  Id dataset_, rows_;
  const ImageRecord* image_ = nullptr;
  uint64_t next_chunk_ = 0, rows_read_ = 0;
  std::vector<Digest> ahead_;  // checksums of the chunks up to rows_read_
  ImageDigest digest_{0};
  const Digest zeros_ = digest_of_zeros(names::kChunk);
};

}  // namespace stillpoint::statefile
