// The user's command for a job over several nodes: has the daemon of the first node lead the job,
// and is the job's terminal.
#pragma once

#include <string>

#include "common/config.h"
#include "common/wire/job.pb.h"
#include "launcher/agent/progress_sink.h"

namespace stillpoint::remote {

// Returns the job's exit status.
Result<int> run_on_nodes(const std::string& first_node, job::LeadJob request, const Config& config,
                         agent::ProgressSink& progress);

}  // namespace stillpoint::remote
