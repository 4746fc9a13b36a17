#include "launcher/coordinator/coordinator.h"

#include <algorithm>
#include <utility>

namespace stillpoint::coordinator {

Coordinator::Coordinator(std::vector<std::string> nodes, Limits limits) : limits_(limits) {
  for (std::string& node : nodes) seats_.push_back({.node = std::move(node), .lost = {}});
}

Result<Actions> Coordinator::begin(const Request& request, Time now) {
  if (busy())
    return fail(ErrorKind::kBusy, "the job's nodes are still busy with the operation before");
  if (ended_) return fail(ErrorKind::kNotFound, "the job has ended with its checkpoint");
  if (seats_.empty() || seats_.size() > kMostMembers)
    return fail(ErrorKind::kInternal, "a job of " + std::to_string(seats_.size()) + " containers");
  for (const Seat& seat : seats_)
    if (seat.lost) return fail(seat.place(*seat.lost));

  const bool checkpoint = request.operation == Operation::kCheckpoint;
  asked_ = {.attempt = ++last_attempt_,
            // The store may offer the number of an attempt that was undone: a late packer of that
            // one may still be writing.
            .epoch = checkpoint ? std::max(request.epoch, last_epoch_ + 1) : request.epoch,
            .operation = request.operation,
            .stop = checkpoint && request.stop};
  last_epoch_ = std::max(last_epoch_, asked_.epoch);
  outcome_ = Outcome::kDone;
  cause_.reset();
  answers_.clear();
  ahead_ = rounds(request.operation);
  Actions out;
  proceed(now, out);
  return out;
}

// Into the next round that applies; past the last one the operation is over.
void Coordinator::proceed(Time now, Actions& out) {
  while (!ahead_.empty()) {
    const Round& round = ahead_.front();
    ahead_ = ahead_.subspan(1);
    if (!round.applies(asked_.stop)) continue;
    enter(round, now, out);
    if (missing_ > 0 || round.failure == Failure::kDecides) return;
  }
  report(out);
}

void Coordinator::enter(const Round& round, Time now, Actions& out) {
  round_ = &round;
  ends_ = now + limits_.*round.bound;
  unconfirmed_.clear();
  missing_ = 0;
  asked_.step = round.step;
  if (round.failure == Failure::kDecides) {
    out.push_back(Commit{asked_.attempt, asked_.epoch});
    return;
  }
  for (MemberId member = 0; member < seats_.size(); member++) {
    Seat& seat = seats_[member];
    seat.answered = seat.lost.has_value();
    if (seat.lost)
      unconfirmed_.push_back({member, seat.place(*seat.lost)});
    else
      missing_++;
  }
  answers_[round.step].assign(seats_.size(), {});
  interval_ = limits_.retry;
  ask(now, out);
}

void Coordinator::ask(Time now, Actions& out) {
  repeat_ = now + interval_;
  interval_ = std::min(2 * interval_, std::max(limits_.retry, limits_.most_retry));
  Send send{.to = {}, .command = asked_};
  for (MemberId member = 0; member < seats_.size(); member++)
    if (!seats_[member].answered) send.to.push_back(member);
  if (!send.to.empty()) out.push_back(std::move(send));
}

void Coordinator::answered(MemberId member) {
  if (std::exchange(seats_[member].answered, true)) return;
  missing_--;
}

void Coordinator::note(MemberId member, const Error& why) {
  if (seats_[member].answered) return;
  unconfirmed_.push_back({member, seats_[member].place(why)});
  answered(member);
}

Actions Coordinator::on_answer(MemberId from, const Answer& answer, Time now) {
  Actions out;
  if (!busy() || from >= seats_.size() || answer.attempt != asked_.attempt || seats_[from].lost)
    return out;
  const bool current = answer.step == round_->step && round_->failure != Failure::kDecides;
  if (!answer.result && undoable()) {
    // A no counts for the whole attempt, whatever it answers.
    const Seat& seat = seats_[from];
    const Error& why = answer.result.error();
    give_up(seat.node.empty() ? why : seat.place(why.during(name(answer.step))), now, out);
    return out;
  }
  if (!current || seats_[from].answered) return out;
  if (answer.result) {
    answers_[round_->step][from] = *answer.result;
    answered(from);
  } else {
    note(from, answer.result.error().during(name(answer.step)));
  }
  if (missing_ == 0) proceed(now, out);
  return out;
}

Actions Coordinator::on_lost(MemberId member, const Error& why, Time now) {
  Actions out;
  if (member >= seats_.size() || seats_[member].lost) return out;
  seats_[member].lost = why;
  if (undoable()) {
    give_up(seats_[member].place(why), now, out);
  } else if (busy() && round_->failure == Failure::kNoted) {
    note(member, why);
    if (missing_ == 0) proceed(now, out);
  }
  return out;
}

Actions Coordinator::on_commit(uint64_t attempt, CommitOutcome outcome, std::optional<Error> why,
                               Time now) {
  Actions out;
  if (!busy() || round_->failure != Failure::kDecides || attempt != asked_.attempt) return out;
  if (!why) why = Error(ErrorKind::kIo, "the manifest could not be written");
  if (outcome == CommitOutcome::kNot) {
    give_up(*why, now, out);
    return out;
  }
  if (outcome == CommitOutcome::kUnknown) {
    outcome_ = Outcome::kUnknown;
    cause_ = why;
    asked_.stop = false;  // a job is not ended for a checkpoint that may not be there
  }
  ended_ = asked_.stop;
  proceed(now, out);
  return out;
}

Actions Coordinator::cancel(const Error& why, Time now) {
  Actions out;
  if (undoable()) give_up(why, now, out);
  return out;
}

void Coordinator::give_up(const Error& why, Time now, Actions& out) {
  outcome_ = Outcome::kFailed;
  cause_ = why;
  ahead_ = undoing(asked_.operation);
  proceed(now, out);
}

Actions Coordinator::on_time(Time now) {
  Actions out;
  if (!busy()) return out;
  if (now >= ends_)
    bound_passed(now, out);
  else if (missing_ > 0 && now >= repeat_)
    ask(now, out);
  return out;
}

void Coordinator::bound_passed(Time now, Actions& out) {
  switch (round_->failure) {
    case Failure::kUndo:
      give_up(silence(), now, out);
      return;
    case Failure::kDecides:
      out = on_commit(asked_.attempt, CommitOutcome::kUnknown,
                      Error(ErrorKind::kTimeout, "writing the manifest did not end in time"), now);
      return;
    case Failure::kNoted:
      for (MemberId member = 0; member < seats_.size(); member++)
        note(member,
             Error(ErrorKind::kTimeout, "no answer to '" + std::string(name(asked_.step)) + "'"));
      proceed(now, out);
  }
}

// Who keeps the others waiting.
Error Coordinator::silence() const {
  const auto first = std::ranges::find(seats_, false, &Seat::answered);
  std::string what = "no answer to '" + std::string(name(asked_.step)) + "' within " +
                     std::to_string((limits_.*round_->bound).count()) + " ms";
  if (missing_ > 1) what += ", nor from " + std::to_string(missing_ - 1) + " other";
  return first->place(Error(ErrorKind::kTimeout, std::move(what)));
}

void Coordinator::report(Actions& out) {
  if (outcome_ == Outcome::kFailed && asked_.operation == Operation::kCheckpoint)
    out.push_back(Discard{asked_.epoch});
  round_ = nullptr;
  out.push_back(Report{.operation = asked_.operation,
                       .attempt = asked_.attempt,
                       .epoch = asked_.epoch,
                       .outcome = outcome_,
                       .cause = cause_,
                       .unconfirmed = std::exchange(unconfirmed_, {})});
}

std::optional<Time> Coordinator::next_wakeup() const {
  if (!busy()) return std::nullopt;
  return missing_ > 0 ? std::min(ends_, repeat_) : ends_;
}

std::optional<Step> Coordinator::step() const {
  if (!busy()) return std::nullopt;
  return round_->step;
}

std::span<const std::string> Coordinator::answers(Step step) const {
  const auto found = answers_.find(step);
  if (found == answers_.end()) return {};
  return found->second;
}

}  // namespace stillpoint::coordinator
