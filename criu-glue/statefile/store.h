// A job's checkpoints in a directory of the user's (layout: common/paths.h).  A checkpoint is
// permanent once its manifest.h5 has its name; everything else is tentative and may be swept. Every
// call acts as the calling process's user: the agent calls from workers that have become the job's
// user.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/fd.h"

namespace stillpoint::statefile {

class Store {
 public:
  // The directory of one job: DIR/<job>.<step>.  Made (with its parents) if `create`.
  static Result<Store> open(const std::string& checkpoints, const std::string& job, uint32_t step,
                            bool create);
  // An existing job directory, whatever it is called.
  static Result<Store> open_existing(const std::string& job_directory);

  // The same, not looked at.
  static Store at(std::string job_directory);

  const std::string& directory() const { return directory_; }

  // Held by the agent while the job runs (flock; goes with the descriptor).  kBusy while another
  // holds it.
  Result<Fd> lock() const;

  std::vector<uint64_t> epochs() const;  // permanent ones, ascending
  Result<uint64_t> latest() const;       // newest permanent one (the link is for people); kNotFound
  Result<uint64_t> next_epoch() const;   // above everything that is there, permanent or not

  // A tentative epoch: its directory, empty.
  Result<std::string> begin(uint64_t epoch) const;
  std::string tentative_statefile(uint64_t epoch, uint32_t container) const;
  std::string statefile(uint64_t epoch, uint32_t container) const;
  std::string manifest(uint64_t epoch) const;

  // tentative statefile -> statefile.  After it was packed and verified.
  Result<> seal(uint64_t epoch, uint32_t container) const;
  // Writes the manifest under its tentative name, fsyncs, renames, fsyncs the directory: permanent
  // from here. Then moves `latest`.
  Result<> commit(uint64_t epoch, const std::string& manifest_bytes) const;
  // Removes a tentative epoch.  Nothing happens to a permanent one.
  Result<> abort(uint64_t epoch) const;
  // Removes all tentative epochs and files (of a run that died).  Says how many.
  Result<unsigned> sweep() const;
  // Removes the oldest permanent ones beyond `keep` (0: keep all), never the newest.
  Result<> prune(unsigned keep) const;

 private:
  std::string directory_;
};

// What a user may name on a command line, resolved: a manifest, an epoch's directory, a job's
// directory (newest epoch), or a job's name below `checkpoints` (newest run of that name).
struct CheckpointPlace {
  std::string job_directory;
  uint64_t epoch = 0;
};
Result<CheckpointPlace> resolve_checkpoint(const std::string& named,
                                           const std::string& checkpoints);

}  // namespace stillpoint::statefile
