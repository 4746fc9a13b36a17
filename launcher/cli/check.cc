// stillpoint check: is this node fit, and what to do if not.
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "common/process.h"
#include "criu-glue/criu/fitness.h"
#include "launcher/agent/launch.h"
#include "launcher/cli/check_hosts.h"
#include "launcher/cli/options.h"

namespace stillpoint::cli {

namespace {

CommandLine command_line() {
  CommandLine line(
      "check [options]",
      "Tells what of this node is fit for checkpoint and restart, what is not, and what to do.\n"
      "Exit status 69 if something is not.\n");
  line.options.add_options()("hosts", po::value<std::string>(),
                             "ask the daemons of these nodes instead (a,b,c)")(
      "json", "print facts as JSON");
  return line;
}

// A program that must start, with the first line of what it says of its version.
criu::Fitness program_runs(const std::string& name, const Result<std::string>& program,
                           const std::string& remedy) {
  if (!program) return {name, false, program.error().what(), remedy};
  const auto told = run_program({*program, "--version"}, Deadline::in(std::chrono::seconds(20)));
  if (!told) return {name, false, told.error().what(), remedy};
  std::string line = told->out.substr(0, told->out.find('\n'));
  if (!told->exit.ok() && line.empty()) line = *program + ": " + told->exit.describe();
  return {name, told->exit.ok(), line, remedy};
}

std::vector<criu::Fitness> examine_libraries() {
  return {program_runs("supervisor and PMIx", agent::supervisor_program(),
                       "install stillpoint again, with the libraries that it names"),
          program_runs("Open MPI", std::string("mpirun"),
                       "install openmpi-bin, or put the Open MPI of your programs on PATH")};
}

}  // namespace

Result<int> check_command(const Arguments& arguments) {
  auto parsed = parse(command_line(), arguments);
  if (!parsed) return fail(parsed.error());
  if (parsed->help) return 0;
  if (parsed->has("hosts")) return check_hosts(parsed->text("hosts"), parsed->has("json"));
  bool fit = true;
  nlohmann::json all = nlohmann::json::array();
  auto items = criu::examine();
  for (auto& item : examine_libraries()) items.push_back(std::move(item));
  for (const auto& item : items) {
    fit = fit && item.ok;
    if (parsed->has("json")) {
      all.push_back(
          {{"name", item.name}, {"ok", item.ok}, {"found", item.found}, {"remedy", item.remedy}});
      continue;
    }
    std::printf("%-4s %-24s %s\n", item.ok ? "ok" : "NOT", item.name.c_str(), item.found.c_str());
    if (!item.ok) std::printf("     %-24s -> %s\n", "", item.remedy.c_str());
  }
  if (parsed->has("json"))
    std::cout << nlohmann::json{{"fit", fit}, {"checks", all}}.dump(2) << '\n';
  else
    std::printf("%s\n", fit ? "this node is fit" : "this node is not fit: see above");
  return fit ? 0 : static_cast<int>(ErrorKind::kUnfit);
}

}  // namespace stillpoint::cli
