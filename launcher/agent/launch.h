// From a run request to what the container and the supervisor are given.
#pragma once

#include "common/error.h"
#include "common/wire/link.pb.h"
#include "criu-glue/container/container.h"
#include "launcher/agent/request.h"

namespace stillpoint::agent {

// The program that becomes pid 1 of containers, where it was installed with us.
Result<std::string> supervisor_program();

// kInternal if the supervisor's program is not where this one was installed.
Result<container::ContainerSpec> container_spec(const RunRequest& request);

link::Start start_message(const RunRequest& request);

}  // namespace stillpoint::agent
