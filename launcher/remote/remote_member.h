// The member of a job on another node, from its lead's side: a process there (part_process.h),
// spoken with over a connection to that node's daemon.
#pragma once

#include <memory>

#include "common/config.h"
#include "launcher/agent/lead.h"

namespace stillpoint::remote {

// Members on the nodes that their seats name.
agent::MakeMember members_on_nodes(asio::io_context& io, const Config& config);

}  // namespace stillpoint::remote
