// The supervisor: pid 1 of a job's container.  It starts the ranks when the agent says so, serves
// them PMIx, carries their streams, reaps them, and tells the agent how the job has ended.
//
// This class is the wiring of engines (job.h, output.h, input.h) and adapters (link.h, pipes.h,
// pmix_server.h) on one main loop.  Everything that it holds lies inside of the container, except
// the link, which is closed while the container is dumped; and time is counted in ticks, so that a
// frozen job does not wake up to timeouts.
//
// In a job over several nodes it also talks to the supervisors of the others (mesh.h), which lie in
// containers of their own: about PMIx, and about failures, so that the job ends everywhere.
//
// Without an agent for kOrphanTicks (after a lost link, or from the start) the job is ended: nobody
// could take its output, checkpoint it or account for it.
#pragma once

#include <sys/resource.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "launcher/supervisor/job.h"
#include "launcher/supervisor/link.h"
#include "launcher/supervisor/mesh.h"
#include "launcher/supervisor/pipes.h"
#include "launcher/supervisor/placement.h"
#include "launcher/supervisor/pmix_server.h"
#include "launcher/supervisor/rank.h"

namespace stillpoint::supervisor {

class Supervisor : private Job::Actions {
 public:
  static constexpr int kOrphanTicks = 60;
  static constexpr int kFarewellTicks =
      40;  // for an orphaned job to end; then we leave, and the kernel ends the rest
  static constexpr int kDrainTicks = 5;  // for pipes that somebody still holds though all is killed
  static constexpr auto kSettleTime = std::chrono::milliseconds(100);
  static constexpr size_t kLeastToken = 16;  // bytes

  // `child_signals`: a signalfd for SIGCHLD, which is blocked in all threads.  `session_directory`
  // exists. `descriptors`: the limit that the ranks are to have.
  Supervisor(Fd listening, Fd child_signals, std::string session_directory, rlimit descriptors,
             std::chrono::milliseconds tick);

  // Until the agent says Bye, or there has been none for too long.
  void run();
  void leave() { kill_rest(); }  // what is left of the job

 private:
  // Job::Actions
  void signal_rank(uint32_t rank, pid_t pid, int number) override;
  void kill_rest() override;
  void settle() override;
  void failing(const Ending& cause) override;
  void ended() override;

  // The link.
  link::Hello hello() const;
  Result<> opened(const link::Hello& agent);
  Result<> received(const link::ToSupervisor& message);
  Result<> take_input(const link::Stdin& input);
  Result<> take_signal(int number);
  void park();
  void send_state();
  void tell_input_taken();
  void pump_output();
  void tell_end_when_drained();

  // The ranks.
  Result<> start(const link::Start& start);
  Result<> check_start(const link::Start& start) const;
  Result<> start_ranks(const link::Start& start, const Placement& placement);
  Result<> start_mesh(const link::Start& start, const Placement& placement);
  PmixServer::Events pmix_events();
  Result<> start_one(const Launch& launch, const link::Start& start, uint32_t rank,
                     uint32_t local_rank);
  void tell_started();
  void adopt_streams(uint32_t rank, RankProcess process);

  // The other nodes.
  void heard(uint32_t from, const mesh::Message& message);
  void lost(uint32_t node, const std::string& why);
  void tell_well_ended();

  void reap();
  void await_children();
  void await_tick();
  void tick();

  asio::io_context loop_;
  Job job_{*this};
  OutputLog output_;
  InputBuffer input_;
  Link link_;
  asio::posix::stream_descriptor child_signals_;
  asio::steady_timer ticker_, settle_timer_;
  std::string session_directory_;
  rlimit descriptors_;
  std::chrono::milliseconds tick_length_;
  std::optional<Placement> placement_;  // from Start on, if it made sense
  std::unique_ptr<Mesh> mesh_;          // in a job over several nodes
  std::set<uint32_t> well_ended_;       // nodes
  std::unique_ptr<PmixServer> pmix_;
  std::vector<std::unique_ptr<OutputPipe>> output_pipes_;
  std::unique_ptr<InputPipe> input_pipe_;
  std::vector<std::string> argv_;
  bool job_ended_ = false, end_told_ = false;  // told: on the present link
  int orphan_ticks_ = 0, drain_ticks_ = 0;
};

}  // namespace stillpoint::supervisor
