// The protocol of a job over several nodes: what its coordinator asks of its members, round by
// round.
//
// One coordinator per job (in the agent of the first node), one member per container (in the agent
// of every node).  An operation is a table of rounds: the coordinator sends a command to all
// members, repeats it until each has answered, and only then begins the next round, so every round
// is a barrier.  The model is Koo and Toueg's two-phase commit: tentative, then permanent, all or
// none.  Everything here is a state machine without I/O: time and messages come in, actions go out.
//
// Messages may be lost, delayed, doubled and reordered.  Each carries the number of its attempt; a
// command of an older attempt is ignored, a repeated one is answered again from memory.  An attempt
// of a checkpoint has an epoch of its own that is never used again, so a packer that outlives its
// attempt cannot write into a newer one.
//
// Nobody stands still for ever: a member that has waited too long for the coordinator gives up on
// its own.  It then refuses every later command of that attempt, except that a dump which it has
// voted for stays good, and only the standing still ends.
//
// Why the cut is consistent, whoever gives up when.  Let L(j) be the moment when member j locks,
// D(j) when it dumps.
//   1. The coordinator commands the dump after every member has answered that it is locked, so
//      L(j) < D(i) for all i and j.
//   2. A member dumps only as the next step after its lock; one that unlocked before its dump has
//      given up and never dumps in that attempt.  So j is locked from L(j) to D(j) without a gap,
//      and the dump of j has received exactly what j had received at L(j).
//   3. That was sent before L(j), so before D(i): it is in the dump of its sender i.
// Hence no dump has received what its sender's dump has not sent (TCP's acknowledgements are such
// messages too, so nothing is lost either).  A member that unlocks after its dump may send, but
// only into locks: whoever of its peers is to dump still receives nothing, by 2.
//
// The commit is the one point of decision.  Before it any no, any loss and any bound passed undoes
// everything.  A member that has answered "packed" cannot know the decision until it is told, so it
// never removes its statefile by itself; in a stop, where the checkpoint may be restarted elsewhere
// already, it ends its container rather than let it run on.
//
// Not handled: which job a message belongs to, and whether its sender is genuine (the caller's),
// and a coordinator that is replaced (the job ends with its coordinator; a restarted job is a new
// one).
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "common/error.h"

namespace stillpoint::coordinator {

using Duration = std::chrono::milliseconds;
using Time = std::chrono::milliseconds;  // since any fixed moment; handed in, never goes back
using MemberId = uint32_t;               // index of the container in its job

inline constexpr MemberId kMostMembers = 65535;

enum class Operation : uint8_t { kCheckpoint, kLaunch, kRestart };

// What a member can be told to do.  All are idempotent at the caller.
enum class Step : uint8_t {
  kPrepare,  // look for room and obstacles, make staging; the job runs on
  kFreeze,   // close the supervisor's link, freeze the cgroup
  kDrain,    // wait, bounded, until nothing sent is unacknowledged; what is left is only reported
  kLock,     // drop incoming packets
  kDump,     // CRIU, into staging; success is the vote
  kGo,       // unlock, thaw (restart: resume), open the link
  kPack,     // staging -> tentative statefile, sealed; in the background of the running job
  kCommit,   // the coordinator's own: the manifest is written
  kFinish,   // let it run if it still stands, drop staging, keep the statefile
  kEnd,      // after a stop: kill the container, drop staging, keep the statefile
  kAbort,    // unlock, thaw, remove staging and the tentative statefile
  kCreate,   // container and network device; the answer tells its address
  kConnect,  // told all peers' addresses
  kStart,    // the ranks
  kUnpack,   // statefile -> staging, verified
  kRestore,  // CRIU; the container is held stopped and locked
  kDestroy,  // remove the container and all that was made for it
};
std::string_view name(Step step);

// How long each round may last, for the slowest member, and how long who waits for whom.  Safety
// does not depend on any of these; a member's caller ends every work within the round's bound.
struct Limits {
  Duration prepare = std::chrono::seconds(60);
  Duration freeze = std::chrono::seconds(30);
  Duration drain = std::chrono::seconds(20);
  Duration lock = std::chrono::seconds(20);
  Duration dump = std::chrono::minutes(10);
  Duration go = std::chrono::seconds(30);
  Duration pack = std::chrono::hours(24);
  Duration commit = std::chrono::seconds(60);
  Duration finish = std::chrono::seconds(60);
  Duration create = std::chrono::seconds(60);
  Duration connect = std::chrono::seconds(30);
  Duration start = std::chrono::seconds(30);
  Duration unpack = std::chrono::hours(24);
  Duration restore = std::chrono::minutes(10);
  Duration undo = std::chrono::minutes(3);  // with calling off what is under way

  Duration hold = std::chrono::minutes(10);   // a member stands still, frozen, so long at most
  Duration slack = std::chrono::seconds(20);  // for a command to arrive, with repeats
  Duration retry = std::chrono::milliseconds(500);  // until the first repeat; doubled each time
  Duration most_retry = std::chrono::seconds(8);
};

// What it means if a member says no, is lost, or does not answer within the bound.
enum class Failure : uint8_t {
  kUndo,     // everything is undone everywhere
  kDecides,  // only the outcome of this round counts (the commit)
  kNoted,    // the decision stands; the report names the member
};
enum class When : uint8_t { kAlways, kUnlessStop, kOnlyStop };

struct Round {
  Step step;
  Duration Limits::* bound;
  Failure failure;
  When when = When::kAlways;

  bool applies(bool stop) const {
    return when == When::kAlways || (when == When::kOnlyStop) == stop;
  }
};

std::span<const Round> rounds(Operation operation);
// The one round that undoes an attempt.
std::span<const Round> undoing(Operation operation);
bool is_undo(Step step);
// The member's round for this step; nullptr if the operation has none.
const Round* find(Operation operation, Step step);

// To a member.
struct Command {
  uint64_t attempt = 0;  // from 1; 0: none
  uint64_t epoch = 0;
  Operation operation = Operation::kCheckpoint;
  Step step = Step::kPrepare;
  bool stop = false;  // a checkpoint after which the job ends

  bool operator==(const Command&) const = default;
};

// From a member.  An error is a no for the whole attempt.  The text is the caller's own (addresses
// after kCreate, the container's record after kPack): the engine only keeps it.
struct Answer {
  uint64_t attempt = 0;
  Step step = Step::kPrepare;
  Result<std::string> result;
};

}  // namespace stillpoint::coordinator
