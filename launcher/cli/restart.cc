// stillpoint restart: brings a job back from a checkpoint and stays with it, as run does.
#include "common/paths.h"
#include "launcher/agent/agent.h"
#include "launcher/cli/caller.h"
#include "launcher/cli/host_options.h"
#include "launcher/cli/policy_options.h"
#include "launcher/cli/progress_bar.h"
#include "launcher/remote/front_client.h"

namespace stillpoint::cli {

namespace {

CommandLine command_line() {
  CommandLine line("restart [options] CHECKPOINT|JOB",
                   "CHECKPOINT is a checkpoint's directory or manifest, or a job's directory (its "
                   "newest checkpoint is taken);\n"
                   "JOB is looked for in --checkpoint-dir.  Files that the job had open for "
                   "writing are cut back to the length\n"
                   "they had.  Interval and number of checkpoints kept go on as they were, unless "
                   "given here.\n");
  line.options.add_options()("tag-output", "put the rank in front of each line of output")(
      "user", po::value<std::string>()->value_name("NAME"), "restart for this user (root only)");
  add_host_options(line.options);
  add_policy_options(line.options);
  line.hidden.add_options()("checkpoint", po::value<std::string>());
  line.positional.add("checkpoint", 1);
  return line;
}

Result<int> restart_on_hosts(const Parsed& parsed) {
  auto hosts = hosts_from(parsed);
  if (!hosts) return fail(hosts.error());
  auto config = Config::load();
  if (!config) return fail(config.error());
  auto lead = lead_request(parsed, *hosts);
  if (!lead) return fail(lead.error());
  job::RestartJob& restart = *lead->mutable_restart();
  restart.set_checkpoint(parsed.text("checkpoint"));
  restart.set_directory(current_directory());
  restart.set_has_interval(parsed.has("checkpoint-interval"));
  ProgressBar bar;
  return remote::run_on_nodes(hosts->front().name(), std::move(*lead), *config, bar);
}

}  // namespace

Result<int> restart_command(const Arguments& arguments) {
  auto parsed = parse(command_line(), arguments);
  if (!parsed) return fail(parsed.error());
  if (parsed->help) return 0;
  if (parsed->text("checkpoint").empty())
    return fail(ErrorKind::kUsage, "no checkpoint given", "see stillpoint restart --help");
  if (names_hosts(*parsed)) return restart_on_hosts(*parsed);
  auto policy = policy_from(*parsed);
  if (!policy) return fail(policy.error());
  auto user = acting_user(parsed->text("user"));
  if (!user) return fail(user.error());
  if (auto r = need_root("restart"); !r) return fail(r.error());
  const agent::RestartRequest request{.checkpoint = parsed->text("checkpoint"),
                                      .directory = current_directory(),
                                      .user = *user,
                                      .has_interval = parsed->has("checkpoint-interval"),
                                      .has_keep = parsed->has("checkpoint-keep"),
                                      .tag_output = parsed->has("tag-output"),
                                      .policy = *policy};
  ProgressBar bar;
  return agent::restart_job(request, bar);
}

}  // namespace stillpoint::cli
