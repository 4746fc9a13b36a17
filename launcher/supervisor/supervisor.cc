#include "launcher/supervisor/supervisor.h"

#include <pmix.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <filesystem>
#include <utility>

#include "common/log.h"
#include "common/wire/versions.h"

namespace stillpoint::supervisor {

using ErrorCode = boost::system::error_code;

namespace {

constexpr size_t kOutputQueue = 256 << 10;  // bytes given to the link at a time
constexpr size_t kMostReason = 1000;        // characters that another node may say

std::string program_of(pid_t pid, const std::string& otherwise) {
  std::error_code error;
  const auto exe = std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/exe", error);
  return error ? std::filesystem::path(otherwise).filename().string() : exe.filename().string();
}

}  // namespace

Supervisor::Supervisor(Fd listening, Fd child_signals, std::string session_directory,
                       rlimit descriptors, std::chrono::milliseconds tick)
    : link_(loop_, std::move(listening),
            {.hello = [this] { return hello(); },
             .opened = [this](const link::Hello& agent) { return opened(agent); },
             .received = [this](const link::ToSupervisor& m) { return received(m); },
             .drained = [this] { pump_output(); },
             .closed = [this] { end_told_ = false; }}),
      child_signals_(loop_, child_signals.release()),
      ticker_(loop_),
      settle_timer_(loop_),
      session_directory_(std::move(session_directory)),
      descriptors_(descriptors),
      tick_length_(tick) {}

void Supervisor::run() {
  link_.accept();
  await_children();
  await_tick();
  loop_.run();
}

// ---- the link

link::Hello Supervisor::hello() const {
  link::Hello hello;
  hello.set_version(wire::kLinkVersion);
  hello.set_stillpoint(STILLPOINT_VERSION);
  hello.set_pmix(PMIx_Get_version());
  hello.set_started(job_.began());
  hello.set_stdin_taken(input_.received());
  hello.set_stdin_closed(input_.closed());
  return hello;
}

Result<> Supervisor::opened(const link::Hello& agent) {
  if (auto r = output_.resume(agent.output_taken()); !r) return r;
  orphan_ticks_ = 0;
  tell_input_taken();
  pump_output();
  return {};
}

Result<> Supervisor::received(const link::ToSupervisor& m) {
  switch (m.body_case()) {
    case link::ToSupervisor::kStart:
      return start(m.start());
    case link::ToSupervisor::kStdin:
      return take_input(m.stdin());
    case link::ToSupervisor::kOutputTaken: {
      auto r = output_.acknowledge(m.output_taken().next());
      for (auto& pipe : output_pipes_) pipe->resume();
      return r;
    }
    case link::ToSupervisor::kSignal:
      return take_signal(m.signal().number());
    case link::ToSupervisor::kKill:
      job_.end({m.kill().status(), m.kill().reason()});
      return {};
    case link::ToSupervisor::kPark:
      park();
      return {};
    case link::ToSupervisor::kBye:
      loop_.stop();
      return {};
    case link::ToSupervisor::kState:
      send_state();
      return {};
    default:
      return fail(ErrorKind::kProtocol, "a message of unknown kind");
  }
}

Result<> Supervisor::take_input(const link::Stdin& input) {
  if (auto r = input_.offer(input.offset(), input.data(), input.end()); !r) return r;
  if (input_pipe_) input_pipe_->push();
  tell_input_taken();
  return {};
}

Result<> Supervisor::take_signal(int number) {
  if (number < 1 || number > SIGRTMAX)
    return fail(ErrorKind::kProtocol, "there is no signal " + std::to_string(number));
  job_.signal(number);
  return {};
}

// Behind the news of ranks that have ended by now.
void Supervisor::park() {
  reap();
  asio::post(loop_, [this] {
    link::FromSupervisor message;
    auto& parked = *message.mutable_parked();
    parked.set_parked(!job_.failing());
    for (const Job::Rank& rank : job_.ranks())
      if (rank.running) parked.add_running(rank.pid);
    link_.send(message);
    if (parked.parked()) link_.close_when_sent();
  });
}

void Supervisor::send_state() {
  link::FromSupervisor message;
  auto* state = message.mutable_state();
  for (const Job::Rank& r : job_.ranks()) {
    if (!r.running) continue;
    auto* one = state->add_ranks();
    one->set_rank(r.number);
    one->set_pid(r.pid);
    one->set_program(program_of(r.pid, argv_.front()));
    one->set_mpi(r.connected);
    one->set_finalized(r.finalized);
  }
  link_.send(message);
}

void Supervisor::tell_input_taken() {
  link::FromSupervisor message;
  message.mutable_stdin_taken()->set_offset(input_.passed_on());
  message.mutable_stdin_taken()->set_closed(input_.closed());
  link_.send(message);
}

void Supervisor::pump_output() {
  while (link_.open() && link_.queued() < kOutputQueue) {
    const OutputRecord* record = output_.next();
    if (!record) break;
    link::FromSupervisor message;
    auto* out = message.mutable_output();
    out->set_number(record->number);
    out->set_rank(record->rank);
    out->set_stream(record->stream == Stream::kOut ? link::STDOUT : link::STDERR);
    out->set_data(record->data);
    output_.sent();
    link_.send(message);
  }
  tell_end_when_drained();
}

// Ended is the last thing an agent hears of the job: behind all output, on every link anew.
void Supervisor::tell_end_when_drained() {
  const bool drained = std::ranges::all_of(output_pipes_, [](auto& p) { return p->at_end(); });
  if (!job_ended_ || !drained || end_told_ || !link_.open() || output_.next()) return;
  link::FromSupervisor message;
  message.mutable_ended()->set_status(job_.ending().status);
  message.mutable_ended()->set_reason(job_.ending().reason);
  end_told_ = true;
  link_.send(message);
}

// ---- Job::Actions

void Supervisor::signal_rank(uint32_t, pid_t pid, int number) {
  if (::kill(-pid, number) != 0) ::kill(pid, number);  // it may have left its group
}

void Supervisor::kill_rest() {
  if (::getpid() == 1) {
    ::kill(-1, SIGKILL);  // everything in the container but us
    return;
  }
  for (const Job::Rank& rank : job_.ranks())
    if (rank.pid) ::kill(-rank.pid, SIGKILL);
}

void Supervisor::settle() {
  settle_timer_.expires_after(kSettleTime);
  settle_timer_.async_wait([this](const ErrorCode& error) {
    if (error) return;
    job_.settled();
    pmix_->release_aborted();
  });
}

void Supervisor::failing(const Ending& cause) {
  if (!mesh_) return;
  mesh::Message message;
  message.mutable_failure()->set_status(cause.status);
  message.mutable_failure()->set_reason(cause.reason);
  mesh_->send_all(message);
}

void Supervisor::ended() {
  job_ended_ = true;
  if (job_.ending().status == 0) tell_well_ended();
  if (input_pipe_) input_pipe_->close();
  tell_end_when_drained();
}

// ---- the other nodes

void Supervisor::tell_well_ended() {
  if (!mesh_) return;
  mesh::Message message;
  message.mutable_node_ended()->set_node(placement_->self());
  if (const auto rank = job_.stranger()) message.mutable_node_ended()->set_stranger(*rank);
  mesh_->send_all(message);
}

void Supervisor::heard(uint32_t from, const mesh::Message& message) {
  if (message.has_failure()) {
    const int status = message.failure().status();
    job_.failed_elsewhere({status ? status : 1, message.failure().reason().substr(0, kMostReason)});
  } else if (message.has_node_ended()) {
    well_ended_.insert(message.node_ended().node());
    if (message.node_ended().has_stranger())
      job_.stranger_elsewhere(message.node_ended().stranger());
  } else if (pmix_) {
    if (auto r = pmix_->received(from, message); !r)
      lost(from, "it talks nonsense: " + r.error().line());
  }
}

// A node whose ranks are through may leave: nobody waits for it.
void Supervisor::lost(uint32_t node, const std::string& why) {
  const std::string name = placement_->nodes()[node].hostname;
  if (job_.has_ended() || well_ended_.contains(node)) return;
  log::warning("the supervisor of node " + name + ": " + why);
  job_.lost_elsewhere({static_cast<int>(ErrorKind::kIo),
                       "the connection to node " + name + "'s supervisor was lost (" + why + ")"});
}

// ---- time and children

void Supervisor::await_children() {
  child_signals_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const ErrorCode& e) {
    if (e) return;
    signalfd_siginfo news[16];
    while (::read(child_signals_.native_handle(), news, sizeof news) > 0) {
    }
    reap();
    await_children();
  });
}

