// Staging: where CRIU's images lie between the dump and the statefile, and between the statefile
// and the restore.
//
// The images are trusted input of CRIU, which runs as root, so nobody else may be able to change,
// swap or read them: the directories are root's and closed, and so must be every directory above
// them (or sticky, as /dev/shm and /tmp are).
#pragma once

#include <string>
#include <vector>

#include "common/error.h"
#include "common/fd.h"
#include "criu-glue/statefile/pack.h"

namespace stillpoint::agent {

class Staging {
 public:
  // BASE/<job>, empty.  kPermission if BASE is not root's alone to change.
  static Result<Staging> create(const std::string& base, const std::string& job);
  Staging(Staging&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  Staging& operator=(Staging&&) = delete;
  ~Staging();  // removes it with all that it holds

  const std::string& path() const { return path_; }
  Result<std::string> make_directory(const std::string& name) const;  // empties one that is there
  void remove_directory(const std::string& name) const;
  uint64_t free_bytes() const;

 private:
  explicit Staging(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// The images in a directory: opened, with their sizes.  Descriptors are owned by `fds`.
struct OpenImages {
  std::vector<statefile::ImageFile> images;
  std::vector<Fd> fds;
  uint64_t bytes = 0;
};
Result<OpenImages> open_images(const std::string& directory);  // *.img, for reading
uint64_t image_bytes(const std::string& directory);            // so far: for a progress bar

}  // namespace stillpoint::agent
