// A job's container on this node, from its agent's side: processes, link to the supervisor, and all
// that the job has here.  What happens in it is told to the job's lead (job.h), which is in this
// process if the job is on this node alone, else wherever it is.
//
// Order of life: prepare() claims the name and starts the guard -> made() takes a container ->
// start() or reopen() -> leave(); the destructor leaves nothing behind.  One io_context, one
// thread; what blocks is done in workers.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/async/event.h"
#include "criu-glue/container/container.h"
#include "criu-glue/container/mpi_network.h"
#include "criu-glue/statefile/record.h"
#include "launcher/agent/guard.h"
#include "launcher/agent/registry.h"
#include "launcher/agent/request.h"
#include "launcher/agent/session.h"
#include "launcher/agent/staging.h"

namespace stillpoint::agent {

// How a container of a job that has several reaches the others (mpi_network.h).
struct Tunnel {
  uint32_t vni = 0;
  std::string local;
  container::mpi_network::PortRange ports;
};

// What a part is told of its job, once.
struct PartSpec {
  std::string name;           // on its node: the job's, or paths::part_name
  uint32_t index = 0;         // of the container in its job
  statefile::Manifest about;  // the job's; without containers
  Identity user;
  CheckpointPolicy policy;
  std::optional<Tunnel> tunnel;

  // Of a restart: whence, the job's facts then, and the container as it was.
  std::string checkpoint;  // the epoch's directory
  statefile::Manifest dumped;
  std::optional<statefile::ContainerRecord> record;
};

class Part {
 public:
  // What there is to tell the lead: the Hello of every link that was opened, each record of output
  // once, StdinTaken, and Ended, once, however it ended.
  using OnNews = std::function<void(const link::FromSupervisor&)>;

  static Result<std::unique_ptr<Part>> prepare(asio::io_context& io, PartSpec spec, OnNews on_news);
  ~Part();
  Part(const Part&) = delete;

  asio::any_io_executor executor() { return io_.get_executor(); }
  const PartSpec& spec() const { return spec_; }
  const statefile::Manifest& about() const { return spec_.about; }
  const CheckpointPolicy& policy() const { return spec_.policy; }
  const Identity& user() const { return spec_.user; }
  const container::Cgroup& cgroup() const { return *cgroup_; }
  Staging& staging() { return *staging_; }

  // The container: pid 1, a child of this process, in our cgroup, and its network namespace.
  Result<> made(Child init, Fd network, const std::string& network_key);
  pid_t init_pid() const { return init_.pid(); }
  int network() const { return network_.get(); }
  uint64_t network_inode() const { return network_inode_; }
  const std::string& network_key() const { return network_key_; }
  const std::vector<int32_t>& rank_pids() const { return rank_pids_; }  // by rank; -1: not here

  Task<Result<>> start(const link::Start& start);  // the first link, and the ranks
  // The supervisor closes the link and waits.  kNotFound: the job is on its way to its end.
  Task<Result<>> park();
  // kBusy if one of the ranks that ran when it parked does so no more: a copy of them would fail.
  Result<> check_alive() const;
  Task<Result<>> reopen();  // after a park, after a restore
  // From the lead.  Signals are kept while the link is closed; a Kill that finds it closed ends
  // the container.
  void tell(const link::ToSupervisor& message);

  Task<> leave();    // the supervisor is let go
  Task<> destroy();  // the container goes as it is, frozen or not, and is not said to have ended
  void kill();       // the same, for those that cannot wait
  bool gone() const { return init_gone_.is_set(); }

 private:
  Part(asio::io_context& io, PartSpec spec, OnNews on_news, JobClaim claim, Guard guard);
  Result<> make_ground();  // cgroup and staging
  void on_message(const link::FromSupervisor& message);
  void know_ranks();
  void on_lost(const Error& error);
  Task<Result<link::Hello>> open_link(Deadline deadline);
  Task<> relink();
  Task<> watch_init();
  void end(int status, const std::string& reason);

  asio::io_context& io_;
  PartSpec spec_;
  OnNews on_news_;
  JobClaim claim_;
  Guard guard_;
  JobNote note_;
  std::optional<container::Cgroup> cgroup_;
  std::optional<Staging> staging_;
  Child init_;
  Fd network_;
  uint64_t network_inode_ = 0;
  std::string network_key_;
  std::vector<int32_t> rank_pids_;
  std::vector<int32_t> parked_pids_;  // of the ranks that ran at the park

  Session session_;
  uint64_t output_taken_ = 0;  // number of the next record to be passed on
  Event parked_, init_gone_, rank_news_;
  bool parking_ = false;  // the link is closed on purpose
  bool ending_ = false;   // the supervisor would not park
  bool ended_ = false;    // and the lead has been told
  std::vector<int> kept_signals_;
  std::optional<Error> start_error_;
};

}  // namespace stillpoint::agent