void Supervisor::reap() {
  std::vector<Reaped> ended;
  bool children_left = false;
  while (auto one = reap_any(children_left)) ended.push_back(*one);
  // Behind what PMIx's thread has posted before they ended: that they have finalized, or aborted.
  asio::post(loop_, [this, ended = std::move(ended), children_left] {
    job_.exited(ended, children_left);
    const Job::Rank* reader = job_.rank(0);
    if (input_pipe_ && reader && !reader->running) input_pipe_->close();
  });
}

void Supervisor::await_tick() {
  ticker_.expires_after(tick_length_);
  ticker_.async_wait([this](const ErrorCode& error) {
    if (error) return;
    tick();
    await_tick();
  });
}

void Supervisor::tick() {
  link_.tick();
  if (mesh_) mesh_->tick();
  job_.tick();
  reap();
  if (job_ended_ && !output_.full() && ++drain_ticks_ == kDrainTicks) {
    for (auto& pipe : output_pipes_) pipe->close();
    tell_end_when_drained();
  }
  if (link_.open()) {
    orphan_ticks_ = 0;
    return;
  }
  orphan_ticks_++;
  if (orphan_ticks_ == kOrphanTicks)
    job_.end({static_cast<int>(ErrorKind::kTimeout),
              "no agent has called for " + std::to_string(kOrphanTicks) + " s"});
  if (orphan_ticks_ >= kOrphanTicks &&
      (!job_.began() || orphan_ticks_ >= kOrphanTicks + kFarewellTicks))
    loop_.stop();
}

}  // namespace stillpoint::supervisor
