// The process that leads a job over several nodes: forked by the daemon of its first node, with the
// user's command at the other end of the connection.
#pragma once

#include "common/config.h"
#include "common/wire/job.pb.h"
#include "launcher/peer/connection.h"

namespace stillpoint::remote {

// Returns the process's exit status.
int run_lead(peer::Released connection, const job::LeadJob& request, const Config& config);

}  // namespace stillpoint::remote
