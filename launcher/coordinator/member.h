// One container's part in the operations of its job: does what the coordinator commands, one work
// at a time, and looks after itself when the coordinator falls silent.  No I/O, no clock, used by
// one thread; protocol.h has the story.
//
// Every call returns what the caller has to do now, in this order.  The caller calls on_time() no
// later than next_wakeup() says, and may call it at any time.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "launcher/coordinator/protocol.h"

namespace stillpoint::coordinator {

// Work to be done.  It has the form of the command, but may also be the member's own idea: go (it
// has stood still too long), finish, end, abort, destroy.
using Work = Command;

// Actions.
struct Do {
  Work work;
};
// The work under way is no longer wanted: end it soon.  done() comes all the same.
struct CallOff {
  Work work;
};
struct Reply {
  Answer answer;
};
using MemberAction = std::variant<Do, CallOff, Reply>;
using MemberActions = std::vector<MemberAction>;

class Member {
 public:
  explicit Member(Limits limits = {}) : limits_(limits) {}

  // From outside: checked; what makes no sense is ignored or refused.
  MemberActions on_command(const Command& command, Time now);
  // The work of a Do is over; called once for each, within the bound of its round even if the work
  // hangs.  An error of go, abort, finish, end or destroy means that the container does not run as
  // it should, not that a file was left behind; the caller has dealt with the container.
  MemberActions done(const Work& work, Result<std::string> result, Time now);
  // The connection is gone for good, or so the caller believes: the member does at once what it
  // would do after waiting in vain.  Harmless if it is not so.
  MemberActions on_coordinator_lost(Time now);
  MemberActions on_time(Time now);
  std::optional<Time> next_wakeup() const;

  bool idle() const { return over_ && !working_; }

 private:
  struct Job {
    Work work;
    bool commanded;  // the coordinator waits for the answer
  };
  void defer(const Command& command, MemberActions& out);
  void call_off(MemberActions& out) const;
  void obey(const Command& command, Time now, MemberActions& out);
  void adopt(const Command& command, Time now);
  void obey_undo(const Command& command, MemberActions& out, Time now);
  void step_on(const Round& round, Time now, MemberActions& out);
  void wind_up(Time now, MemberActions& out);
  void start(const Work& work, bool commanded, Time now, MemberActions& out);
  void undone(const Job& job, const Result<std::string>& result, MemberActions& out);
  void stepped(const Job& job, Result<std::string> result, Time now, MemberActions& out);
  void complete(const Round& round, Result<std::string> result, Time now);
  void refuse(Step step, const Error& why, Time now, MemberActions& out);
  void reply(Step step, Result<std::string> result, MemberActions& out) const;

  Work work(Step step) const;
  bool reached(Step step) const;
  bool may_follow(const Round& round) const;
  bool superseded() const;
  std::optional<Time> hold_ends() const;
  Time wait_ends() const;

  Limits limits_;

  // The latest attempt.
  Command current_;              // its step means nothing
  const Round* done_ = nullptr;  // the last round done
  Result<std::string> said_;     // the answer to it
  std::optional<Error> no_;      // the answer to everything else: it has failed or given up
  std::optional<Result<std::string>> undone_;
  bool over_ = true;       // nothing more to wait for
  bool released_ = false;  // let go on its own, with a good dump
  bool lost_ = false;      // the coordinator
  Time waiting_since_{0};  // for the next command
  std::optional<Time> held_since_;

  std::optional<Job> working_;
  std::optional<Command> waiting_;  // what came while working and comes next
  std::optional<Command> made_;     // the launch or restart that made the container
};

}  // namespace stillpoint::coordinator
