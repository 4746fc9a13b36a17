// The subcommands: one file each, one row each.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"

namespace stillpoint::cli {

using Arguments = std::vector<std::string>;  // behind the subcommand

Result<int> run_command(const Arguments& arguments);
Result<int> checkpoint_command(const Arguments& arguments);
Result<int> restart_command(const Arguments& arguments);
Result<int> status_command(const Arguments& arguments);
Result<int> list_command(const Arguments& arguments);
Result<int> inspect_command(const Arguments& arguments);
Result<int> verify_command(const Arguments& arguments);
Result<int> check_command(const Arguments& arguments);

struct Command {
  std::string_view name;
  std::string_view summary;
  Result<int> (*run)(const Arguments&);
};

inline constexpr std::array<Command, 8> kCommands = {{
    {"run", "start a job, as mpirun does, so that it can be checkpointed (also: stillrun)",
     run_command},
    {"checkpoint", "checkpoint a running job", checkpoint_command},
    {"restart", "bring a job back from a checkpoint", restart_command},
    {"status", "show the running jobs of this node", status_command},
    {"list", "list the checkpoints in a directory", list_command},
    {"inspect", "show what a checkpoint holds", inspect_command},
    {"verify", "check every byte of a checkpoint against its checksum", verify_command},
    {"check", "tell whether this node is fit for checkpoints, and what to do if not",
     check_command},
}};

}  // namespace stillpoint::cli
