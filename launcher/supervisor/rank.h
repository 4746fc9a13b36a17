// Starting the process of one rank.
//
// The supervisor has other threads (PMIx's), so between fork and exec the child makes
// async-signal-safe calls only: everything that it needs is prepared before.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "common/deadline.h"
#include "common/error.h"
#include "common/fd.h"
#include "launcher/supervisor/environment.h"

namespace stillpoint::supervisor {

struct RankSpec {
  std::vector<std::string> argv;  // argv[0] without '/': looked up on PATH of env
  Environment env;
  std::string directory;     // absolute
  bool wants_input = false;  // else its standard input is /dev/null
  std::optional<mode_t> umask;
  std::optional<rlimit> descriptors;  // RLIMIT_NOFILE, where the caller has changed its own
};

// The process leads a process group of its own.  Our ends of its pipes do not block.
struct RankProcess {
  pid_t pid = 0;
  Fd in;  // only if it wants input
  Fd out, err;
};

// Returns once the program runs (exec has happened).  What the shell would call 127 and 126 are
// kNoSuchProgram and kNotExecutable, with a line such as "cannot run ./nosuch in /home/x: No such
// file or directory"; kTimeout if exec has not happened by the deadline (a file server that hangs):
// the child is killed then.
Result<RankProcess> start_rank(const RankSpec& spec, Deadline deadline);

// The paths that are tried for a program, in order: itself if it has a '/', else one for each
// directory of PATH (an empty one is the working directory).
std::vector<std::string> program_candidates(const std::string& program, const Environment& env);

}  // namespace stillpoint::supervisor
