// stillpoint status: the running jobs of this node.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "common/paths.h"
#include "launcher/agent/registry.h"
#include "launcher/cli/control_client.h"
#include "launcher/cli/options.h"

namespace stillpoint::cli {

namespace {

using nlohmann::json;

CommandLine command_line() {
  CommandLine line("status [options] [JOB]",
                   "Shows the jobs that run on this node: yours, or all for root.\n");
  line.options.add_options()("json", "print facts as JSON");
  line.hidden.add_options()("job", po::value<std::string>());
  line.positional.add("job", 1);
  return line;
}

json to_json(const control::StatusReply& s) {
  json ranks = json::array();
  for (const auto& r : s.rank())
    ranks.push_back({{"rank", r.rank()},
                     {"node", r.node()},
                     {"pid", r.pid()},
                     {"program", r.program()},
                     {"memory", r.memory()}});
  return {{"job", s.job()},
          {"user", s.user()},
          {"phase", s.phase()},
          {"ranks", s.ranks()},
          {"started", s.started()},
          {"restarted_from", s.restarted_from()},
          {"latest_epoch", s.latest_epoch()},
          {"latest_created", s.latest_created()},
          {"interval_ms", s.interval_ms()},
          {"next_ms", s.next_ms()},
          {"stop_ms", s.stop_ms()},
          {"directory", s.directory()},
          {"last_failure", s.last_failure()},
          {"agent_pid", s.agent_pid()},
          {"init_pid", s.init_pid()},
          {"rank", ranks}};
}

std::string checkpoint_text(const control::StatusReply& s) {
  if (s.latest_epoch() == 0) return "none yet";
  return std::to_string(s.latest_epoch()) + " at " + s.latest_created();
}

void print_overview(const std::vector<control::StatusReply>& jobs) {
  if (jobs.empty()) {
    std::printf("no jobs run on this node\n");
    return;
  }
  std::printf("%-24s %-12s %6s  %-24s %s\n", "JOB", "USER", "RANKS", "PHASE", "LAST CHECKPOINT");
  for (const auto& s : jobs)
    std::printf("%-24s %-12s %6u  %-24s %s\n", s.job().c_str(), s.user().c_str(), s.ranks(),
                s.phase().c_str(), checkpoint_text(s).c_str());
}

void print_one(const control::StatusReply& s) {
  std::printf("job              %s of %s, %s, %u ranks\n", s.job().c_str(), s.user().c_str(),
              s.phase().c_str(), s.ranks());
  std::printf("started          %s", s.started().c_str());
  if (s.restarted_from()) std::printf(", from checkpoint %lu", s.restarted_from());
  std::printf("\nlast checkpoint  %s", checkpoint_text(s).c_str());
  if (s.stop_ms())
    std::printf(", the job stood still %s", format_duration(Milliseconds(s.stop_ms())).c_str());
  std::printf("\ncheckpoints in   %s\n", s.directory().c_str());
  if (s.interval_ms())
    std::printf("next checkpoint  in %s, every %s\n",
                format_duration(Milliseconds(s.next_ms())).c_str(),
                format_duration(Milliseconds(s.interval_ms())).c_str());
  if (!s.last_failure().empty())
    std::printf("last attempt     failed: %s\n", s.last_failure().c_str());
  std::printf("%6s %8s %10s  %-12s %s\n", "RANK", "PID", "MEMORY", "NODE", "PROGRAM");
  for (const auto& r : s.rank())
    std::printf("%6u %8d %10s  %-12s %s\n", r.rank(), r.pid(), format_bytes(r.memory()).c_str(),
                r.node().empty() ? "this" : r.node().c_str(), r.program().c_str());
}

}  // namespace

Result<int> status_command(const Arguments& arguments) {
  auto parsed = parse(command_line(), arguments);
  if (!parsed) return fail(parsed.error());
  if (parsed->help) return 0;
  if (::geteuid() == 0) agent::sweep_dead_jobs();
  const std::string wanted = parsed->text("job");
  control::Request request;
  request.mutable_status();
  std::vector<control::StatusReply> jobs;
  for (const std::string& job : wanted.empty() ? agent::jobs_here() : std::vector{wanted}) {
    auto reply = ask(job, request, Deadline::in(std::chrono::seconds(10)));
    if (reply)
      jobs.push_back(reply->status());
    else if (!wanted.empty())
      return fail(reply.error());
    // Otherwise: it has ended meanwhile, or is somebody else's.
  }
  if (parsed->has("json")) {
    json all = json::array();
    for (const auto& s : jobs) all.push_back(to_json(s));
    std::cout << json{{"jobs", all}}.dump(2, ' ', false, json::error_handler_t::replace) << '\n';
  } else if (wanted.empty()) {
    print_overview(jobs);
  } else {
    print_one(jobs.front());
  }
  return 0;
}

}  // namespace stillpoint::cli
