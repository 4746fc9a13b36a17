#include "launcher/agent/part.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>

#include "common/log.h"
#include "common/paths.h"
#include "launcher/agent/node_facts.h"

namespace stillpoint::agent {

using namespace std::chrono_literals;

namespace {

constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);
constexpr auto kLinkWait = 30s;  // a supervisor that does not answer within this is stuck
constexpr auto kByeWait = 10s;
constexpr auto kKillWait = 20s;

}  // namespace

Result<std::unique_ptr<Part>> Part::prepare(asio::io_context& io, PartSpec spec, OnNews on_news) {
  const std::string name = spec.name;
  auto claim = JobClaim::claim(name);
  if (!claim) return fail(claim.error());
  auto guard = Guard::start(*claim, name);
  if (!guard) return fail(guard.error().during("starting the guard"));
  std::unique_ptr<Part> part(
      new Part(io, std::move(spec), std::move(on_news), std::move(*claim), std::move(*guard)));
  part->note_.job = name;
  if (auto r = part->make_ground(); !r) return fail(r.error());
  return part;
}

Part::Part(asio::io_context& io, PartSpec spec, OnNews on_news, JobClaim claim, Guard guard)
    : io_(io),
      spec_(std::move(spec)),
      on_news_(std::move(on_news)),
      claim_(std::move(claim)),
      guard_(std::move(guard)),
      session_(io.get_executor(),
               {[this](const auto& m) { on_message(m); }, [this](const Error& e) { on_lost(e); }}),
      parked_(io.get_executor()),
      init_gone_(io.get_executor()),
      rank_news_(io.get_executor()) {
  note_.uid = spec_.user.uid;
  note_.agent_pid = ::getpid();
}

Part::~Part() {
  session_.close();
  if (cgroup_)
    if (auto r = cgroup_->destroy(Deadline::in(kKillWait)); !r) log::warning(r.error().line());
  init_.kill();
  staging_.reset();
  note_.cgroup.clear();
  if (auto r = clean_up(note_); !r) log::warning(r.error().line());
  guard_.dismiss();
}

Result<> Part::make_ground() {
  auto staging = Staging::create(policy().staging, note_.job);
  if (!staging) return fail(staging.error());
  note_.staging = staging->path();
  staging_.emplace(std::move(*staging));
  auto cgroup = container::Cgroup::create("stillpoint-" + note_.job);
  if (!cgroup) return fail(cgroup.error().during("making the job's cgroup"));
  note_.cgroup = cgroup->path();
  cgroup_.emplace(std::move(*cgroup));
  if (auto r = guard_.tell(note_); !r) return r;
  return claim_.write(note_);
}

Result<> Part::made(Child init, Fd network, const std::string& network_key) {
  struct stat s{};
  if (::fstat(network.get(), &s) != 0) return fail_errno("the container's network namespace");
  init_ = std::move(init);
  network_ = std::move(network);
  network_inode_ = s.st_ino;
  network_key_ = network_key;
  asio::co_spawn(io_, watch_init(), asio::detached);
  return {};
}

// ---- the link

Task<Result<link::Hello>> Part::open_link(Deadline deadline) {
  auto socket = container::connect_supervisor(init_.pid(), deadline);
  if (!socket) co_return fail(socket.error());
  auto hello = co_await session_.open(std::move(*socket), output_taken_, deadline);
  if (!hello) co_return hello;
  spec_.about.pmix_version = hello->pmix();
  if (hello->started()) {
    link::ToSupervisor ask;
    ask.mutable_state();
    rank_news_.reset();
    session_.send(ask);
  }
  link::FromSupervisor news;
  *news.mutable_hello() = *hello;
  on_news_(news);
  for (const int number : std::exchange(kept_signals_, {})) {
    link::ToSupervisor signal;
    signal.mutable_signal()->set_number(number);
    session_.send(signal);
  }
  co_return hello;
}

Task<Result<>> Part::start(const link::Start& start) {
  const Deadline deadline = Deadline::in(kLinkWait);
  auto hello = co_await open_link(deadline);
  if (!hello) co_return fail(hello.error().during("the job's supervisor"));
  link::ToSupervisor message;
  *message.mutable_start() = start;
  session_.send(message);
  if (!co_await rank_news_.wait(deadline))
    co_return fail(ErrorKind::kTimeout, "the supervisor did not start the ranks within 30 s");
  if (start_error_) co_return fail(*start_error_);
  co_return Result<>();
}

// Those that ran here once stay known: 0, when they have ended.
void Part::know_ranks() {
  if (rank_pids_.empty()) rank_pids_.assign(static_cast<size_t>(about().ranks), -1);
  if (spec_.record)
    for (const auto& rank : spec_.record->ranks)
      if (rank.rank < rank_pids_.size()) rank_pids_[rank.rank] = 0;
  for (int32_t& pid : rank_pids_) pid = std::min(pid, 0);
}

