#include "launcher/supervisor/environment.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <ranges>

#include "common/wire/versions.h"

namespace stillpoint::supervisor {

namespace {

std::string_view name_of(std::string_view entry) {
  return entry.substr(0, entry.find('='));
}

// '*' stands for any ending.
constexpr std::array kOuter = {"PMIX_*",
                               "PMI_*",
                               "PRTE_*",
                               "PRRTE_*",
                               "HYDRA_*",
                               "HYDI_*",
                               "MPIEXEC_*",
                               "MPI_LOCAL*",
                               "OMPI_COMM_WORLD_*",
                               "OMPI_WORLD_*",
                               "OMPI_UNIVERSE_SIZE",
                               "OMPI_NUM_APP_CTX",
                               "OMPI_APP_CTX_NUM_PROCS",
                               "OMPI_FIRST_RANKS",
                               "OMPI_FILE_LOCATION",
                               "OMPI_COMMAND",
                               "OMPI_ARGV",
                               "OMPI_MCA_num_procs",
                               "OMPI_MCA_initial_wdir",
                               "OMPI_MCA_ess*",
                               "OMPI_MCA_orte_*",
                               "SLURM_PROCID",
                               "SLURM_LOCALID",
                               "SLURM_NODEID",
                               "SLURM_GTIDS",
                               "SLURM_TASK_PID",
                               "SLURM_STEP*",
                               "SLURM_PMI*",
                               "SLURM_MPI_TYPE",
                               "SLURM_SRUN_COMM_*",
                               "SLURM_LAUNCH_NODE_IPADDR",
                               "SLURM_CPU_BIND*",
                               "SLURM_DISTRIBUTION"};
constexpr std::array kUsers = {"PMIX_MCA_*", "PRTE_MCA_*"};  // all the same

constexpr const char* kInclude = "OMPI_MCA_btl_tcp_if_include";
constexpr const char* kExclude = "OMPI_MCA_btl_tcp_if_exclude";

bool matches(std::string_view name, std::string_view pattern) {
  if (!pattern.ends_with('*')) return name == pattern;
  pattern.remove_suffix(1);
  return name.starts_with(pattern);
}

bool is_outer(std::string_view name) {
  const auto fits = [name](std::string_view pattern) { return matches(name, pattern); };
  return std::ranges::any_of(kOuter, fits) && std::ranges::none_of(kUsers, fits);
}

void set(Environment& env, std::string_view name, std::string_view value) {
  std::erase_if(env, [name](const std::string& entry) { return name_of(entry) == name; });
  env.push_back(std::string(name) + "=" + std::string(value));
}

void set_default(Environment& env, std::string_view name, std::string_view value) {
  const auto is_it = [name](const std::string& entry) { return name_of(entry) == name; };
  if (std::ranges::none_of(env, is_it)) set(env, name, value);
}

std::string joined(const std::vector<std::string>& words, size_t from) {
  std::string text;
  for (size_t i = from; i < words.size(); i++) text += (i > from ? " " : "") + words[i];
  return text;
}

}  // namespace

std::string_view value_of(const Environment& env, std::string_view name) {
  for (const std::string_view entry : env)
    if (entry.size() > name.size() && entry[name.size()] == '=' && entry.starts_with(name))
      return entry.substr(name.size() + 1);
  return {};
}

Environment without_outer_launcher(const Environment& env) {
  Environment kept;
  for (const std::string& entry : env) {
    const size_t equals = entry.find('=');
    if (equals == 0 || equals == std::string::npos || is_outer(name_of(entry))) continue;
    kept.push_back(entry);
  }
  return kept;
}

Environment rank_environment(const Launch& launch, uint32_t rank, uint32_t local_rank,
                             const Environment& pmix) {
  Environment env = without_outer_launcher(launch.env);
  const auto number = [&env](std::initializer_list<const char*> names, uint32_t value) {
    for (const char* name : names) set(env, name, std::to_string(value));
  };
  number({"OMPI_COMM_WORLD_SIZE", "OMPI_UNIVERSE_SIZE", "OMPI_WORLD_SIZE", "OMPI_APP_CTX_NUM_PROCS",
          "OMPI_MCA_num_procs"},
         launch.ranks);
  number({"OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_WORLD_LOCAL_SIZE"}, launch.local_ranks);
  number({"OMPI_COMM_WORLD_RANK"}, rank);
  number({"OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_NODE_RANK"}, local_rank);
  set(env, "OMPI_NUM_APP_CTX", "1");
  set(env, "OMPI_FIRST_RANKS", "0");
  set(env, "OMPI_COMMAND", launch.argv.front());
  set(env, "OMPI_ARGV", joined(launch.argv, 1));
  set(env, "OMPI_MCA_initial_wdir", launch.directory);
  set(env, "PWD", launch.directory);
  if (launch.oversubscribed) set_default(env, "OMPI_MCA_mpi_yield_when_idle", "1");
  // Open MPI refuses the one together with the other.
  if (launch.nodes > 1 && value_of(env, kExclude).empty())
    set_default(env, kInclude, wire::kMpiDevice);
  for (const std::string_view entry : pmix)
    set(env, name_of(entry), entry.substr(std::min(entry.size(), name_of(entry).size() + 1)));
  return env;
}

std::string network_warning(const Launch& launch) {
  if (launch.nodes < 2) return {};
  for (const std::string name : {kInclude, kExclude}) {
    const std::string_view value = value_of(launch.env, name);
    if (value.empty() || value.find('/') != std::string_view::npos) continue;  // subnets: who knows
    bool named = false;
    for (const auto word : std::views::split(value, ','))
      named = named || std::string_view(word) == wire::kMpiDevice;
    if (named == (name == kInclude)) continue;
    return "stillpoint: " + name + "=" + std::string(value) + " keeps Open MPI from " +
           wire::kMpiDevice + ", by which alone the job's containers reach each other: ranks on " +
           "different nodes will not find each other; leave it unset\n";
  }
  return {};
}

}  // namespace stillpoint::supervisor
