#include "launcher/agent/job.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "common/log.h"
#include "common/paths.h"
#include "launcher/agent/launch.h"

namespace stillpoint::agent {

using namespace std::chrono_literals;

namespace {

constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);
constexpr auto kHoldOutput = 2s;  // for a record to be written
constexpr auto kLinkWait = 30s;   // a supervisor that does not answer within this is stuck

link::ToSupervisor message() {
  return {};
}

}  // namespace

Result<std::unique_ptr<Job>> Job::prepare(asio::io_context& io, statefile::Manifest about,
                                          Identity user, CheckpointPolicy policy) {
  auto claim = JobClaim::claim(about.job);
  if (!claim) return fail(claim.error());
  auto guard = Guard::start(*claim, about.job);
  if (!guard) return fail(guard.error().during("starting the guard"));
  std::unique_ptr<Job> job(new Job(io, std::move(about), std::move(user), std::move(policy),
                                   std::move(*claim), std::move(*guard)));
  if (auto r = job->make_ground(); !r) return fail(r.error());
  return job;
}

Job::Job(asio::io_context& io, statefile::Manifest about, Identity user, CheckpointPolicy policy,
         JobClaim claim, Guard guard)
    : io_(io),
      about_(std::move(about)),
      user_(std::move(user)),
      policy_(std::move(policy)),
      claim_(std::move(claim)),
      guard_(std::move(guard)),
      session_(io.get_executor(),
               {[this](const auto& m) { on_message(m); }, [this](const Error& e) { on_lost(e); }}),
      output_(
          io.get_executor(), about_.tag_output,
          [this](uint64_t next) {
            auto m = message();
            m.mutable_output_taken()->set_next(next);
            session_.send(m);
          },
          // As mpirun and a shell's pipeline do it: `stillpoint run yes | head` ends.
          [this] { kill("nobody reads its standard output any more", 128 + SIGPIPE); }),
      input_(io.get_executor(),
             [this](const link::Stdin& in) {
               auto m = message();
               *m.mutable_stdin() = in;
               session_.send(m);
             }),
      parked_(io.get_executor()),
      ended_(io.get_executor()),
      init_gone_(io.get_executor()),
      rank_news_(io.get_executor()) {
  note_.job = about_.job;
  note_.agent_pid = ::getpid();
}

Job::~Job() {
  session_.close();
  if (cgroup_)
    if (auto r = cgroup_->destroy(Deadline::in(20s)); !r) log::warning(r.error().line());
  init_.kill();
  staging_.reset();
  note_.cgroup.clear();
  if (auto r = clean_up(note_); !r) log::warning(r.error().line());
  guard_.dismiss();
}

Result<> Job::tell_guard() {
  if (auto r = guard_.tell(note_); !r) return r;
  return claim_.write(note_);
}

Result<> Job::make_ground() {
  auto staging = Staging::create(policy_.staging, about_.job);
  if (!staging) return fail(staging.error());
  note_.staging = staging->path();
  staging_.emplace(std::move(*staging));
  auto cgroup = container::Cgroup::create("stillpoint-" + about_.job);
  if (!cgroup) return fail(cgroup.error().during("making the job's cgroup"));
  note_.cgroup = cgroup->path();
  cgroup_.emplace(std::move(*cgroup));
  return tell_guard();
}

Result<> Job::launch(const RunRequest& request) {
  auto spec = container_spec(request);
  if (!spec) return fail(spec.error());
  auto made = container::create(*spec, *cgroup_, Deadline::in(kLinkWait));
  if (!made) return fail(made.error().during("making the container"));
  init_ = std::move(made->init);
  network_ = std::move(made->network);
  network_inode_ = made->network_inode;
  network_key_ = "network";
  return {};
}

Result<> Job::adopt(pid_t init, const std::string& network_key) {
  auto child = Child::adopt(init);
  if (!child) return fail(child.error());
  init_ = std::move(*child);
  network_key_ = network_key;
  struct stat s{};
  const std::string path = "/proc/" + std::to_string(init) + "/ns/net";
  if (::stat(path.c_str(), &s) != 0) return fail_errno(path);
  network_inode_ = s.st_ino;
  return {};
}

