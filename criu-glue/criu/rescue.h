// What is done when CRIU itself is killed or crashes in the middle of a dump.  The kernel then lets
// go of all the processes that CRIU traced, and they run: with their TCP connections in repair
// mode, where a send is an error. (33 of 34 jobs that talk over TCP did not survive that; without
// TCP 46 of 48 did: the code that CRIU puts into processes cleans up after itself when CRIU is
// gone.)
//
// So CRIU is held at its death: a keeper traces it with PTRACE_O_TRACEEXIT and freezes the
// processes before it lets CRIU go.  Then, nothing running, the connections are taken out of repair
// mode.  (54 of 57 survived then.)  Not handled: threads whose registers CRIU had set to run its
// own code at that moment; nobody knows the right ones any more.
#pragma once

#include <sys/types.h>

#include <string>

#include "common/error.h"
#include "common/process.h"

namespace stillpoint::criu {

// Starts the keeper, as a child of the calling process; it ends with CRIU.  Returns once it holds
// on to CRIU.
Result<Child> keep_at_death(pid_t criu, const std::string& cgroup);

// Of the processes of a frozen group.  True if all that were found could be seen to.
bool end_tcp_repair(const std::string& cgroup);

// Freezes the group and waits, for some seconds at most, until the kernel says so.
bool freeze_group(const std::string& cgroup);

}  // namespace stillpoint::criu
