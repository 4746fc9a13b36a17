// What a container on this node is made of.
#pragma once

#include "common/error.h"
#include "criu-glue/container/container.h"

namespace stillpoint::agent {

// The program that becomes pid 1 of containers, where it was installed with us.
Result<std::string> supervisor_program();

// The directory of programs that CRIU is to find first (storing_gzip.cc); empty where it is
// missing: dumps are slower then.
std::string tools_for_criu();

std::string this_host();  // as the node calls itself
uint32_t processors();    // that this process may use

// A fresh container of this user on this node.  kInternal if the supervisor's program is not where
// this one was installed.
Result<container::ContainerSpec> container_spec(const Identity& user);

}  // namespace stillpoint::agent