Result<statefile::Store> Job::store() {
  auto acting = ActingAs::user(user_);
  if (!acting) return fail(acting.error());
  // Made once.  One that vanishes later (unmounted, removed) is not made anew: what is kept there
  // would end up beside what was kept before.
  struct stat s{};
  if (store_lock_ && ::stat(policy_.directory.c_str(), &s) != 0)
    return fail(system_error("checkpoint directory " + policy_.directory, errno));
  auto store = statefile::Store::open(policy_.directory, about_.job, about_.step, true);
  if (!store) return fail(store.error().during("checkpoint directory"));
  const bool held = store_lock_ && ::fstat(store_lock_.get(), &s) == 0 && s.st_nlink > 0;
  if (!held) {
    auto lock = store->lock();
    if (!lock) return fail(lock.error());
    store_lock_ = std::move(*lock);
  }
  return store;
}

// ---- the link

Task<Result<link::Hello>> Job::open_link(Deadline deadline) {
  auto socket = container::connect_supervisor(init_.pid(), deadline);
  if (!socket) co_return fail(socket.error());
  auto hello = co_await session_.open(std::move(*socket), output_.taken(), deadline);
  if (hello) about_.pmix_version = hello->pmix();
  if (hello && hello->started()) {
    input_.opened(hello->stdin_taken(), hello->stdin_closed());
    auto ask = message();
    ask.mutable_state();
    rank_news_.reset();
    session_.send(ask);
  }
  for (const int number : std::exchange(kept_signals_, {})) signal(number);
  co_return hello;
}

Task<Result<>> Job::connect(const std::optional<link::Start>& start) {
  const Deadline deadline = Deadline::in(kLinkWait);
  asio::co_spawn(io_, watch_init(), asio::detached);
  asio::co_spawn(io_, watch_signals(), asio::detached);
  auto hello = co_await open_link(deadline);
  if (!hello) co_return fail(hello.error().during("the job's supervisor"));
  if (start) {
    auto m = message();
    *m.mutable_start() = *start;
    session_.send(m);
    input_.opened(0, false);
  }
  if (!co_await rank_news_.wait(deadline))
    co_return fail(ErrorKind::kTimeout, "the supervisor did not start the ranks within 30 s");
  co_return Result<>();
}

void Job::on_message(const link::FromSupervisor& m) {
  if (m.has_output()) {
    output_.take(m.output());
  } else if (m.has_stdin_taken()) {
    input_.taken(m.stdin_taken());
  } else if (m.has_started()) {
    rank_pids_.assign(static_cast<size_t>(about_.ranks), 0);
    for (int i = 0; i < std::min(m.started().pids_size(), m.started().ranks_size()); i++)
      if (m.started().ranks(i) < rank_pids_.size())
        rank_pids_[m.started().ranks(i)] = m.started().pids(i);
    rank_news_.set();
  } else if (m.has_state()) {
    rank_pids_.assign(static_cast<size_t>(about_.ranks), 0);
    for (const auto& rank : m.state().ranks())
      if (rank.rank() < rank_pids_.size()) rank_pids_[rank.rank()] = rank.pid();
    rank_news_.set();
  } else if (m.has_start_failed()) {
    start_error_.emplace(static_cast<ErrorKind>(m.start_failed().status()),
                         m.start_failed().reason());
    end(m.start_failed().status(), {});
  } else if (m.has_ended()) {
    end(m.ended().status(), m.ended().reason());
  }
}

void Job::on_lost(const Error& error) {
  input_.suspend();
  // Only the end of the stream, not the Parked before it, says that the supervisor's descriptor is
  // gone: a socket that is still open there could not be dumped.
  if (parking_) return parked_.set();
  if (ended() || init_gone_.is_set()) return;
  log::debug(error.line() + "; connecting again");
  asio::co_spawn(io_, relink(), asio::detached);
}

