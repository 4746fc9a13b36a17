// Writes a statefile: the HDF5 side of packing.  One thread only.
//
//   create, then for each image begin_image, put_chunk in order, end_image; then describe; then
//   finish.
//
// Whatever is destroyed unfinished is removed.
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

class StatefileWriter {
 public:
  static Result<StatefileWriter> create(const std::string& path, int level);
  StatefileWriter(StatefileWriter&&) = default;
  ~StatefileWriter();

  Result<> begin_image(const std::string& name, uint64_t size);
  // A whole zstd frame, or nothing for a chunk of zeros.
  Result<> put_chunk(std::span<const std::byte> frame, const Digest& digest);
  Result<Digest> end_image();

  // The record for people: attributes, /ranks, /files, /mounts.
  Result<> describe(const Manifest& about, const ContainerRecord& record);
  // Closes and fsyncs it; then size and digest of the whole file go into the record.
  Result<> finish(ContainerRecord& record);

 private:
  StatefileWriter(std::string path, int level, Fd fd)
      : path_(std::move(path)), level_(level), fd_(std::move(fd)) {}
  Result<> flush_checksums();
  Error failed(const std::string& what) const;
  Id make_image_dataset(const std::string& name, uint64_t size) const;

  std::string path_;
  int level_;
  Fd fd_;    // of our own beside HDF5's: for fsync and the digest
  Id file_;  // closed in reverse: what follows is in this file
  Id images_, checksums_, dataset_, rows_;
  std::string image_;
  uint64_t next_chunk_ = 0, rows_written_ = 0;
  std::vector<Digest> pending_;  // checksums that are not written yet
  ImageDigest digest_{0};
};

}  // namespace stillpoint::statefile
