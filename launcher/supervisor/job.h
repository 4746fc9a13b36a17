// The state of a job: which ranks run, what has gone wrong first, and how it comes to its end.
//
//   idle -> running -> (settling ->) ending -> clearing -> ended
//
//   running    until every rank has ended well, or one has not.
//   settling   a rank called MPI_Abort.  That may be its answer to the death of another rank,
//              which the kernel reports a moment later: the cause is decided after a short while.
//   ending     the ranks get SIGTERM, after the grace time SIGKILL.
//   clearing   no rank is left.  Processes that they started get a moment to end by themselves
//              (a `tee` that still writes), then SIGKILL.
//
// A job over several nodes has one of these on each node, for the ranks there; ranks are named by
// their numbers in the whole job.  Each tells the others (failing()) and hears from them
// (failed_elsewhere()), so that all end for the same reason.
//
// Time is counted in ticks of a second that the caller gives, not read from a clock: a job that is
// frozen for a dump must not wake up to timeouts.  No I/O: it acts through Actions.  Used by one
// thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/process.h"

namespace stillpoint::supervisor {

struct Ending {
  int status = 0;      // as a shell says it
  std::string reason;  // one line, empty if all went well
};

class Job {
 public:
  static constexpr int kGraceTicks = 3;  // from SIGTERM to SIGKILL: more than 2 s, less than 3
  static constexpr int kLingerTicks =
      3;  // for processes that outlive the ranks of a job that went well
  static constexpr int kGiveUpTicks =
      30;  // after SIGKILL: a process stuck in the kernel is not waited for

  class Actions {
   public:
    virtual ~Actions() = default;
    virtual void signal_rank(uint32_t rank, pid_t pid, int number) = 0;  // its process group
    virtual void kill_rest() = 0;  // SIGKILL to every other process of the container
    virtual void settle() = 0;     // call settled() in a moment (kSettleTime)
    virtual void failing(const Ending& cause) = 0;  // it ends for a cause of this node's: once
    virtual void ended() = 0;                       // once
  };

  struct Rank {
    uint32_t number = 0;
    pid_t pid = 0;
    bool running = false;
    bool connected = false;  // it called MPI_Init (more exactly: PMIx_Init)
    bool finalized = false;
    bool aborted = false;
  };

  explicit Job(Actions& actions) : actions_(actions) {}

  // These ranks, ascending, exist from here on; each is started by rank_started().
  void begin(const std::vector<uint32_t>& ranks);
  void rank_started(uint32_t rank, pid_t pid);

  // What happened to the ranks.  Unknown ranks and pids (strangers that pid 1 inherits) are
  // ignored.
  void exited(const std::vector<Reaped>& reaped, bool children_left);
  void connected(uint32_t rank);
  void finalized(uint32_t rank);
  void aborted(uint32_t rank, int code);
  void settled();

  // What happened on another node, which has told all the others, or which is gone itself, so that
  // we tell.  An MPI_Abort here may be the answer to it.
  void failed_elsewhere(Ending ending);
  void lost_elsewhere(Ending ending);
  // A node's ranks have all ended well, this one of them without calling MPI_Init.
  void stranger_elsewhere(uint32_t rank);

  void signal(int number);  // passed to all running ranks
  void end(Ending ending);  // ends the job; the first cause stands
  void tick();

  bool settling() const { return phase_ == Phase::kSettling; }
  bool began() const { return phase_ != Phase::kIdle; }
  bool failing() const { return cause_.has_value(); }  // or ended on purpose
  bool has_ended() const { return phase_ == Phase::kEnded; }
  const std::vector<Rank>& ranks() const { return ranks_; }
  const Rank* rank(uint32_t number) const;   // none: not of this node
  std::optional<uint32_t> stranger() const;  // the first that ended without calling MPI_Init
  const Ending& ending() const { return cause_ ? *cause_ : good_; }

 private:
  enum class Phase { kIdle, kRunning, kSettling, kEnding, kClearing, kEnded };
  Rank* find(uint32_t number) { return const_cast<Rank*>(rank(number)); }
  void rank_exited(Rank& rank, const Exit& exit);
  void fail_job(Ending ending);  // a rank's failure
  void start_ending();
  void begin_end();
  void advance(bool children_left);
  void kill_rest();
  void finish();
  void check_strangers();
  void signal_running(int number);
  bool any_running() const;
  bool undecided() const { return phase_ <= Phase::kSettling; }

  Actions& actions_;
  Phase phase_ = Phase::kIdle;
  std::vector<Rank> ranks_;
  std::optional<Ending> cause_;
  std::optional<uint32_t> stranger_elsewhere_;
  Ending good_;
  int ticks_left_ = 0;
  bool killed_ = false;  // SIGKILL has been sent in this phase
  bool children_left_ = false;
};

}  // namespace stillpoint::supervisor
