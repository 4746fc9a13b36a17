// The agent of one job, embedded in the command that started it.
#pragma once

#include "common/error.h"
#include "launcher/agent/progress_sink.h"
#include "launcher/agent/request.h"

namespace stillpoint::agent {

// Both run the job to its end and return its exit status; an error means that it did not come to
// run. kStoppedAtCheckpoint: ended on purpose by `checkpoint --stop`.
Result<int> run_job(const RunRequest& request, ProgressSink& sink);
Result<int> restart_job(const RestartRequest& request, ProgressSink& sink);

}  // namespace stillpoint::agent
