// The process of a part of a job, on its node: forked by the node's daemon, told what to do by the
// job's lead over the connection that the lead made to the daemon.  It outlives the daemon, not the
// lead: a job ends with its lead, after what is under way has been finished or undone.
#pragma once

#include "common/config.h"
#include "common/wire/job.pb.h"
#include "launcher/peer/connection.h"

namespace stillpoint::remote {

// Returns the process's exit status.  Answers the request first.
int run_part(peer::Released connection, const job::PartOfJob& request, const Config& config);

}  // namespace stillpoint::remote
