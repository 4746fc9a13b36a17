// The PMIx server of this container: what the ranks' MPI library talks to.  An adapter; the
// thinking is done by the engines that it feeds (collectives.h, data_store.h) and by whoever takes
// its events (job.h).
//
// PMIx calls us on a thread of its own.  Its upcalls (pmix_upcalls.cc) copy their arguments and
// post what is to be done to the main loop; only publish and lookup are served on PMIx's thread,
// because PMIx 5.0.7 takes the answer to a lookup on that thread alone.  One server per process.  A
// lookup that waits does so until the job ends.
#pragma once

#include <pmix.h>
#include <pmix_server.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "launcher/supervisor/collectives.h"
#include "launcher/supervisor/data_store.h"
#include "launcher/supervisor/environment.h"
#include "launcher/supervisor/output.h"

namespace stillpoint::supervisor {

struct PmixJob {
  std::string nspace;  // at most 255 characters
  std::string hostname;
  std::string session_directory;  // exists, private to the user
  Launch launch;
};

class PmixServer {
 public:
  using Task = std::function<void()>;
  using Post = std::function<void(Task)>;  // from any thread to the main loop, in order
  struct Events {                          // on the main loop
    std::function<void(uint32_t rank)> connected, finalized;
    std::function<void(uint32_t rank, int code)> aborted;  // it waits until release_aborted()
    std::function<void(uint32_t rank, Stream stream, std::string text)> said;
  };

  // Signals must be blocked by the caller: PMIx's threads inherit that.
  static Result<std::unique_ptr<PmixServer>> start(PmixJob job, Post post, Events events);
  ~PmixServer();
  PmixServer(const PmixServer&) = delete;
  PmixServer& operator=(const PmixServer&) = delete;

  // Expects the rank as a client; what its environment must hold to find us.
  Result<Environment> register_rank(uint32_t rank);
  // Answers the ranks that called PMIx_Abort.
  void release_aborted();

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

  // On the main loop.
  void all_gather(const std::string& what, const std::vector<pmix_proc_t>& members,
                  std::string mine, Collectives::Done done);
  void fence(const std::vector<pmix_proc_t>& members, std::string data, pmix_modex_cbfunc_t reply,
             void* context);
  void connect(const char* what, const std::vector<pmix_proc_t>& members, Reply reply);
  void construct_group(const std::string& name, const std::vector<pmix_proc_t>& members,
                       const std::string& endpoints, pmix_info_cbfunc_t reply, void* context);
  void destruct_group(const std::string& name, const std::vector<pmix_proc_t>& members,
                      pmix_info_cbfunc_t reply, void* context);

  PmixJob job_;
  Post post_;
  Events events_;
  Collectives collectives_{0};
  uint64_t next_context_ = 1;   // of groups; never the same twice
  std::vector<Reply> aborted_;  // held back
  DataStore store_;             // PMIx's thread only
  bool initialized_ = false;
};

}  // namespace stillpoint::supervisor
