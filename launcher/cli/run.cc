// stillpoint run: starts a job as mpirun does.
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "common/paths.h"
#include "launcher/agent/agent.h"
#include "launcher/cli/caller.h"
#include "launcher/cli/host_options.h"
#include "launcher/cli/policy_options.h"
#include "launcher/cli/progress_bar.h"
#include "launcher/remote/front_client.h"

extern char** environ;

namespace stillpoint::cli {

namespace {

constexpr uint64_t kMostRanks = 65536;

CommandLine command_line() {
  CommandLine line(
      "run [options] [--] PROGRAM [ARGUMENTS...]",
      "Starts PROGRAM with N ranks in a container on this node, or in one on each of the\n"
      "named nodes.  Standard input goes "
      "to rank 0, output of all\n"
      "ranks comes back; the exit status is that of the first rank that failed (128 + "
      "signal), 0 if none did,\n"
      "and 85 if the job was stopped at a checkpoint.  On this node alone it needs root "
      "(sudo), and the ranks run as\nthe user who called; with --hosts it needs none.\n");
  line.options.add_options()(",n", po::value<std::string>()->value_name("N"),
                             "number of ranks (default: 1)")(
      "np", po::value<std::string>()->value_name("N"), "the same")(
      "name", po::value<std::string>()->value_name("JOB"),
      "name of the job (default: the program's and a number)")(
      ",x", po::value<std::vector<std::string>>()->composing()->value_name("NAME[=VALUE]"),
      "give the ranks this environment variable (all of the caller's are given anyway)")(
      "wdir", po::value<std::string>()->value_name("DIR"),
      "working directory of the ranks (default: the caller's)")(
      "tag-output", "put the rank in front of each line of output")(
      "user", po::value<std::string>()->value_name("NAME"), "run as this user (root only)");
  add_host_options(line.options);
  add_policy_options(line.options);
  line.hidden.add_options()("program", po::value<std::vector<std::string>>());
  line.positional.add("program", -1);
  line.program_follows = true;
  return line;
}

Result<uint32_t> ranks_from(const Parsed& parsed) {
  if (parsed.has("-n") && parsed.has("np"))
    return fail(ErrorKind::kUsage, "-n and --np are the same: give one");
  const char* name = parsed.has("np") ? "np" : "-n";
  if (!parsed.has(name)) return 1u;
  auto ranks = parse_number(parsed.text(name), "-n", 1, kMostRanks);
  if (!ranks) return fail(ranks.error());
  return static_cast<uint32_t>(*ranks);
}

std::string variable_name(const std::string& variable) {
  return variable.substr(0, variable.find('='));
}

void set_variable(std::vector<std::string>& env, const std::string& variable) {
  std::erase_if(env,
                [&](const std::string& v) { return variable_name(v) == variable_name(variable); });
  env.push_back(variable);
}

// The caller's environment, with what sudo has changed put right for the user, and -x on top.
Result<std::vector<std::string>> environment(const Parsed& parsed, const Identity& user) {
  std::vector<std::string> env;
  for (char** v = environ; *v; v++) env.emplace_back(*v);
  if (user.uid != ::getuid()) {
    for (const std::string& v :
         {"HOME=" + user.home, "USER=" + user.name, "LOGNAME=" + user.name, "SHELL=" + user.shell})
      set_variable(env, v);
    std::erase_if(
        env, [](const std::string& v) { return v.starts_with("SUDO_") || v.starts_with("MAIL="); });
  }
  if (!std::getenv("HOME")) env.push_back("HOME=" + user.home);  // Open MPI does not start without
  for (const std::string& given : parsed.texts("-x")) {
    const std::string name = variable_name(given);
    if (name.empty()) return fail(ErrorKind::kUsage, "-x '" + given + "' names no variable");
    if (given.find('=') != given.npos) {
      set_variable(env, given);
    } else if (!std::getenv(name.c_str())) {
      return fail(ErrorKind::kUsage, "-x " + name + ": there is no such variable",
                  "give it a value: -x " + name + "=VALUE");
    }
  }
  return env;
}

// The program's name, made fit for a file name, and a number that no other job of this node has; on
// several nodes process numbers are no such thing.
std::string default_name(const std::string& program, bool several_nodes) {
  std::string base = std::filesystem::path(program).filename().string().substr(0, 40);
  for (char& c : base)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_' && c != '-') c = '_';
  if (base.empty() || !std::isalnum(static_cast<unsigned char>(base[0]))) base = "job" + base;
  uint32_t number = static_cast<uint32_t>(::getpid());
  if (several_nodes) (void)!::getrandom(&number, sizeof number, 0);
  return base + "-" + std::to_string(number);
}

Result<agent::RunRequest> request_from(const Parsed& parsed) {
  agent::RunRequest request;
  request.argv = parsed.texts("program");
  if (request.argv.empty() || request.argv[0].empty())
    return fail(ErrorKind::kUsage, "no program to run", "see stillpoint run --help");
  auto ranks = ranks_from(parsed);
  if (!ranks) return fail(ranks.error());
  request.ranks = *ranks;
  request.job =
      parsed.has("name") ? parsed.text("name") : default_name(request.argv[0], names_hosts(parsed));
  if (auto r = paths::check_job_name(request.job); !r) return fail(r.error());
  auto policy = policy_from(parsed);
  if (!policy) return fail(policy.error());
  request.policy = *policy;
  auto user = acting_user(parsed.text("user"));
  if (!user) return fail(user.error());
  request.user = *user;
  auto env = environment(parsed, request.user);
  if (!env) return fail(env.error());
  request.env = *env;
  request.directory =
      paths::absolute(parsed.has("wdir") ? parsed.text("wdir") : ".", current_directory());
  request.tag_output = parsed.has("tag-output");
  request.umask = ::umask(0);
  ::umask(static_cast<mode_t>(request.umask));
  return request;
}

Result<int> run_on_hosts(const Parsed& parsed, const agent::RunRequest& request) {
  auto hosts = hosts_from(parsed);
  if (!hosts) return fail(hosts.error());
  auto config = Config::load();
  if (!config) return fail(config.error());
  auto lead = lead_request(parsed, *hosts);
  if (!lead) return fail(lead.error());
  job::RunJob& run = *lead->mutable_run();
  run.set_job(request.job);
  for (const std::string& arg : request.argv) run.add_argv(arg);
  for (const std::string& variable : request.env) run.add_env(variable);
  run.set_directory(request.directory);
  run.set_umask(request.umask);
  run.set_ranks(request.ranks);
  ProgressBar bar;
  return remote::run_on_nodes(hosts->front().name(), std::move(*lead), *config, bar);
}

}  // namespace

Result<int> run_command(const Arguments& arguments) {
  auto parsed = parse(command_line(), arguments);
  if (!parsed) return fail(parsed.error());
  if (parsed->help) return 0;
  auto request = request_from(*parsed);
  if (!request) return fail(request.error());
  if (names_hosts(*parsed)) return run_on_hosts(*parsed, *request);
  if (auto r = need_root("run"); !r) return fail(r.error());
  ProgressBar bar;
  return agent::run_job(*request, bar);
}

}  // namespace stillpoint::cli
