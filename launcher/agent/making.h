// How a part of a job comes to run on its node, afresh or from a checkpoint:
//
//   launch    create    container; its tunnel, if it has any; the answer tells where that ends
//             connect   the far ends of the others
//             start     the ranks
//   restart   prepare   is there room; may these processes go on here
//             create    network namespace and tunnel, locked; connect as above
//             unpack    as the user: statefile -> staging; then root checks every byte against the
//                       signed record; the job's files are as long as they were, at least
//             restore   as the user: files open for writing go back to their length; then CRIU,
//                       and everything stays frozen and locked
//             go        unlock, thaw, link open
//   destroy   whatever there is of it goes
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "launcher/agent/part.h"
#include "launcher/agent/step_worker.h"
#include "launcher/coordinator/member.h"

namespace stillpoint::agent {

using OnProgress = std::function<void(const std::string& phase, WorkDone done)>;

// How long what took; what `go` answers.
struct RestartTimes {
  Milliseconds read{0}, check{0}, restore{0};
};
std::string to_text(const RestartTimes& times);
Result<RestartTimes> times_from_text(const std::string& text);

class Making {
 public:
  Making(Part& part, OnProgress on_progress) : part_(part), on_progress_(std::move(on_progress)) {}

  // One at a time; the answer is for the coordinator.
  Task<Result<std::string>> perform(coordinator::Work work, std::string details);
  void call_off();  // the work under way is to end soon

 private:
  Result<> prepare();
  Result<std::string> create(bool restart);
  Result<std::string> tunnel(int network);
  Result<> connect(const std::string& details);
  Task<Result<>> start(const std::string& details);
  Task<Result<>> unpack();
  Task<Result<>> restore();
  Task<Result<std::string>> go();
  Task<Result<>> destroy();

  Part& part_;
  OnProgress on_progress_;
  Fd network_;          // of a restart, until the container is there
  std::string images_;  // directory
  std::optional<container::FreezeGuard> held_;
  RestartTimes times_;
  StepWorker worker_;
};

}  // namespace stillpoint::agent
