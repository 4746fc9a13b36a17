// The PMIx server of this container: what the ranks' MPI library talks to.  An adapter; the
// thinking is done by the engines that it feeds (collectives.h, data_store.h) and by whoever takes
// its events (job.h).
//
// PMIx calls us on a thread of its own.  Its upcalls (pmix_upcalls.cc) copy their arguments and
// post what is to be done to the main loop.  Answers are given from there, except those to publish,
// lookup and unpublish, which PMIx 5.0.7 takes on its own thread alone.  One server per process.
//
// What concerns ranks of several nodes is done together with the other nodes' servers
// (pmix_remote.cc): collective operations, what a rank has told about itself, events; and what
// ranks publish for each other is kept by node 0.  What waits for a node that is lost, waits until
// the job ends of that; so does a lookup of what nobody publishes.
#pragma once

#include <pmix.h>
#include <pmix_server.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/wire/mesh.pb.h"
#include "launcher/supervisor/collectives.h"
#include "launcher/supervisor/data_store.h"
#include "launcher/supervisor/environment.h"
#include "launcher/supervisor/output.h"
#include "launcher/supervisor/pmix_job_info.h"

namespace stillpoint::supervisor {

class PmixServer : private Collectives::Outlet {
 public:
  using Task = std::function<void()>;
  using Post = std::function<void(Task)>;  // from any thread to the main loop, in order
  struct Events {                          // on the main loop
    std::function<void(uint32_t rank)> connected, finalized;
    std::function<void(uint32_t rank, int code)> aborted;  // it waits until release_aborted()
    std::function<void(uint32_t rank, Stream stream, std::string text)> said;
    // To the servers of other nodes; never called in a job of one.
    std::function<void(const std::vector<uint32_t>& nodes, const mesh::Message&)> send;
    std::function<void(const mesh::Message&)> send_all;
  };

  // Signals must be blocked by the caller: PMIx's threads inherit that.
  static Result<std::unique_ptr<PmixServer>> start(PmixJob job, Post post, Events events);
  ~PmixServer() override;
  PmixServer(const PmixServer&) = delete;
  PmixServer& operator=(const PmixServer&) = delete;

  // Expects the rank as a client; what its environment must hold to find us.
  Result<Environment> register_rank(uint32_t rank);
  // Answers the ranks that called PMIx_Abort.
  void release_aborted();
  // From another node's server.  kProtocol if it makes no sense; nothing has happened then.
  Result<> received(uint32_t from, const mesh::Message& message);

 private:
  friend struct Upcalls;
  struct Reply {  // an operation's callback
    pmix_op_cbfunc_t call;
    void* context;
  };

  PmixServer(PmixJob job, Post post, Events events);
  Result<> init();
  Result<> register_job();
  bool is_rank(const pmix_proc_t& proc) const;

  // Collectives::Outlet
  void gather(uint32_t above, const std::string& key, const Collectives::Bundle& parts) override;
  void spread(const std::vector<uint32_t>& below, const std::string& key,
              const Collectives::Bundle& all) override;

  // On the main loop.
  pmix_status_t all_gather(const std::string& what, const std::vector<pmix_proc_t>& members,
                           std::string mine, Collectives::Done done);
  void fence(const std::vector<pmix_proc_t>& members, std::string data, pmix_modex_cbfunc_t reply,
             void* context);
  void connect(const char* what, const std::vector<pmix_proc_t>& members, Reply reply);
  void construct_group(const std::string& name, const std::vector<pmix_proc_t>& members,
                       const std::string& endpoints, pmix_info_cbfunc_t reply, void* context);
  void destruct_group(const std::string& name, const std::vector<pmix_proc_t>& members,
                      pmix_info_cbfunc_t reply, void* context);

  // The same, with other nodes: pmix_remote.cc.
  struct ModexAsked {
    uint32_t node;
    pmix_modex_cbfunc_t reply;
    void* context;
  };
  struct StoreAsked {
    pmix_op_cbfunc_t done;  // one of the two
    pmix_lookup_cbfunc_t found;
    void* context;
  };
  void send(uint32_t node, const mesh::Message& message);
  void ask_modex(uint32_t rank, pmix_modex_cbfunc_t reply, void* context);
  Result<> answer_modex(uint32_t node, const mesh::ModexRequest& request);
  Result<> take_modex(uint32_t node, const mesh::ModexReply& reply);
  void ask_store(mesh::StoreRequest request, const StoreAsked& asked);
  void serve_store(uint32_t node, const mesh::StoreRequest& request);
  pmix_status_t publish(const mesh::StoreRequest& request);
  void look_up(uint32_t node, const mesh::StoreRequest& request);
  void answer_store(uint32_t node, const mesh::StoreReply& reply);
  Result<> take_store(const mesh::StoreReply& reply);
  Result<> take_event(const mesh::Event& event);

  PmixJob job_;
  Post post_;
  Events events_;
  Collectives collectives_;
  uint64_t next_context_ = 1;   // of groups; never the same twice
  std::vector<Reply> aborted_;  // held back
  DataStore store_;             // of node 0
  uint64_t next_request_ = 1;
  std::map<uint64_t, ModexAsked> modex_asked_;
  std::map<uint64_t, StoreAsked> store_asked_;
  bool initialized_ = false;
};

// Hands bytes to PMIx, which reads them later, on its own thread.
void deliver(pmix_modex_cbfunc_t reply, void* context, pmix_status_t status, std::string bytes);

}  // namespace stillpoint::supervisor
