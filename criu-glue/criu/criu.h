// CRIU behind one small interface.  Calls block; the agent makes them in a worker.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"

namespace stillpoint::criu {

// A mount that belongs to the node: CRIU is told its key at the dump, and what to bind there at the restore.
struct ExternalMount {
  std::string destination;  // inside the container; the key is made from it
};

struct DumpRequest {
  pid_t init = 0;                  // the container's pid 1, as seen from here
  std::string images;              // directory for the images and dump.log; exists
  std::string freeze_cgroup;       // frozen already, and frozen again when the dump returns
  uint64_t network_inode = 0;      // the container's network namespace: external
  std::string network_key;
  std::vector<ExternalMount> mounts;
};

struct RestoreRequest {
  std::string images;
  std::string root;                // private bind of "/", in the caller's mount namespace
  int network = -1;                // the namespace to restore into
  std::string network_key;
  std::vector<ExternalMount> mounts;  // source and destination are the same path of the node
  // Called when everything is restored and still stopped: an error ends the restore, with all restored processes.
  std::function<Result<>(pid_t init)> before_resume;
};

struct Version {
  int major = 0, minor = 0, sublevel = 0;
  std::string text() const;
  auto operator<=>(const Version&) const = default;
};

class Criu {
 public:
  virtual ~Criu() = default;
  virtual Result<Version> version() = 0;
  // The processes run on (frozen, if their cgroup is).  On failure the error holds CRIU's own error
  // lines and, where known, their usual cause (explain.h).
  virtual Result<> dump(const DumpRequest& request) = 0;
  // The pid of the restored pid 1 as seen from here.  It is a child of CRIU's parent, the calling process.
  // Run from inside the cgroup that is to hold the container.
  virtual Result<pid_t> restore(const RestoreRequest& request) = 0;
};

std::unique_ptr<Criu> make_criu();  // through libcriu

}  // namespace stillpoint::criu
