#include "launcher/supervisor/pmix_server.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <utility>

#include "launcher/supervisor/pmix_info.h"
#include "launcher/supervisor/pmix_upcalls.h"

namespace stillpoint::supervisor {

namespace {

// A string that PMIx has allocated.
using Text = std::unique_ptr<char, decltype(&std::free)>;

using Generate = pmix_status_t (*)(const char*, char**);
Result<std::string> generate(Generate function, const std::string& input) {
  char* made = nullptr;
  const pmix_status_t status = function(input.c_str(), &made);
  const Text owner(made, &std::free);
  if (auto r = check_pmix(status, "PMIx's map of nodes and ranks"); !r) return fail(r.error());
  return std::string(made);  // "pmix:..." is text; "blob:" is made for thousands of nodes only
}

std::string all_ranks(uint32_t ranks) {
  std::string list;
  for (uint32_t rank = 0; rank < ranks; rank++) list += (rank ? "," : "") + std::to_string(rank);
  return list;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

void add_job(InfoList& info, const PmixJob& job) {
  const uint32_t ranks = job.launch.ranks;
  info.text(PMIX_JOBID, job.nspace).u32(PMIX_JOB_SIZE, ranks).u32(PMIX_UNIV_SIZE, ranks);
  info.u32(PMIX_MAX_PROCS, ranks).u32(PMIX_NUM_SLOTS, ranks).u32(PMIX_JOB_NUM_APPS, 1);
  info.u32(PMIX_NUM_NODES, 1).rank(PMIX_NPROC_OFFSET, 0).flag(PMIX_SPAWNED, false);
  info.u32(PMIX_LOCAL_SIZE, ranks)
      .text(PMIX_LOCAL_PEERS, all_ranks(ranks))
      .u32(PMIX_NODE_SIZE, ranks);
  info.rank(PMIX_LOCALLDR, 0).flag(PMIX_NODE_OVERSUBSCRIBED, job.launch.oversubscribed);
  info.text(PMIX_TMPDIR, job.session_directory).text(PMIX_NSDIR, job.session_directory);
  info.flag(PMIX_TDIR_RMCLEAN, true);
}

void add_app(InfoList& info, const PmixJob& job) {
  InfoList app;
  app.u32(PMIX_APPNUM, 0).u32(PMIX_APP_SIZE, job.launch.ranks).rank(PMIX_APPLDR, 0);
  app.text(PMIX_WDIR, job.launch.directory).text(PMIX_APP_ARGV, joined(job.launch.argv));
  info.list(PMIX_APP_INFO_ARRAY, app);
}

void add_node(InfoList& info, const PmixJob& job) {
  InfoList node;
  node.text(PMIX_HOSTNAME, job.hostname).u32(PMIX_NODEID, 0);
  node.u32(PMIX_LOCAL_SIZE, job.launch.ranks).u32(PMIX_NODE_SIZE, job.launch.ranks);
  node.text(PMIX_LOCAL_PEERS, all_ranks(job.launch.ranks)).rank(PMIX_LOCALLDR, 0);
  node.flag(PMIX_NODE_OVERSUBSCRIBED, job.launch.oversubscribed);
  info.list(PMIX_NODE_INFO_ARRAY, node);
}

void add_rank(InfoList& info, const PmixJob& job, uint32_t rank) {
  InfoList proc;
  proc.rank(PMIX_RANK, rank).rank(PMIX_GLOBAL_RANK, rank).rank(PMIX_APP_RANK, rank);
  proc.u32(PMIX_APPNUM, 0).u32(PMIX_REINCARNATION, 0);
  proc.u16(PMIX_LOCAL_RANK, static_cast<uint16_t>(rank));
  proc.u16(PMIX_NODE_RANK, static_cast<uint16_t>(rank));
  proc.text(PMIX_HOSTNAME, job.hostname).u32(PMIX_NODEID, 0);
  info.list(PMIX_PROC_INFO_ARRAY, proc);
}

// Every node must come to the same key for the same operation.
std::string collective_key(const std::string& what, const std::vector<pmix_proc_t>& members) {
  std::set<std::string> names;
  for (const pmix_proc_t& m : members)
    names.insert(std::string(m.nspace) + ":" + std::to_string(m.rank));
  std::string key = what;
  for (const std::string& name : names) key += "," + name;
  return key;
}

}  // namespace

PmixServer::PmixServer(PmixJob job, Post post, Events events)
    : job_(std::move(job)), post_(std::move(post)), events_(std::move(events)) {}

PmixServer::~PmixServer() {
  if (initialized_) PMIx_server_finalize();
  Upcalls::server = nullptr;
}

Result<std::unique_ptr<PmixServer>> PmixServer::start(PmixJob job, Post post, Events events) {
  std::unique_ptr<PmixServer> server(
      new PmixServer(std::move(job), std::move(post), std::move(events)));
  Upcalls::server = server.get();
  if (auto r = server->init(); !r) return fail(r.error().during("starting the PMIx server"));
  if (auto r = server->register_job(); !r)
    return fail(r.error().during("describing the job to PMIx"));
  return server;
}

Result<> PmixServer::init() {
  InfoList list;
  list.text(PMIX_SERVER_NSPACE, "stillpoint-supervisor").rank(PMIX_SERVER_RANK, 0);
  list.text(PMIX_HOSTNAME, job_.hostname);
  list.text(PMIX_SERVER_TMPDIR, job_.session_directory);
  list.text(PMIX_SYSTEM_TMPDIR, job_.session_directory);
  list.flag(PMIX_SERVER_SHARE_TOPOLOGY, true);  // spares every rank a look at the whole machine
  auto info = list.finish();
  if (!info) return fail(info.error());
  static pmix_server_module_t upcalls = Upcalls::table();
  auto r = check_pmix(PMIx_server_init(&upcalls, info->data(), info->size()), "PMIx_server_init");
  initialized_ = r.has_value();
  return r;
}

Result<> PmixServer::register_job() {
  auto nodes = generate(PMIx_generate_regex, job_.hostname);
  if (!nodes) return fail(nodes.error());
  auto ranks = generate(PMIx_generate_ppn, all_ranks(job_.launch.ranks));
  if (!ranks) return fail(ranks.error());
  InfoList list;
  list.regex(PMIX_NODE_MAP, *nodes).regex(PMIX_PROC_MAP, *ranks);
  add_job(list, job_);
  add_app(list, job_);
  add_node(list, job_);
  for (uint32_t rank = 0; rank < job_.launch.ranks; rank++) add_rank(list, job_, rank);
  auto info = list.finish();
  if (!info) return fail(info.error());
  return check_pmix(
      PMIx_server_register_nspace(job_.nspace.c_str(), static_cast<int>(job_.launch.ranks),
                                  info->data(), info->size(), nullptr, nullptr),
      "PMIx_server_register_nspace");
}

Result<Environment> PmixServer::register_rank(uint32_t rank) {
  pmix_proc_t proc;
  PMIx_Load_procid(&proc, job_.nspace.c_str(), rank);
  auto r = check_pmix(
      PMIx_server_register_client(&proc, ::getuid(), ::getgid(), nullptr, nullptr, nullptr),
      "PMIx_server_register_client");
  if (!r) return fail(r.error());
  char** raw = nullptr;
  const pmix_status_t status = PMIx_server_setup_fork(&proc, &raw);
  Environment env;
  for (char** entry = raw; entry && *entry; entry++) env.emplace_back(*entry);
  PMIx_Argv_free(raw);
  if (auto set_up = check_pmix(status, "PMIx_server_setup_fork"); !set_up)
    return fail(set_up.error());
  return env;
}

bool PmixServer::is_rank(const pmix_proc_t& proc) const {
  return job_.nspace == proc.nspace && proc.rank < job_.launch.ranks;
}

void PmixServer::release_aborted() {
  for (const Reply& reply : std::exchange(aborted_, {})) reply.call(PMIX_SUCCESS, reply.context);
}

void PmixServer::all_gather(const std::string& what, const std::vector<pmix_proc_t>& members,
                            std::string mine, Collectives::Done done) {
  // All ranks are on this node, which is node 0: with more nodes, those of the members go here.
  (void)collectives_.contribute(collective_key(what, members), {0}, std::move(mine),
                                std::move(done));
}

void PmixServer::fence(const std::vector<pmix_proc_t>& members, std::string data,
                       pmix_modex_cbfunc_t reply, void* context) {
  all_gather("fence", members, std::move(data), [reply, context](const Collectives::Parts& parts) {
    auto all =
        std::make_unique<std::string>();  // PMIx wants the blobs of the nodes one behind another
    for (const std::string& part : parts) *all += part;
    const auto release = [](void* p) { delete static_cast<std::string*>(p); };
    std::string* kept = all.release();  // read later, on PMIx's thread
    reply(PMIX_SUCCESS, kept->empty() ? nullptr : kept->data(), kept->size(), context, release,
          kept);
  });
}

void PmixServer::connect(const char* what, const std::vector<pmix_proc_t>& members, Reply reply) {
  all_gather(what, members, {},
             [reply](const Collectives::Parts&) { reply.call(PMIX_SUCCESS, reply.context); });
}

void PmixServer::construct_group(const std::string& name, const std::vector<pmix_proc_t>& members,
                                 const std::string& endpoints, pmix_info_cbfunc_t reply,
                                 void* context) {
  const uint64_t id = next_context_++;
  all_gather("construct " + name, members, endpoints, [=](const Collectives::Parts& parts) {
    std::string joined_endpoints;
    for (const std::string& part : parts) joined_endpoints += part;
    const pmix_data_array_t membership{PMIX_PROC, members.size(),
                                       const_cast<pmix_proc_t*>(members.data())};
    InfoList list;  // Open MPI needs the membership as well as the id
    list.size(PMIX_GROUP_CONTEXT_ID, id).array(PMIX_GROUP_MEMBERSHIP, &membership);
    if (!joined_endpoints.empty()) list.bytes(PMIX_GROUP_ENDPT_DATA, joined_endpoints);
    auto info = list.finish();
    if (!info) return reply(PMIX_ERR_NOMEM, nullptr, 0, context, nullptr, nullptr);
    auto* kept = new InfoArray(std::move(*info));
    const auto release = [](void* p) { delete static_cast<InfoArray*>(p); };
    reply(PMIX_SUCCESS, kept->data(), kept->size(), context, release, kept);
  });
}

void PmixServer::destruct_group(const std::string& name, const std::vector<pmix_proc_t>& members,
                                pmix_info_cbfunc_t reply, void* context) {
  all_gather("destruct " + name, members, {}, [=](const Collectives::Parts&) {
    reply(PMIX_SUCCESS, nullptr, 0, context, nullptr, nullptr);
  });
}

}  // namespace stillpoint::supervisor
