// From a run request to what the container and the supervisor are given.
#pragma once

#include "common/error.h"
#include "common/wire/link.pb.h"
#include "criu-glue/container/container.h"
#include "launcher/agent/request.h"

namespace stillpoint::agent {

// The program that becomes pid 1 of containers, where it was installed with us.
Result<std::string> supervisor_program();

// The directory of programs that CRIU is to find first (storing_gzip.cc); empty where it is
// missing: dumps are slower then.
std::string tools_for_criu();

// kInternal if the supervisor's program is not where this one was installed.
Result<container::ContainerSpec> container_spec(const RunRequest& request);

link::Start start_message(const RunRequest& request);

}  // namespace stillpoint::agent
