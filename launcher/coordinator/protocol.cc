#include "launcher/coordinator/protocol.h"

namespace stillpoint::coordinator {

namespace {

constexpr Round kCheckpoint[] = {
    {Step::kPrepare, &Limits::prepare, Failure::kUndo},
    {Step::kFreeze, &Limits::freeze, Failure::kUndo},
    {Step::kDrain, &Limits::drain, Failure::kUndo},
    {Step::kLock, &Limits::lock, Failure::kUndo},
    {Step::kDump, &Limits::dump, Failure::kUndo},
    {Step::kGo, &Limits::go, Failure::kUndo, When::kUnlessStop},
    {Step::kPack, &Limits::pack, Failure::kUndo},
    {Step::kCommit, &Limits::commit, Failure::kDecides},
    {Step::kFinish, &Limits::finish, Failure::kNoted, When::kUnlessStop},
    {Step::kEnd, &Limits::finish, Failure::kNoted, When::kOnlyStop},
};

constexpr Round kLaunch[] = {
    {Step::kCreate, &Limits::create, Failure::kUndo},
    {Step::kConnect, &Limits::connect, Failure::kUndo},
    {Step::kStart, &Limits::start, Failure::kUndo},
};

constexpr Round kRestart[] = {
    {Step::kPrepare, &Limits::prepare, Failure::kUndo},
    {Step::kCreate, &Limits::create, Failure::kUndo},
    {Step::kConnect, &Limits::connect, Failure::kUndo},
    {Step::kUnpack, &Limits::unpack, Failure::kUndo},
    {Step::kRestore, &Limits::restore, Failure::kUndo},
    {Step::kGo, &Limits::go, Failure::kUndo},
};

constexpr Round kAbort[] = {{Step::kAbort, &Limits::undo, Failure::kNoted}};
constexpr Round kDestroy[] = {{Step::kDestroy, &Limits::undo, Failure::kNoted}};

}  // namespace

std::span<const Round> rounds(Operation operation) {
  switch (operation) {
    case Operation::kCheckpoint:
      return kCheckpoint;
    case Operation::kLaunch:
      return kLaunch;
    case Operation::kRestart:
      return kRestart;
  }
  return {};  // a number from outside
}

std::span<const Round> undoing(Operation operation) {
  if (operation == Operation::kCheckpoint) return kAbort;
  return kDestroy;
}

bool is_undo(Step step) {
  return step == Step::kAbort || step == Step::kDestroy;
}

const Round* find(Operation operation, Step step) {
  for (const Round& round : rounds(operation))
    if (round.step == step && round.failure != Failure::kDecides) return &round;
  return nullptr;
}

std::string_view name(Step step) {
  switch (step) {
    case Step::kPrepare:
      return "prepare";
    case Step::kFreeze:
      return "freeze";
    case Step::kDrain:
      return "drain";
    case Step::kLock:
      return "lock";
    case Step::kDump:
      return "dump";
    case Step::kGo:
      return "go on";
    case Step::kPack:
      return "pack";
    case Step::kCommit:
      return "commit";
    case Step::kFinish:
      return "finish";
    case Step::kEnd:
      return "end";
    case Step::kAbort:
      return "abort";
    case Step::kCreate:
      return "create";
    case Step::kConnect:
      return "connect";
    case Step::kStart:
      return "start";
    case Step::kUnpack:
      return "unpack";
    case Step::kRestore:
      return "restore";
    case Step::kDestroy:
      return "destroy";
  }
  return "unknown step";
}

}  // namespace stillpoint::coordinator
