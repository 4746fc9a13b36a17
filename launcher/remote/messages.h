// Between what the agent's parts call things and how they go over the wire (common/wire/job.proto).
// What comes from outside is checked here.
#pragma once

#include "common/config.h"
#include "common/wire/job.pb.h"
#include "launcher/agent/job.h"
#include "launcher/agent/part.h"
#include "launcher/agent/request.h"

namespace stillpoint::remote {

job::Command to_wire(const coordinator::Command& command, const std::string& details);
Result<coordinator::Command> command_from(const job::Command& wire);

job::Answer to_wire(const coordinator::Answer& answer);
Result<coordinator::Answer> answer_from(const job::Answer& wire);

job::Failure to_wire(const Error& error);
Error error_from(const job::Failure& wire);

job::Policy to_wire(const agent::CheckpointPolicy& policy);
// What is not given is as the node has it configured.
Result<agent::CheckpointPolicy> policy_from(const job::Policy& wire, const Config& config);

job::PartOfJob to_wire(const agent::PartSpec& spec);
// For this node: tunnels end at `address`.
Result<agent::PartSpec> part_from(const job::PartOfJob& wire, const Config& config,
                                  const std::string& address);

// For `user`, who was checked.
Result<agent::RunRequest> run_from(const job::LeadJob& wire, Identity user, const Config& config);
Result<agent::RestartRequest> restart_from(const job::LeadJob& wire, Identity user,
                                           const Config& config);

}  // namespace stillpoint::remote
