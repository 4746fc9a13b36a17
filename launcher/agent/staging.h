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
#include "common/worker.h"
#include "criu-glue/statefile/pack.h"

namespace stillpoint::agent {

class Staging {
 public:
  // BASE/<job>, empty.  kPermission if BASE is not root's alone to change.
  static Result<Staging> create(const std::string& base, const std::string& job);
  Staging(Staging&& other) noexcept
      : path_(std::exchange(other.path_, {})),
        removals_(std::move(other.removals_)),
        removed_(other.removed_) {}
  Staging& operator=(Staging&&) = delete;
  ~Staging();  // removes it with all that it holds

  const std::string& path() const { return path_; }
  // Empties one that is there, and waits for the removals under way: their room is needed.
  Result<std::string> make_directory(const std::string& name);
  // At once out of the way, freed by a worker: giving a gigabyte back takes the kernel 0.2 s.
  void remove_directory(const std::string& name);
  uint64_t free_bytes() const;

 private:
  explicit Staging(std::string path) : path_(std::move(path)) {}
  void await_removals();
  std::string path_;
  std::vector<Worker> removals_;
  unsigned removed_ = 0;  // so far; names what is being removed
};

// Takes so much memory in a staging directory on tmpfs and gives it back, so that the pages that a
// dump will fill a moment later are at hand: never used memory of a virtual machine, in particular,
// comes slowly, and the job would stand still for that.  (Measured: a dump of 1 GiB took 3.7 s
// into untouched memory, 0.7 to 0.9 s into memory in use before, after this 0.9 to 1.3 s and once
// 2.7 s.)  The kernel keeps some of what is freed on a list of the processor that freed it, up to
// pcp->high_max, and CRIU does not get that part while it runs on another.  For a worker; as good
// as it can, without failing.
void warm_up(const std::string& directory, uint64_t bytes);

// The images in a directory: opened, with their sizes.  Descriptors are owned by `fds`.
struct OpenImages {
  std::vector<statefile::ImageFile> images;
  std::vector<Fd> fds;
  uint64_t bytes = 0;
};
Result<OpenImages> open_images(const std::string& directory);  // *.img, for reading
uint64_t image_bytes(const std::string& directory);            // so far: for a progress bar

}  // namespace stillpoint::agent
