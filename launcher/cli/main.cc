// stillpoint COMMAND [options]; called as stillrun it is `stillpoint run`.
#include <cstdio>
#include <filesystem>
#include <iostream>

#include "common/log.h"
#include "launcher/cli/commands.h"

namespace stillpoint::cli {
namespace {

void print_help(std::FILE* to) {
  std::fprintf(to,
               "Usage: stillpoint COMMAND [options]\n\n"
               "Checkpoints running MPI jobs, and restarts them.\n\nCommands:\n");
  for (const Command& c : kCommands)
    std::fprintf(to, "  %-11s %s\n", std::string(c.name).c_str(), std::string(c.summary).c_str());
  std::fprintf(
      to, "\n`stillpoint COMMAND --help` tells more; `stillpoint --version` says which this is.\n");
}

int finish(const Result<int>& outcome) {
  if (outcome) return *outcome;
  log::error(outcome.error());
  return outcome.error().exit_status();
}

int run(int argc, char** argv) {
  Arguments arguments(argv + 1, argv + argc);
  if (std::filesystem::path(argv[0]).filename() == "stillrun")
    return finish(run_command(arguments));
  if (arguments.empty()) {
    print_help(stderr);
    return static_cast<int>(ErrorKind::kUsage);
  }
  const std::string name = arguments.front();
  if (name == "--help" || name == "-h" || name == "help") {
    print_help(stdout);
    return 0;
  }
  if (name == "--version") {
    std::printf("stillpoint %s\n", STILLPOINT_VERSION);
    return 0;
  }
  for (const Command& c : kCommands)
    if (c.name == name) return finish(c.run({arguments.begin() + 1, arguments.end()}));
  return finish(
      fail(ErrorKind::kUsage, "there is no command '" + name + "'", "see stillpoint --help"));
}

}  // namespace
}  // namespace stillpoint::cli

int main(int argc, char** argv) {
  try {
    return stillpoint::cli::run(argc, argv);
  } catch (const std::exception& e) {
    stillpoint::log::error(std::string("unexpected: ") + e.what());
    return static_cast<int>(stillpoint::ErrorKind::kInternal);
  }
}
