// The options of `run` and `restart` that say how a job is kept safe.
#pragma once

#include "launcher/agent/request.h"
#include "launcher/cli/options.h"

namespace stillpoint::cli {

void add_policy_options(po::options_description& options);
Result<agent::CheckpointPolicy> policy_from(const Parsed& parsed);

}  // namespace stillpoint::cli