void Part::on_message(const link::FromSupervisor& m) {
  if (m.has_output()) {
    if (m.output().number() < output_taken_) return;  // sent again on a new link
    output_taken_ = m.output().number() + 1;
    on_news_(m);
  } else if (m.has_stdin_taken()) {
    on_news_(m);
  } else if (m.has_started() || m.has_state()) {
    know_ranks();
    for (int i = 0; i < std::min(m.started().pids_size(), m.started().ranks_size()); i++)
      if (m.started().ranks(i) < rank_pids_.size())
        rank_pids_[m.started().ranks(i)] = m.started().pids(i);
    for (const auto& rank : m.state().ranks())
      if (rank.rank() < rank_pids_.size()) rank_pids_[rank.rank()] = rank.pid();
    rank_news_.set();
  } else if (m.has_parked()) {
    parked_pids_.assign(m.parked().running().begin(), m.parked().running().end());
    ending_ = !m.parked().parked();
    if (ending_) parked_.set();
  } else if (m.has_start_failed()) {
    start_error_.emplace(static_cast<ErrorKind>(m.start_failed().status()),
                         m.start_failed().reason());
    rank_news_.set();
  } else if (m.has_ended()) {
    end(m.ended().status(), m.ended().reason());
  }
}

void Part::on_lost(const Error& error) {
  // Only the end of the stream, not the Parked before it, says that the supervisor's descriptor is
  // gone: a socket that is still open there could not be dumped.
  if (parking_) return parked_.set();
  if (ended_ || init_gone_.is_set()) return;
  log::debug(error.line() + "; connecting again");
  asio::co_spawn(io_, relink(), asio::detached);
}

Task<> Part::relink() {
  // The link also ends when the container dies; that is watch_init's to tell.
  if (co_await init_gone_.wait(Deadline::in(200ms))) co_return;
  if (parking_ || ended_) co_return;
  if (auto r = co_await open_link(Deadline::in(10s)); !r && !ended_ && !init_gone_.is_set())
    end(static_cast<int>(ErrorKind::kInternal),
        "the job's supervisor does not answer: " + r.error().line());
}

Task<Result<>> Part::park() {
  if (!session_.is_open()) co_return fail(ErrorKind::kBusy, "the link to the supervisor is down");
  parking_ = true;
  parked_.reset();
  link::ToSupervisor park;
  park.mutable_park();
  session_.send(park);
  if (!co_await parked_.wait(Deadline::in(kLinkWait))) {
    parking_ = false;
    co_return fail(ErrorKind::kTimeout, "the supervisor did not close its link within 30 s");
  }
  if (std::exchange(ending_, false)) {
    parking_ = false;
    co_return fail(ErrorKind::kNotFound, "the job is about to end");
  }
  session_.close();
  co_return Result<>();
}

Result<> Part::check_alive() const {
  auto processes = cgroup_->processes();
  if (!processes) return fail(processes.error());
  const auto alive = alive_inside(*processes);
  for (const int32_t pid : parked_pids_)
    if (!alive.contains(pid))
      return fail(ErrorKind::kBusy, "a rank (process " + std::to_string(pid) +
                                        " of the container) ended while the checkpoint was taken");
  return {};
}

Task<Result<>> Part::reopen() {
  parking_ = false;
  auto hello = co_await open_link(Deadline::in(kLinkWait));
  // A container that died while it was held shows here first; let watch_init tell that story.
  if (!hello && !co_await init_gone_.wait(Deadline::in(1s)))
    co_return fail(hello.error().during("calling the supervisor again"));
  if (hello && hello->started() && !co_await rank_news_.wait(Deadline::in(kLinkWait)))
    co_return fail(ErrorKind::kTimeout, "the supervisor did not tell its ranks within 30 s");
  co_return Result<>();
}

void Part::tell(const link::ToSupervisor& message) {
  if (session_.is_open()) return session_.send(message);
  if (message.has_signal()) kept_signals_.push_back(message.signal().number());
  if (!message.has_kill()) return;
  end(message.kill().status(), message.kill().reason());
  if (auto r = cgroup_->destroy(Deadline::in(kKillWait)); !r) log::warning(r.error().line());
}

// ---- the end

void Part::end(int status, const std::string& reason) {
  if (std::exchange(ended_, true)) return;
  link::FromSupervisor news;
  news.mutable_ended()->set_status(status);
  news.mutable_ended()->set_reason(reason);
  on_news_(news);
  rank_news_.set();  // whoever waits for the ranks to start
}

Task<> Part::watch_init() {
  asio::posix::stream_descriptor pidfd(io_, ::dup(init_.pidfd()));
  co_await pidfd.async_wait(asio::posix::stream_descriptor::wait_read, kQuietly);
  init_gone_.set();
  end(128 + SIGKILL, "its container was killed");
}

Task<> Part::leave() {
  link::ToSupervisor bye;
  bye.mutable_bye();
  session_.send(bye);
  if (init_.running() && !init_gone_.is_set()) co_await init_gone_.wait(Deadline::in(kByeWait));
}

// Killed while still frozen, if it is: nothing runs, and nothing is printed, beyond a checkpoint.
void Part::kill() {
  ended_ = true;
  session_.close();
  if (auto r = cgroup_->destroy(Deadline::in(kKillWait)); !r) log::warning(r.error().line());
}

Task<> Part::destroy() {
  kill();
  if (init_.running() && !init_gone_.is_set()) co_await init_gone_.wait(Deadline::in(kByeWait));
}

}  // namespace stillpoint::agent
