#include "launcher/supervisor/pmix_server.h"

#include <unistd.h>

#include <set>
#include <utility>

#include "launcher/supervisor/pmix_info.h"
#include "launcher/supervisor/pmix_upcalls.h"

namespace stillpoint::supervisor {

namespace {

// Every node offers a context id; it is in front of its endpoint data.
constexpr size_t kOffer = 8;

std::string offer(uint64_t id) {
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(id >> shift & 0xff);
  return bytes;
}

uint64_t offered(const std::string& part) {
  uint64_t id = 0;
  for (size_t i = 0; i < kOffer && i < part.size(); i++)
    id |= static_cast<uint64_t>(static_cast<unsigned char>(part[i])) << (8 * i);
  return id;
}

}  // namespace

PmixServer::PmixServer(PmixJob job, Post post, Events events)
    : job_(std::move(job)),
      post_(std::move(post)),
      events_(std::move(events)),
      collectives_(job_.placement.self(), *this) {}

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
  // Servers are told apart by their ranks: an event of another's must not look like ours.
  list.text(PMIX_SERVER_NSPACE, "stillpoint-supervisor");
  list.rank(PMIX_SERVER_RANK, job_.placement.self());
  list.text(PMIX_HOSTNAME, job_.placement.here().hostname);
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
  auto info = describe(job_);
  if (!info) return fail(info.error());
  const auto local = static_cast<int>(job_.placement.here().ranks.size());
  return check_pmix(PMIx_server_register_nspace(job_.nspace.c_str(), local, info->data(),
                                                info->size(), nullptr, nullptr),
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
  return job_.nspace == proc.nspace && job_.placement.knows(proc.rank);
}

void PmixServer::release_aborted() {
  for (const Reply& reply : std::exchange(aborted_, {})) reply.call(PMIX_SUCCESS, reply.context);
}

// Every node must come to the same key for the same operation.
pmix_status_t PmixServer::all_gather(const std::string& what,
                                     const std::vector<pmix_proc_t>& members, std::string mine,
                                     Collectives::Done done) {
  std::set<uint32_t> ranks, nodes;
  bool all = false;
  for (const pmix_proc_t& member : members) {
    if (job_.nspace != member.nspace) return PMIX_ERR_NOT_FOUND;
    all = all || member.rank == PMIX_RANK_WILDCARD;
    if (member.rank == PMIX_RANK_WILDCARD) continue;
    if (!job_.placement.knows(member.rank)) return PMIX_ERR_NOT_FOUND;
    ranks.insert(member.rank);
    nodes.insert(job_.placement.node_of(member.rank));
  }
  if (all)
    for (uint32_t node = 0; node < job_.placement.nodes().size(); node++) nodes.insert(node);
  const std::string who = all ? "all" : compact({ranks.begin(), ranks.end()});
  auto r = collectives_.contribute(what + "," + who, nodes, std::move(mine), std::move(done));
  return r ? PMIX_SUCCESS : PMIX_ERR_BAD_PARAM;
}

void deliver(pmix_modex_cbfunc_t reply, void* context, pmix_status_t status, std::string bytes) {
  auto* kept = new std::string(std::move(bytes));
  const auto release = [](void* p) { delete static_cast<std::string*>(p); };
  reply(status, kept->empty() ? nullptr : kept->data(), kept->size(), context, release, kept);
}

void PmixServer::fence(const std::vector<pmix_proc_t>& members, std::string data,
                       pmix_modex_cbfunc_t reply, void* context) {
  const auto done = [reply, context](const Collectives::Parts& parts) {
    std::string all;  // PMIx wants the blobs of the nodes one behind another
    for (const std::string& part : parts) all += part;
    deliver(reply, context, PMIX_SUCCESS, std::move(all));
  };
  const pmix_status_t status = all_gather("fence", members, std::move(data), done);
  if (status != PMIX_SUCCESS) deliver(reply, context, status, {});
}

void PmixServer::connect(const char* what, const std::vector<pmix_proc_t>& members, Reply reply) {
  const auto done = [reply](const Collectives::Parts&) { reply.call(PMIX_SUCCESS, reply.context); };
  const pmix_status_t status = all_gather(what, members, {}, done);
  if (status != PMIX_SUCCESS) reply.call(status, reply.context);
}

// The id that the lowest node offers is used; no node ever offers the same twice, nor what another
// could.
void PmixServer::construct_group(const std::string& name, const std::vector<pmix_proc_t>& members,
                                 const std::string& endpoints, pmix_info_cbfunc_t reply,
                                 void* context) {
  const auto done = [=](const Collectives::Parts& parts) {
    std::string joined_endpoints;
    for (const std::string& part : parts) joined_endpoints += part.substr(kOffer);
    const pmix_data_array_t membership{PMIX_PROC, members.size(),
                                       const_cast<pmix_proc_t*>(members.data())};
    InfoList list;  // Open MPI needs the membership as well as the id
    list.size(PMIX_GROUP_CONTEXT_ID, offered(parts.front()));
    list.array(PMIX_GROUP_MEMBERSHIP, &membership);
    if (!joined_endpoints.empty()) list.bytes(PMIX_GROUP_ENDPT_DATA, joined_endpoints);
    auto info = list.finish();
    if (!info) return reply(PMIX_ERR_NOMEM, nullptr, 0, context, nullptr, nullptr);
    auto* kept = new InfoArray(std::move(*info));
    const auto release = [](void* p) { delete static_cast<InfoArray*>(p); };
    reply(PMIX_SUCCESS, kept->data(), kept->size(), context, release, kept);
  };
  const uint64_t id = next_context_++ * job_.placement.nodes().size() + job_.placement.self();
  const pmix_status_t status =
      all_gather("construct " + name, members, offer(id) + endpoints, done);
  if (status != PMIX_SUCCESS) reply(status, nullptr, 0, context, nullptr, nullptr);
}

void PmixServer::destruct_group(const std::string& name, const std::vector<pmix_proc_t>& members,
                                pmix_info_cbfunc_t reply, void* context) {
  const auto answer = [=](pmix_status_t status) {
    reply(status, nullptr, 0, context, nullptr, nullptr);
  };
  const pmix_status_t status =
      all_gather("destruct " + name, members, {},
                 [answer](const Collectives::Parts&) { answer(PMIX_SUCCESS); });
  if (status != PMIX_SUCCESS) answer(status);
}

}  // namespace stillpoint::supervisor
