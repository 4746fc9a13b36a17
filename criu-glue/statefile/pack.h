// Packing CRIU's images into a statefile, and unpacking them again.  Both run in a worker that has
// become the job's user; image descriptors were opened by the agent (root), so that the user never
// gets at the images. Compression and digests run on several threads; HDF5 is called by one.
// Memory: at most 64 MiB whatever the size.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/fd.h"
#include "criu-glue/statefile/record.h"

namespace stillpoint::statefile {

using OnBytes =
    std::function<void(uint64_t)>;  // progress: image bytes done; called from several threads

struct ImageFile {
  std::string name;
  uint64_t size = 0;
  int fd = -1;  // not owned
};

struct PackOptions {
  int level = 1;         // zstd: 1 to 19
  unsigned threads = 0;  // 0: as many as processors; in any case no more than fit into the memory
};

// Writes `path` (O_EXCL), fsyncs and closes it.  Fills images, statefile_size and statefile_digest
// of the record; the rest of the record is written into the file for people (attributes, /ranks,
// /files, /mounts). `about` supplies job, step, epoch, versions for the attributes.  On failure the
// file is removed again and the record is as it was.
Result<> pack(const std::string& path, const Manifest& about, ContainerRecord& record,
              const std::vector<ImageFile>& images, const PackOptions& options,
              const OnBytes& on_bytes);

// Reads the file back and checks every byte: size and digest of the whole file, before HDF5 looks
// at it, then every chunk of every image (a chunk can be wrong in a file that is as it was
// written).  kDamaged names the file, or the file, the image and the chunk.  on_bytes counts image
// bytes.
Result<> verify(const std::string& path, const ContainerRecord& record, const OnBytes& on_bytes);

// Writes every image to the descriptor of the same index in `into` (files the agent has made, in
// the order of record.images; what is in them is lost).  Checks all that verify checks as it goes,
// so no verify is needed before.  It may run as a user who could change the file or this process:
// root checks with check_images.
Result<> unpack(const std::string& path, const ContainerRecord& record,
                const std::vector<int>& into, const OnBytes& on_bytes);

// Run by root after an unpack: the images are, byte for byte, those of the (signed) record.  Calls
// no HDF5.
Result<> check_images(const ContainerRecord& record, const std::vector<int>& images);

}  // namespace stillpoint::statefile
