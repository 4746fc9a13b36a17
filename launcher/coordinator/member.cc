#include "launcher/coordinator/member.h"

#include <algorithm>
#include <utility>

namespace stillpoint::coordinator {

namespace {

Error gave_up() {
  return Error(ErrorKind::kTimeout, "gave up: it heard nothing from the job's first node in time");
}

bool makes_sense(const Command& command) {
  if (command.attempt == 0) return false;
  if (find(command.operation, command.step) != nullptr) return true;
  const auto undo = undoing(command.operation);
  return !rounds(command.operation).empty() && undo.front().step == command.step;
}

}  // namespace

// --- Commands

MemberActions Member::on_command(const Command& command, Time now) {
  MemberActions out;
  if (command.attempt < current_.attempt || !makes_sense(command)) return out;
  if (working_)
    defer(command, out);
  else
    obey(command, now, out);
  return out;
}

void Member::defer(const Command& command, MemberActions& out) {
  const auto rank = [](const Command& c) { return std::pair(c.attempt, is_undo(c.step)); };
  if (working_->commanded && command.attempt == current_.attempt &&
      command.step == working_->work.step)
    return;  // asked again: the answer comes when it is done
  if (waiting_ && rank(command) < rank(*waiting_)) return;
  waiting_ = command;
  if (superseded()) call_off(out);
}

// Only what will be undone anyway: what lets the job go on, or ends it, is not hurried.
void Member::call_off(MemberActions& out) const {
  const Round* round = find(working_->work.operation, working_->work.step);
  if (working_->commanded && round != nullptr && round->failure == Failure::kUndo)
    out.push_back(CallOff{working_->work});
}

// What is under way, or was answered, is no longer wanted by the coordinator.
bool Member::superseded() const {
  return waiting_ && (waiting_->attempt > current_.attempt || is_undo(waiting_->step));
}

void Member::obey(const Command& command, Time now, MemberActions& out) {
  if (command.attempt > current_.attempt) {
    if (!over_ || (made_ && command.operation != Operation::kCheckpoint)) {
      waiting_ = command;
      wind_up(now, out);
      return;
    }
    adopt(command, now);
  }
  if (command.operation != current_.operation) return;
  if (is_undo(command.step)) {
    obey_undo(command, out, now);
    return;
  }
  const Round& round = *find(command.operation, command.step);
  if (no_)
    reply(round.step, fail(*no_), out);
  else if (&round == done_)
    reply(round.step, said_, out);
  else if (done_ == nullptr || &round > done_)
    step_on(round, now, out);
}

void Member::adopt(const Command& command, Time now) {
  current_ = command;
  done_ = nullptr;
  no_.reset();
  undone_.reset();
  over_ = released_ = lost_ = false;
  waiting_since_ = now;
  held_since_.reset();
}

void Member::obey_undo(const Command& command, MemberActions& out, Time now) {
  const bool nothing_begun = done_ == nullptr && !no_;
  if (!undone_ && nothing_begun) {
    undone_.emplace();
    no_ = Error(ErrorKind::kNotFound, "the attempt was undone before it began here");
    over_ = true;
  }
  if (undone_)
    reply(command.step, *undone_, out);
  else
    start(work(command.step), true, now, out);
}

void Member::step_on(const Round& round, Time now, MemberActions& out) {
  if (!may_follow(round)) {
    const Error nonsense(ErrorKind::kProtocol, "told to " + std::string(name(round.step)) +
                                                   " without what has to come before it");
    if (reached(Step::kPack))  // what it packed may be permanent
      reply(round.step, fail(nonsense), out);
    else
      refuse(round.step, nonsense, now, out);
  } else if (round.step == Step::kGo && released_) {
    complete(round, std::string(), now);
    reply(round.step, said_, out);
  } else {
    start(work(round.step), true, now, out);
  }
}

// A round follows if all before it are done that this kind of attempt has.  A stop may finish
// without an end.
bool Member::may_follow(const Round& round) const {
  if (!round.applies(current_.stop) && round.step != Step::kFinish) return false;
  const auto all = rounds(current_.operation);
  for (const Round* before = done_ == nullptr ? all.data() : done_ + 1; before < &round; before++)
    if (before->failure == Failure::kUndo && before->applies(current_.stop)) return false;
  return true;
}

// A newer attempt has begun, so this one is over, and we were not told how.
void Member::wind_up(Time now, MemberActions& out) {
  if (over_) {
    Work destroy = *made_;
    destroy.step = Step::kDestroy;
    start(destroy, false, now, out);
  } else if (reached(Step::kPack)) {
    start(work(Step::kFinish), false, now, out);
  } else {
    start(work(undoing(current_.operation).front().step), false, now, out);
  }
}

// --- Work

void Member::start(const Work& work, bool commanded, Time now, MemberActions& out) {
  working_ = Job{work, commanded};
  if (work.step == Step::kFreeze) held_since_ = now;
  if (work.step == Step::kCreate) made_ = work;
  out.push_back(Do{work});
}

MemberActions Member::done(const Work& work, Result<std::string> result, Time now) {
  MemberActions out;
  if (!working_ || working_->work != work) return out;
  const Job job = *std::exchange(working_, std::nullopt);
  if (is_undo(job.work.step))
    undone(job, result, out);
  else
    stepped(job, std::move(result), now, out);
  if (waiting_ && !working_) obey(*std::exchange(waiting_, std::nullopt), now, out);
  return out;
}

void Member::undone(const Job& job, const Result<std::string>& result, MemberActions& out) {
  if (job.work.step == Step::kDestroy) made_.reset();
  undone_ = result;
  if (!no_) no_ = Error(ErrorKind::kNotFound, "the attempt was undone");
  over_ = true;
  held_since_.reset();
  if (job.commanded) reply(job.work.step, result, out);
}

void Member::stepped(const Job& job, Result<std::string> result, Time now, MemberActions& out) {
  const Round& round = *find(job.work.operation, job.work.step);
  if (round.failure == Failure::kNoted) {
    complete(round, std::move(result), now);
  } else if (!result) {
    refuse(round.step, result.error(), now, out);
    return;
  } else if (!job.commanded) {
    released_ = true;
    held_since_.reset();
    return;
  } else {
    complete(round, std::move(result), now);
  }
  if (job.commanded) reply(round.step, said_, out);
}

void Member::complete(const Round& round, Result<std::string> result, Time now) {
  done_ = &round;
  said_ = std::move(result);
  waiting_since_ = now;
  const bool last = &round == &rounds(current_.operation).back();
  if (round.step == Step::kGo || round.failure == Failure::kNoted) held_since_.reset();
  if (round.step == Step::kEnd) made_.reset();
  if (last || round.failure == Failure::kNoted) over_ = true;
}

// No, for this attempt for good: what was done is undone at once, without being told.
void Member::refuse(Step step, const Error& why, Time now, MemberActions& out) {
  no_ = why;
  reply(step, fail(why), out);
  start(work(undoing(current_.operation).front().step), false, now, out);
}

void Member::reply(Step step, Result<std::string> result, MemberActions& out) const {
  out.push_back(Reply{{current_.attempt, step, std::move(result)}});
}

// --- The silence of the coordinator

MemberActions Member::on_coordinator_lost(Time now) {
  if (over_) return {};
  lost_ = true;
  if (!working_) return on_time(now);
  MemberActions out;
  call_off(out);
  return out;
}

MemberActions Member::on_time(Time now) {
  MemberActions out;
  if (over_ || working_) return out;
  const bool waited = lost_ || now >= wait_ends();
  const auto hold_ends = this->hold_ends();
  const bool held = hold_ends && now >= *hold_ends;
  if (!waited && !held) return out;
  if (reached(Step::kPack) && waited)  // the commit may have been made: the statefile stays
    start(work(current_.stop ? Step::kEnd : Step::kFinish), false, now, out);
  else if (reached(Step::kDump) && !waited)
    start(work(Step::kGo), false, now, out);
  else
    refuse(done_ == nullptr ? rounds(current_.operation).front().step : done_->step, gave_up(), now,
           out);
  return out;
}

std::optional<Time> Member::next_wakeup() const {
  if (over_ || working_) return std::nullopt;
  const Time wait_ends = this->wait_ends();
  return std::min(wait_ends, hold_ends().value_or(wait_ends));
}

// In a stop the dumped container stands until it is ended.
std::optional<Time> Member::hold_ends() const {
  if (!held_since_ || (current_.stop && reached(Step::kDump))) return std::nullopt;
  return *held_since_ + limits_.hold;
}

// The coordinator ends a round at its bound, whatever the other members do.
Time Member::wait_ends() const {
  if (lost_) return waiting_since_;
  Duration wait = limits_.slack;
  if (done_ != nullptr) wait += limits_.*done_->bound;
  if (reached(Step::kPack)) wait += limits_.commit;
  return waiting_since_ + wait;
}

Work Member::work(Step step) const {
  Work work = current_;
  work.step = step;
  return work;
}

bool Member::reached(Step step) const {
  const Round* round = find(current_.operation, step);
  return round != nullptr && done_ != nullptr && done_ >= round;
}

}  // namespace stillpoint::coordinator
