#include "launcher/agent/job.h"

#include <sys/stat.h>

#include <algorithm>
#include <csignal>

#include "common/fd_passing.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/wire/job.pb.h"
#include "criu-glue/container/mpi_network.h"
#include "launcher/agent/local_member.h"

namespace stillpoint::agent {

using namespace std::chrono_literals;
using coordinator::Operation;
using coordinator::Outcome;
using coordinator::Step;

namespace {

constexpr auto kEndWait = 60s;  // from the first failure, or a kill, until all members have ended
constexpr auto kLeaveWait = 30s;
constexpr auto kStoreWait = 20s;
constexpr const char* kNewLock = "locked";

link::ToSupervisor message() {
  return {};
}

uint32_t seat_of_rank_0(const std::vector<Seat>& seats) {
  for (uint32_t i = 0; i < seats.size(); i++)
    if (!seats[i].ranks.empty() && seats[i].ranks.front() == 0) return i;
  return 0;
}

std::vector<std::string> names_of(const std::vector<Seat>& seats) {
  std::vector<std::string> names;
  for (const Seat& seat : seats) names.push_back(seat.node);
  return names;
}

}  // namespace

Job::Job(const asio::any_io_executor& executor, statefile::Manifest about, Identity user,
         CheckpointPolicy policy, FrontEnd& front, std::vector<Seat> seats)
    : executor_(executor),
      about_(std::move(about)),
      user_(std::move(user)),
      policy_(std::move(policy)),
      front_(front),
      seats_(std::move(seats)),
      ports_(seats_.size()),
      members_(seats_.size()),
      conductor_(executor, names_of(seats_), limits_of(policy_)),
      reader_(seat_of_rank_0(seats_)),
      ended_(executor),
      end_bound_(executor) {
  conductor_.set_members(ports_);
  front_.serve(front_events(), about_.tag_output);
}

std::string Job::directory() const {
  return paths::job_directory(policy_.directory, about_.job, about_.step);
}

// A file system may refuse everybody but the user (FUSE), and may not answer: so in a worker, which
// sends the lock's descriptor back.
Result<statefile::Store> Job::store() {
  auto channel = make_socket_pair();
  if (!channel) return fail(channel.error());
  auto worker = Worker::start("opening the checkpoint directory", &user_,
                              [&](Progress&) { return open_store(channel->second.get()); });
  if (!worker) return fail(worker.error());
  channel->second.reset();
  auto opened = worker->finish(Deadline::in(kStoreWait));
  if (!opened) return fail(opened.error());
  if (*opened == kNewLock) {
    auto lock = receive_fd(channel->first.get());
    if (!lock) return fail(lock.error());
    store_lock_ = std::move(*lock);
  }
  return statefile::Store::at(directory());
}

// As the user.
Result<std::string> Job::open_store(int channel) const {
  // Made once.  One that vanishes later (unmounted, removed) is not made anew: what is kept there
  // would end up beside what was kept before.
  struct stat s{};
  if (store_lock_ && ::stat(policy_.directory.c_str(), &s) != 0)
    return fail(system_error("checkpoint directory " + policy_.directory, errno));
  auto store = statefile::Store::open(policy_.directory, about_.job, about_.step, true);
  if (!store) return fail(store.error().during("checkpoint directory"));
  if (store_lock_ && ::fstat(store_lock_.get(), &s) == 0 && s.st_nlink > 0) return std::string();
  auto lock = store->lock();
  if (!lock) return fail(lock.error());
  // What an earlier run of the job left when it died.
  if (auto r = store->sweep(); !r) log::warning(r.error().line());
  if (auto r = send_fd(channel, lock->get()); !r) return fail(r.error());
  return std::string(kNewLock);
}

// ---- the beginning

Task<Result<>> Job::gather(MakeMember make) {
  std::optional<Error> error;
  co_await for_all(executor_, seats_.size(), [&](size_t i) -> Task<> {
    auto port = co_await make(static_cast<uint32_t>(i), events_of(static_cast<uint32_t>(i)));
    if (port)
      ports_[i] = std::move(*port);
    else if (!error)
      error = seats_[i].node.empty() ? port.error() : port.error().during("node " + seats_[i].node);
  });
  if (error) co_return fail(*error);
  co_return Result<>();
}

MemberEvents Job::events_of(uint32_t i) {
  return {.answered = [this, i](const auto& answer) { conductor_.answered(i, answer); },
          .news = [this, i](const auto& news) { on_news(i, news); },
          .progress = [this, i](const auto& phase, WorkDone done) { on_progress(i, phase, done); },
          .lost =
              [this, i](const Error& why) {
                conductor_.lost(i, why);
                const std::string reason =
                    why.during("node " + seats_[i].node + " was lost").line();
                if (!members_[i].ended && !ended()) kill(reason, static_cast<int>(why.kind()));
                member_ended(i, static_cast<int>(why.kind()), reason);
              }};
}

Task<Result<>> Job::launch(link::Start start) {
  start_ = std::move(start);
  if (seats_.size() > 1) {
    for (uint32_t i = 0; i < seats_.size(); i++) {
      auto& node = *start_.add_nodes();
      node.set_hostname(seats_[i].host);
      node.set_address(container::mpi_network::address_of(i).value_or(""));
      for (const uint32_t rank : seats_[i].ranks) node.add_ranks(rank);
    }
  }
  auto report = co_await perform({Operation::kLaunch, 0, false});
  if (!report) co_return fail(report.error());
  front_.input_opened(0, false);
  co_return Result<>();
}

Task<Result<RestartTimes>> Job::restart(uint64_t epoch) {
  set_phase("restarting");
  auto report = co_await perform({Operation::kRestart, epoch, false});
  if (!report) co_return fail(report.error());
  RestartTimes slowest;
  for (const std::string& answer : conductor_.answers(Step::kGo)) {
    const auto times = times_from_text(answer);
    if (!times) continue;
    slowest.read = std::max(slowest.read, times->read);
    slowest.check = std::max(slowest.check, times->check);
    slowest.restore = std::max(slowest.restore, times->restore);
  }
  co_return slowest;
}

Task<Result<coordinator::Report>> Job::perform(coordinator::Request request) {
  conductor_.set_handlers(
      {.before = {},
       .details = [this](auto member, const auto& command) { return details(member, command); },
       .commit = {},
       .discard = {}});
  beginning_ = true;
  auto report = co_await conductor_.perform(request);
  beginning_ = false;
  if (!report) co_return report;
  for (const auto& left : report->unconfirmed)
    log::warning(left.why.during("node " + seats_[left.member].node).line());
  if (report->outcome != Outcome::kDone) co_return fail(*report->cause);
  co_return report;
}

std::string Job::details(coordinator::MemberId member, const coordinator::Command& command) const {
  if (command.step == Step::kConnect) return far_ends();
  if (command.step != Step::kStart) return {};
  link::Start start = start_;
  start.set_node(member);
  return start.SerializeAsString();
}

std::string Job::far_ends() const {
  job::FarEnds ends;
  uint32_t index = 0;
  for (const std::string& answer : conductor_.answers(Step::kCreate)) {
    job::Created created;
    if (created.ParseFromString(answer) && created.port() != 0) {
      auto& end = *ends.add_far_end();
      end.set_index(index);
      end.set_node(created.node());
      end.set_port(created.port());
    }
    index++;
  }
  return ends.SerializeAsString();
}

// ---- what the members tell

void Job::on_news(uint32_t member, const link::FromSupervisor& news) {
  if (news.has_output()) {
    front_.output(member, news.output());
  } else if (news.has_hello()) {
    about_.pmix_version = news.hello().pmix();
    if (member == reader_ && news.hello().started())
      front_.input_opened(news.hello().stdin_taken(), news.hello().stdin_closed());
  } else if (news.has_stdin_taken()) {
    if (member == reader_) front_.input_taken(news.stdin_taken());
  } else if (news.has_ended()) {
    member_ended(member, news.ended().status(), news.ended().reason());
  }
}

void Job::show_progress(ProgressSink* sink) {
  if (sink_) sink_->finished();
  sink_ = sink;
  for (Member& member : members_) member.phase.clear();
}

void Job::on_progress(uint32_t i, const std::string& phase, WorkDone done) {
  members_[i].phase = phase;
  members_[i].done = done;
  if (!sink_) return;
  WorkDone sum;
  for (const Member& member : members_) {
    if (member.phase != phase) continue;
    sum.done += member.done.done;
    sum.total += member.done.total;
  }
  sink_->update(phase, sum.done, sum.total);
}

Task<std::vector<control::RankStatus>> Job::look(Deadline deadline) {
  std::vector<control::RankStatus> all;
  co_await for_all(executor_, ports_.size(), [&](size_t i) -> Task<> {
    auto ranks = co_await ports_[i]->look(deadline);
    if (!ranks) co_return;
    for (auto& rank : *ranks) {
      rank.set_node(seats_[i].node);
      all.push_back(std::move(rank));
    }
  });
  std::ranges::sort(all, {}, [](const auto& rank) { return rank.rank(); });
  co_return all;
}

pid_t Job::init_pid() const {
  return ports_.size() == 1 && ports_[0] ? ports_[0]->init_pid() : 0;
}

// ---- what the user tells

FrontEndEvents Job::front_events() {
  return {.written =
              [this](uint32_t part, uint64_t next) {
                if (part >= ports_.size() || !ports_[part]) return;
                auto m = message();
                m.mutable_output_taken()->set_next(next);
                ports_[part]->tell(m);
              },
          .input =
              [this](const link::Stdin& in) {
                if (!ports_[reader_]) return;
                auto m = message();
                *m.mutable_stdin() = in;
                ports_[reader_]->tell(m);
              },
          .signal = [this](int number) { on_signal(number); },
          .gone = [this](const std::string& why, int status) { kill(why, status); }};
}

void Job::on_signal(int number) {
  const bool ends = number == SIGINT || number == SIGTERM || number == SIGHUP;
  if (beginning_ && ends)
    return conductor_.cancel(
        Error(static_cast<ErrorKind>(128 + number), "ended by signal " + std::to_string(number)));
  if (number == SIGINT || number == SIGTERM) interrupts_++;
  if (interrupts_ < 2 || (number != SIGINT && number != SIGTERM)) {
    auto m = message();
    m.mutable_signal()->set_number(number);
    tell_all(m);
  } else if (interrupts_ == 2) {
    log::info("asked again to end: ending the ranks");
    kill("ended by signal " + std::to_string(number), 128 + number);
  } else {
    end(128 + number, "ended by signal " + std::to_string(number));
  }
}

void Job::tell_all(const link::ToSupervisor& message) {
  for (const auto& port : ports_)
    if (port) port->tell(message);
}

// ---- the end

void Job::kill(const std::string& reason, int status) {
  auto m = message();
  m.mutable_kill()->set_reason(reason);
  m.mutable_kill()->set_status(status);
  tell_all(m);
  bound_the_end();
}

void Job::member_ended(uint32_t i, int status, const std::string& reason) {
  if (std::exchange(members_[i].ended, true)) return;
  if (status != 0 && status_ == 0) {
    status_ = status;
    reason_ = reason;
  }
  if (std::ranges::all_of(members_, &Member::ended))
    ended_.set();
  else if (status != 0)
    bound_the_end();
}

// A failure on one node ends the job on all (link.proto); one that does not end is not waited for
// for ever.
void Job::bound_the_end() {
  if (std::exchange(ending_, true) || ended()) return;
  end_bound_.expires_after(kEndWait);
  end_bound_.async_wait([this](const boost::system::error_code& error) {
    if (error || ended()) return;
    end(static_cast<int>(ErrorKind::kTimeout), "its ranks did not end within 60 s");
  });
}

void Job::stopped_at_checkpoint() {
  front_.drop();
  end(kStoppedAtCheckpoint, {});
}

void Job::end(int status, const std::string& reason) {
  if (ended()) return;
  if (status_ == 0) {
    status_ = status;
    reason_ = reason;
  }
  ended_.set();
}

Task<int> Job::finish() {
  set_phase("ending");
  // A reader of our output that has stopped reading holds the end up; whoever waits can interrupt.
  const int interrupts = interrupts_;
  while (!co_await front_.drained(Deadline::in(200ms)) && interrupts_ <= interrupts) {
  }
  co_await disband();
  if (!reason_.empty()) log::error("job " + about_.job + ": " + reason_);
  co_return status_;
}

Task<> Job::disband() {
  end_bound_.cancel();
  co_await for_all(executor_, ports_.size(), [&](size_t i) -> Task<> {
    if (!ports_[i]) co_return;
    if (auto r = co_await ports_[i]->leave(Deadline::in(kLeaveWait)); !r)
      log::warning(r.error().during("node " + seats_[i].node).line());
  });
}

}  // namespace stillpoint::agent