Task<> Job::relink() {
  // The link also ends when the container dies; that is watch_init's to tell.
  if (co_await init_gone_.wait(Deadline::in(200ms))) co_return;
  if (parking_ || ended()) co_return;
  if (auto r = co_await open_link(Deadline::in(10s)); !r && !ended() && !init_gone_.is_set())
    end(static_cast<int>(ErrorKind::kInternal),
        "the job's supervisor does not answer: " + r.error().line());
}

Task<Result<>> Job::park() {
  if (!co_await output_.hold(Deadline::in(kHoldOutput)))
    log::debug("somebody reads our output slowly or not at all");
  if (!session_.is_open()) {
    output_.release();
    co_return fail(ErrorKind::kBusy, "the link to the supervisor is down");
  }
  parking_ = true;
  parked_.reset();
  output_at_park_ = output_.acknowledged();
  auto m = message();
  m.mutable_park();
  session_.send(m);
  if (!co_await parked_.wait(Deadline::in(kLinkWait))) {
    parking_ = false;
    output_.release();
    co_return fail(ErrorKind::kTimeout, "the supervisor did not close its link within 30 s");
  }
  session_.close();
  input_.suspend();
  co_return Result<>();
}

Task<Result<>> Job::reopen() {
  parking_ = false;
  output_.release();
  auto hello = co_await open_link(Deadline::in(kLinkWait));
  if (!hello) {
    // A container that died while it was held shows here first; let watch_init tell that story.
    if (co_await init_gone_.wait(Deadline::in(1s))) co_return Result<>();
    co_return fail(hello.error().during("calling the supervisor again"));
  }
  co_return Result<>();
}

// ---- signals and ends

void Job::signal(int number) {
  if (!session_.is_open()) {
    kept_signals_.push_back(number);
    return;
  }
  auto m = message();
  m.mutable_signal()->set_number(number);
  session_.send(m);
}

void Job::kill(const std::string& reason, int status) {
  auto m = message();
  m.mutable_kill()->set_reason(reason);
  m.mutable_kill()->set_status(status);
  if (session_.is_open())
    session_.send(m);
  else
    end(status, reason);
}

void Job::stopped_at_checkpoint() {
  output_.drop();
  end(kStoppedAtCheckpoint, {});
}

void Job::end(int status, std::string reason) {
  if (ended()) return;
  status_ = status;
  reason_ = std::move(reason);
  ended_.set();
  rank_news_.set();  // whoever waits for the ranks to start
}

Task<> Job::watch_init() {
  asio::posix::stream_descriptor pidfd(io_, ::dup(init_.pidfd()));
  co_await pidfd.async_wait(asio::posix::stream_descriptor::wait_read, kQuietly);
  init_gone_.set();
  if (!ended()) end(128 + SIGKILL, "its container was killed");
}

Task<> Job::watch_signals() {
  asio::signal_set signals(io_, SIGINT, SIGTERM, SIGHUP);
  signals.add(SIGUSR1);
  signals.add(SIGUSR2);
  for (;;) {
    const auto [error, number] = co_await signals.async_wait(kQuietly);
    if (error) co_return;
    if (number == SIGINT || number == SIGTERM) interrupts_++;
    if (interrupts_ < 2 || (number != SIGINT && number != SIGTERM)) {
      signal(number);
    } else if (interrupts_ == 2) {
      log::info("asked again to end: ending the ranks");
      kill("ended by signal " + std::to_string(number), 128 + number);
    } else {
      end(128 + number, "ended by signal " + std::to_string(number));
    }
  }
}

Task<> Job::end_gracefully() {
  // A reader of our output that has stopped reading holds the end up; whoever waits can interrupt.
  const int interrupts = interrupts_;
  while (!co_await output_.drained(Deadline::in(200ms)) && interrupts_ <= interrupts) {
  }
  auto m = message();
  m.mutable_bye();
  session_.send(m);
  if (!init_gone_.is_set()) co_await init_gone_.wait(Deadline::in(10s));
}

Task<int> Job::finish() {
  set_phase("ending");
  co_await end_gracefully();
  if (!reason_.empty()) log::error("job " + about_.job + ": " + reason_);
  co_return status_;
}

}  // namespace stillpoint::agent
