#include "launcher/supervisor/job.h"

#include <signal.h>

#include <algorithm>
#include <utility>

namespace stillpoint::supervisor {

namespace {

std::string name(uint32_t rank) {
  return "rank " + std::to_string(rank);
}

// An exit status has eight bits; a failure must not look like success.
int failure_status(int code) {
  return (code & 0xff) ? code & 0xff : 1;
}

}  // namespace

const Job::Rank* Job::rank(uint32_t number) const {
  const auto found = std::ranges::lower_bound(ranks_, number, {}, &Rank::number);
  return found != ranks_.end() && found->number == number ? &*found : nullptr;
}

void Job::begin(const std::vector<uint32_t>& ranks) {
  for (const uint32_t number : ranks) ranks_.push_back({.number = number});
  phase_ = Phase::kRunning;
}

void Job::rank_started(uint32_t rank, pid_t pid) {
  if (Rank* r = find(rank)) {
    r->pid = pid;
    r->running = children_left_ = true;
  }
}

void Job::exited(const std::vector<Reaped>& reaped, bool children_left) {
  // The order of waitpid() is not that of the deaths: of several, one by a signal is the likelier
  // cause.
  for (const bool by_signal : {true, false})
    for (const Reaped& one : reaped)
      if ((one.exit.signal != 0) == by_signal)
        for (Rank& rank : ranks_)
          if (rank.running && rank.pid == one.pid) rank_exited(rank, one.exit);
  children_left_ = children_left;
  advance(children_left);
}

void Job::rank_exited(Rank& r, const Exit& exit) {
  r.running = false;
  if (phase_ != Phase::kRunning && phase_ != Phase::kSettling) return;
  if (r.aborted) return;  // counted already
  if (exit.signal)
    fail_job({exit.status(), name(r.number) + " was " + exit.describe()});
  else if (exit.code)
    fail_job({exit.status(), name(r.number) + " ended with " + exit.describe()});
  else if (r.connected && !r.finalized)
    fail_job({1, name(r.number) + " ended without calling MPI_Finalize"});
  else
    check_strangers();
}

std::optional<uint32_t> Job::stranger() const {
  const auto gone = std::ranges::find_if(
      ranks_, [](const Rank& r) { return r.pid != 0 && !r.running && !r.connected; });
  return gone == ranks_.end() ? std::nullopt : std::optional(gone->number);
}

// If some ranks call MPI_Init and others end without it, the first would wait for the others for
// ever.
void Job::check_strangers() {
  if (phase_ != Phase::kRunning) return;
  const auto mpi = std::ranges::find_if(ranks_, [](const Rank& r) { return r.connected; });
  auto gone = stranger();
  if (!gone) gone = stranger_elsewhere_;
  if (mpi == ranks_.end() || !gone) return;
  fail_job(
      {1, name(*gone) + " ended without calling MPI_Init, which " + name(mpi->number) + " did"});
}

void Job::stranger_elsewhere(uint32_t rank) {
  if (!stranger_elsewhere_) stranger_elsewhere_ = rank;
  check_strangers();
}

void Job::connected(uint32_t rank) {
  if (Rank* r = find(rank)) {
    r->connected = true;
    r->finalized = false;
    check_strangers();
  }
}

void Job::finalized(uint32_t rank) {
  if (Rank* r = find(rank)) r->finalized = true;
}

void Job::aborted(uint32_t rank, int code) {
  Rank* r = find(rank);
  if (!r) return;
  r->aborted = true;
  if (phase_ != Phase::kRunning) return;
  phase_ = Phase::kSettling;
  cause_ =
      Ending{failure_status(code), name(rank) + " called MPI_Abort(" + std::to_string(code) + ")"};
  actions_.settle();
}

void Job::settled() {
  if (phase_ == Phase::kSettling) start_ending();
}

void Job::fail_job(Ending ending) {
  cause_ = std::move(ending);
  start_ending();
}

void Job::end(Ending ending) {
  if (phase_ == Phase::kSettling) {
    settled();
  } else if (phase_ == Phase::kRunning || phase_ == Phase::kIdle) {
    cause_ = std::move(ending);
    start_ending();
    advance(children_left_);
  }
}

void Job::failed_elsewhere(Ending ending) {
  if (!undecided()) return;
  cause_ = std::move(ending);
  begin_end();
  advance(children_left_);
}

void Job::lost_elsewhere(Ending ending) {
  if (!undecided()) return;
  fail_job(std::move(ending));
  advance(children_left_);
}

void Job::start_ending() {
  actions_.failing(*cause_);
  begin_end();
}

void Job::begin_end() {
  phase_ = Phase::kEnding;
  ticks_left_ = kGraceTicks;
  killed_ = false;
  signal_running(SIGTERM);
  signal_running(SIGCONT);  // a stopped process would not hear it
}

void Job::signal(int number) {
  signal_running(number);
}

void Job::signal_running(int number) {
  for (const Rank& rank : ranks_)
    if (rank.running) actions_.signal_rank(rank.number, rank.pid, number);
}

bool Job::any_running() const {
  return std::ranges::any_of(ranks_, [](const Rank& r) { return r.running; });
}

void Job::advance(bool children_left) {
  if (phase_ == Phase::kIdle || phase_ == Phase::kEnded) return;
  if (phase_ != Phase::kClearing) {
    const bool all_started = phase_ == Phase::kEnding ||
                             std::ranges::all_of(ranks_, [](const Rank& r) { return r.pid; });
    if (any_running() || !all_started) return;
    phase_ = Phase::kClearing;
    ticks_left_ = kLingerTicks;
    killed_ = false;
    if (cause_ && children_left) kill_rest();
  }
  if (!children_left) finish();
}

void Job::kill_rest() {
  killed_ = true;
  ticks_left_ = kGiveUpTicks;
  actions_.kill_rest();
}

void Job::finish() {
  phase_ = Phase::kEnded;
  actions_.ended();
}

void Job::tick() {
  if (phase_ != Phase::kEnding && phase_ != Phase::kClearing) return;
  if (--ticks_left_ > 0) return;
  if (killed_) {
    if (any_running()) cause_->reason += "; some of its processes cannot be killed";
    finish();
  } else if (phase_ == Phase::kEnding) {
    killed_ = true;
    ticks_left_ = kGiveUpTicks;
    signal_running(SIGKILL);
  } else {
    kill_rest();
  }
}

}  // namespace stillpoint::supervisor
