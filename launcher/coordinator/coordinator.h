// The coordinator of a job: takes the job's members through the rounds of one operation at a time
// (protocol.h has the tables and the story).  No I/O, no clock, used by one thread.
//
// Every call returns what the caller has to do now, in this order.  The caller calls on_time() no
// later than next_wakeup() says, and may call it at any time.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "launcher/coordinator/protocol.h"

namespace stillpoint::coordinator {

struct Request {
  Operation operation = Operation::kCheckpoint;
  uint64_t epoch = 0;  // checkpoint: the first that the store has free; restart: which one
  bool stop = false;   // checkpoint only
};

enum class CommitOutcome : uint8_t {
  kPermanent,
  kNot,      // it is not permanent and never will be
  kUnknown,  // the file system does not say
};

enum class Outcome : uint8_t {
  kDone,     // checkpoint: permanent; launch, restart: every member runs
  kFailed,   // undone, as far as members could be reached
  kUnknown,  // checkpoint: may be permanent; its data stays
};

// Actions.
struct Send {
  std::vector<MemberId> to;  // each once, ascending
  Command command;
};
// Write the manifest of this epoch (answers(Step::kPack) has the members' parts), then on_commit().
struct Commit {
  uint64_t attempt = 0;
  uint64_t epoch = 0;
};
// The epoch is not permanent and never will be: remove what is left of it in the store.
struct Discard {
  uint64_t epoch = 0;
};
// The operation is over: exactly one for each that was begun, and always the last action.
struct Report {
  struct Unconfirmed {
    MemberId member = 0;
    Error why;
  };
  Operation operation = Operation::kCheckpoint;
  uint64_t attempt = 0;
  uint64_t epoch = 0;
  Outcome outcome = Outcome::kDone;
  std::optional<Error> cause;            // the first; none with kDone
  std::vector<Unconfirmed> unconfirmed;  // who did not confirm the last round (finish, end, undo)
};
using Action = std::variant<Send, Commit, Discard, Report>;
using Actions = std::vector<Action>;

class Coordinator {
 public:
  // The members' node names, for messages, in the order of their numbers.  An empty name, of a job
  // on one node, is left out.
  explicit Coordinator(std::vector<std::string> nodes, Limits limits = {});

  // kBusy if an operation is under way, kNotFound after a stop that is permanent, the loss if a
  // member is lost: nothing is begun then, and nothing reported.  The epoch of a checkpoint may be
  // larger than asked for: see epoch().
  Result<Actions> begin(const Request& request, Time now);
  // From outside: senders and contents are checked.
  Actions on_answer(MemberId from, const Answer& answer, Time now);
  // For good: the member is not asked or listened to again.
  Actions on_lost(MemberId member, const Error& why, Time now);
  // An outcome of another attempt, or one that comes after the bound, changes nothing.
  Actions on_commit(uint64_t attempt, CommitOutcome outcome, std::optional<Error> why, Time now);
  // The caller's reason not to go on.  Too late once the commit is under way.
  Actions cancel(const Error& why, Time now);
  Actions on_time(Time now);
  std::optional<Time> next_wakeup() const;

  bool busy() const { return round_ != nullptr; }
  std::optional<Step> step() const;                // of the operation under way
  uint64_t epoch() const { return asked_.epoch; }  // of the latest operation
  // What the members answered to a step of the latest operation, by number; empty if not asked.
  std::span<const std::string> answers(Step step) const;

 private:
  struct Seat {
    std::string node;
    std::optional<Error> lost;
    bool answered = false;

    Error place(const Error& error) const {
      return node.empty() ? error : error.during("node " + node);
    }
  };
  bool undoable() const { return round_ != nullptr && round_->failure == Failure::kUndo; }
  void proceed(Time now, Actions& out);
  void enter(const Round& round, Time now, Actions& out);
  void ask(Time now, Actions& out);
  void answered(MemberId member);
  void note(MemberId member, const Error& why);
  void give_up(const Error& why, Time now, Actions& out);
  void bound_passed(Time now, Actions& out);
  void report(Actions& out);
  Error silence() const;

  std::vector<Seat> seats_;
  Limits limits_;
  uint64_t last_attempt_ = 0, last_epoch_ = 0;
  bool ended_ = false;  // by a stop

  // The operation under way, if round_.
  const Round* round_ = nullptr;
  std::span<const Round> ahead_;  // the rounds after it
  Command asked_;
  size_t missing_ = 0;  // answers
  Time ends_{0}, repeat_{0};
  Duration interval_{0};
  Outcome outcome_ = Outcome::kDone;
  std::optional<Error> cause_;
  std::vector<Report::Unconfirmed> unconfirmed_;
  std::map<Step, std::vector<std::string>> answers_;
};

}  // namespace stillpoint::coordinator
