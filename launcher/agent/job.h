// A running job on this node, from its agent's side: container, link, relayed output and input,
// signals, checkpoints, end.  One io_context, one thread; what blocks is done in workers.
//
// Order of life: prepare() claims the name and starts the guard -> launch() or adopt() brings a
// container -> connect() -> wait_end() -> finish() -> the destructor leaves nothing behind.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/async/event.h"
#include "criu-glue/container/container.h"
#include "criu-glue/statefile/store.h"
#include "launcher/agent/guard.h"
#include "launcher/agent/input_relay.h"
#include "launcher/agent/output_relay.h"
#include "launcher/agent/progress_sink.h"
#include "launcher/agent/registry.h"
#include "launcher/agent/request.h"
#include "launcher/agent/session.h"
#include "launcher/agent/staging.h"

namespace stillpoint::agent {

class Job {
 public:
  // `about`: the parts of the manifest that do not change while the job runs.
  static Result<std::unique_ptr<Job>> prepare(asio::io_context& io, statefile::Manifest about,
                                              Identity user, CheckpointPolicy policy);
  ~Job();
  Job(const Job&) = delete;

  // Makes the container and the supervisor in it.
  Result<> launch(const RunRequest& request);
  // Takes a container that CRIU has restored: its pid 1, a child of this process, in our cgroup.
  Result<> adopt(pid_t init, const std::string& network_key);

  // The first link: starts the ranks of a fresh job, or goes on with those of a restored one.
  Task<Result<>> connect(const std::optional<link::Start>& start);

  // The reason why the ranks could not be started, if they could not.
  std::optional<Error> start_error() const { return start_error_; }

  Task<> wait_end() { co_await ended_.wait(); }
  // After the end: the last output is written, the supervisor let go; the job's exit status.
  Task<int> finish();

  // ---- for the parts that act on the job (checkpoint.h, control_server.h, signals)

  asio::any_io_executor executor() { return io_.get_executor(); }
  const statefile::Manifest& about() const { return about_; }
  statefile::Manifest& about() { return about_; }
  const CheckpointPolicy& policy() const { return policy_; }
  const Identity& user() const { return user_; }
  const container::Cgroup& cgroup() const { return *cgroup_; }
  Staging& staging() { return *staging_; }
  pid_t init_pid() const { return init_.pid(); }
  uint64_t network_inode() const { return network_inode_; }
  const std::string& network_key() const { return network_key_; }
  const std::vector<int32_t>& rank_pids() const { return rank_pids_; }
  WrittenBytes output_at_park() const { return output_at_park_; }
  const std::string& started() const { return started_; }  // UTC
  bool ended() const { return ended_.is_set(); }
  bool failed() const { return ended() && status_ != 0; }

  // Opens the store on first use and holds its lock from then on.  Acts as the user.
  Result<statefile::Store> store();

  Task<Result<>> park();                             // the supervisor closes the link and waits
  Task<Result<>> reopen();                           // after a park, or after a loss
  void signal(int number);                           // to the ranks; kept while the link is parked
  void kill(const std::string& reason, int status);  // ends the job through the supervisor
  void stopped_at_checkpoint();                      // the container is gone on purpose
  void set_phase(std::string phase) { phase_ = std::move(phase); }
  const std::string& phase() const { return phase_; }

 private:
  Job(asio::io_context& io, statefile::Manifest about, Identity user, CheckpointPolicy policy,
      JobClaim claim, Guard guard);
  Result<> tell_guard();
  Result<> make_ground();  // cgroup and staging
  void on_message(const link::FromSupervisor& message);
  void on_lost(const Error& error);
  Task<Result<link::Hello>> open_link(Deadline deadline);
  Task<> relink();
  Task<> watch_init();
  Task<> watch_signals();
  Task<> end_gracefully();
  void end(int status, std::string reason);

  asio::io_context& io_;
  statefile::Manifest about_;
  Identity user_;
  CheckpointPolicy policy_;
  JobClaim claim_;
  Guard guard_;
  JobNote note_;
  std::optional<container::Cgroup> cgroup_;
  std::optional<Staging> staging_;
  std::optional<statefile::Store> store_;
  Fd store_lock_;
  Child init_;
  Fd network_;
  uint64_t network_inode_ = 0;
  std::string network_key_;
  std::vector<int32_t> rank_pids_;

  Session session_;
  OutputRelay output_;
  InputRelay input_;
  Event parked_, ended_, init_gone_, rank_news_;
  bool parking_ = false;  // the link is closed on purpose
  WrittenBytes output_at_park_;
  std::vector<int> kept_signals_;
  int interrupts_ = 0;
  int status_ = 0;
  std::optional<Error> start_error_;
  std::string reason_;
  std::string phase_ = "starting";
  std::string started_ = utc_now();
};

}  // namespace stillpoint::agent
