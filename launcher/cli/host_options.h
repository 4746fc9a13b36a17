// --hosts and --hostfile: the nodes of a job, for the daemons.
#pragma once

#include <vector>

#include "common/wire/job.pb.h"
#include "launcher/cli/options.h"

namespace stillpoint::cli {

void add_host_options(po::options_description& options);
bool names_hosts(const Parsed& parsed);
// "a:2,b:2" or "a,b"; a file of lines "a slots=2" or "a", '#' begins a comment.
Result<std::vector<job::Host>> hosts_from(const Parsed& parsed);

// What is the same for run and restart.
Result<job::LeadJob> lead_request(const Parsed& parsed, const std::vector<job::Host>& hosts);

}  // namespace stillpoint::cli
