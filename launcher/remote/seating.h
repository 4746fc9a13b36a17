// Which ranks, or which containers of a checkpoint, go to which hosts.
#pragma once

#include "common/wire/job.pb.h"
#include "launcher/agent/job.h"

namespace stillpoint::remote {

using Hosts = google::protobuf::RepeatedPtrField<job::Host>;

// Ranks in blocks, host by host: as many as a host has slots; without slots, evenly.  Hosts that
// get none are left out.  kUsage: no host, one twice, or too few slots.
Result<std::vector<agent::Seat>> seats_for(uint32_t ranks, const Hosts& hosts);

// The checkpoint's containers in blocks, evenly; without hosts where they were.
Result<std::vector<agent::Seat>> seats_for(const statefile::Manifest& dumped, const Hosts& hosts);

}  // namespace stillpoint::remote
