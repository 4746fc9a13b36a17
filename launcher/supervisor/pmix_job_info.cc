#include "launcher/supervisor/pmix_job_info.h"

#include <pmix_server.h>

#include <cstdlib>
#include <memory>

namespace stillpoint::supervisor {

namespace {

// A string that PMIx has allocated; "blob:..." (made for hundreds of nodes) holds zeros.
using Text = std::unique_ptr<char, decltype(&std::free)>;

using Generate = pmix_status_t (*)(const char*, char**);
Result<> add_map(InfoList& info, const char* key, Generate function, const std::string& input) {
  char* made = nullptr;
  const pmix_status_t status = function(input.c_str(), &made);
  const Text owner(made, &std::free);
  if (auto r = check_pmix(status, "PMIx's map of nodes and ranks"); !r) return r;
  info.regex(key, made);
  return {};
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

std::string node_list(const Placement& placement) {
  std::string text;
  for (const auto& node : placement.nodes()) text += (text.empty() ? "" : ",") + node.hostname;
  return text;
}

std::string rank_lists(const Placement& placement) {
  std::string text;
  for (const auto& node : placement.nodes()) text += (text.empty() ? "" : ";") + listed(node.ranks);
  return text;
}

uint32_t count(const Placement::Node& node) {
  return static_cast<uint32_t>(node.ranks.size());
}

void add_job(InfoList& info, const PmixJob& job) {
  const Placement::Node& here = job.placement.here();
  const uint32_t ranks = job.placement.ranks();
  info.text(PMIX_JOBID, job.nspace).u32(PMIX_JOB_SIZE, ranks).u32(PMIX_UNIV_SIZE, ranks);
  info.u32(PMIX_MAX_PROCS, ranks).u32(PMIX_NUM_SLOTS, ranks).u32(PMIX_JOB_NUM_APPS, 1);
  info.u32(PMIX_NUM_NODES, static_cast<uint32_t>(job.placement.nodes().size()));
  info.text(PMIX_NODE_LIST, node_list(job.placement)).u32(PMIX_NODEID, job.placement.self());
  info.rank(PMIX_NPROC_OFFSET, 0).flag(PMIX_SPAWNED, false);
  info.u32(PMIX_LOCAL_SIZE, count(here)).u32(PMIX_NODE_SIZE, count(here));
  info.text(PMIX_LOCAL_PEERS, listed(here.ranks)).rank(PMIX_LOCALLDR, here.ranks.front());
  info.flag(PMIX_NODE_OVERSUBSCRIBED, job.launch.oversubscribed);
  info.text(PMIX_TMPDIR, job.session_directory).text(PMIX_NSDIR, job.session_directory);
  info.flag(PMIX_TDIR_RMCLEAN, true);
}

void add_app(InfoList& info, const PmixJob& job) {
  InfoList app;
  app.u32(PMIX_APPNUM, 0).u32(PMIX_APP_SIZE, job.placement.ranks()).rank(PMIX_APPLDR, 0);
  app.text(PMIX_WDIR, job.launch.directory).text(PMIX_APP_ARGV, joined(job.launch.argv));
  info.list(PMIX_APP_INFO_ARRAY, app);
}

void add_node(InfoList& info, const PmixJob& job, uint32_t index) {
  const Placement::Node& of = job.placement.nodes()[index];
  InfoList node;
  node.text(PMIX_HOSTNAME, of.hostname).u32(PMIX_NODEID, index);
  node.u32(PMIX_LOCAL_SIZE, count(of)).u32(PMIX_NODE_SIZE, count(of));
  node.text(PMIX_LOCAL_PEERS, listed(of.ranks)).rank(PMIX_LOCALLDR, of.ranks.front());
  if (index == job.placement.self()) node.flag(PMIX_NODE_OVERSUBSCRIBED, job.launch.oversubscribed);
  info.list(PMIX_NODE_INFO_ARRAY, node);
}

void add_rank(InfoList& info, const PmixJob& job, uint32_t rank) {
  const uint32_t node = job.placement.node_of(rank);
  const auto local = static_cast<uint16_t>(job.placement.local_rank(rank));
  InfoList proc;
  proc.rank(PMIX_RANK, rank).rank(PMIX_GLOBAL_RANK, rank).rank(PMIX_APP_RANK, rank);
  proc.u32(PMIX_APPNUM, 0).u32(PMIX_REINCARNATION, 0);
  proc.u16(PMIX_LOCAL_RANK, local).u16(PMIX_NODE_RANK, local);
  proc.text(PMIX_HOSTNAME, job.placement.nodes()[node].hostname).u32(PMIX_NODEID, node);
  info.list(PMIX_PROC_INFO_ARRAY, proc);
}

}  // namespace

Result<InfoArray> describe(const PmixJob& job) {
  InfoList list;
  auto r = add_map(list, PMIX_NODE_MAP, PMIx_generate_regex, node_list(job.placement));
  if (r) r = add_map(list, PMIX_PROC_MAP, PMIx_generate_ppn, rank_lists(job.placement));
  if (!r) return fail(r.error());
  add_job(list, job);
  add_app(list, job);
  for (uint32_t index = 0; index < job.placement.nodes().size(); index++)
    add_node(list, job, index);
  for (uint32_t rank = 0; rank < job.placement.ranks(); rank++) add_rank(list, job, rank);
  return list.finish();
}

}  // namespace stillpoint::supervisor
