// Which checkpoint a restart is from:
//
//   find      as the user: which checkpoint, its manifest's bytes
//   trust     root: signature, format, owner
//
// What follows is the members' (making.h).
#pragma once

#include "criu-glue/statefile/record.h"
#include "criu-glue/statefile/store.h"
#include "launcher/agent/request.h"

namespace stillpoint::agent {

struct FoundCheckpoint {
  statefile::CheckpointPlace place;
  statefile::Manifest manifest;
};
Result<FoundCheckpoint> find_checkpoint(const RestartRequest& request);

}  // namespace stillpoint::agent
