// A running job, from the side of the process that leads it: its members (one for each container),
// its front end, its checkpoint directory, and how it ends.
//
// Order of life: gather() members -> launch() or restart() -> wait_end() -> finish().  The members
// are the ones that own what the job has on their nodes.  One io_context, one thread.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/async/event.h"
#include "criu-glue/statefile/store.h"
#include "launcher/agent/conductor.h"
#include "launcher/agent/front_end.h"
#include "launcher/agent/making.h"
#include "launcher/agent/request.h"

namespace stillpoint::agent {

// Where a member is to be, and which ranks it has.
struct Seat {
  std::string node;             // as the user named it; empty: this one, which needs no name
  std::string host;             // as the node calls itself; known once the member is there
  std::vector<uint32_t> ranks;  // ascending
};

class Job {
 public:
  // `about`: the parts of the manifest that do not change while the job runs.
  Job(const asio::any_io_executor& executor, statefile::Manifest about, Identity user,
      CheckpointPolicy policy, FrontEnd& front, std::vector<Seat> seats);
  Job(const Job&) = delete;

  // Makes the members, all at once.  An error of one is that of all.
  using MakeMember =
      std::function<Task<Result<std::unique_ptr<MemberPort>>>(uint32_t index, MemberEvents events)>;
  Task<Result<>> gather(MakeMember make);

  // `start`: what is the same for all members.
  Task<Result<>> launch(link::Start start);
  // The slowest member's times.
  Task<Result<RestartTimes>> restart(uint64_t epoch);

  Task<> wait_end() { co_await ended_.wait(); }
  // After the end: the last output is written, nothing is left on any node; the exit status.
  Task<int> finish();
  Task<> disband();  // the members leave: what finish() does last, and what is due after a failure

  // ---- for the parts that act on the job (checkpoint.h, control_server.h, interval.h)

  asio::any_io_executor executor() { return executor_; }
  const statefile::Manifest& about() const { return about_; }
  const CheckpointPolicy& policy() const { return policy_; }
  const Identity& user() const { return user_; }
  const std::string& started() const { return started_; }  // UTC
  bool ended() const { return ended_.is_set(); }
  bool failed() const { return ended() && status_ != 0; }
  Conductor& conductor() { return conductor_; }
  FrontEnd& front() { return front_; }
  std::vector<Seat>& seats() { return seats_; }
  const std::vector<Seat>& seats() const { return seats_; }
  std::string directory() const;  // of its checkpoints

  // Opens the store on first use, holds its lock from then on, and sweeps it.  As the user; blocks
  // for 20 s at most.
  Result<statefile::Store> store();

  void kill(const std::string& reason, int status);  // ends the job through its supervisors
  void stopped_at_checkpoint();                      // its containers are gone on purpose
  void set_phase(std::string phase) { phase_ = std::move(phase); }
  const std::string& phase() const { return phase_; }
  // All ranks; those of members that do not answer in time are left out.
  Task<std::vector<control::RankStatus>> look(Deadline deadline);
  pid_t init_pid() const;  // of the container on this node; 0: there is none

  // Where members' progress goes; the sum over all that are in the same phase.
  void show_progress(ProgressSink* sink);

 private:
  struct Member {
    bool ended = false;
    std::string phase;
    WorkDone done;
  };
  MemberEvents events_of(uint32_t index);
  FrontEndEvents front_events();
  std::string details(coordinator::MemberId member, const coordinator::Command& command) const;
  std::string far_ends() const;
  Task<Result<coordinator::Report>> perform(coordinator::Request request);
  Result<std::string> open_store(int channel) const;
  void on_news(uint32_t member, const link::FromSupervisor& news);
  void on_progress(uint32_t member, const std::string& phase, WorkDone done);
  void on_signal(int number);
  void member_ended(uint32_t member, int status, const std::string& reason);
  void tell_all(const link::ToSupervisor& message);
  void end(int status, const std::string& reason);
  void bound_the_end();

  asio::any_io_executor executor_;
  statefile::Manifest about_;
  Identity user_;
  CheckpointPolicy policy_;
  FrontEnd& front_;
  std::vector<Seat> seats_;
  std::vector<std::unique_ptr<MemberPort>> ports_;
  std::vector<Member> members_;
  Conductor conductor_;
  uint32_t reader_ = 0;  // the member with rank 0
  link::Start start_;
  Fd store_lock_;
  Event ended_;
  asio::steady_timer end_bound_;
  bool beginning_ = false, ending_ = false;
  int interrupts_ = 0;
  int status_ = 0;
  std::string reason_;
  std::string phase_ = "starting";
  std::string started_ = utc_now();
  ProgressSink* sink_ = nullptr;
};

}  // namespace stillpoint::agent
