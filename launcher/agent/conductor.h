// Drives the coordinator's state machine (coordinator/coordinator.h) with a job's members: its
// commands go out to them, their answers, time and losses go in.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/async/event.h"
#include "launcher/agent/member_port.h"
#include "launcher/coordinator/coordinator.h"

namespace stillpoint::agent {

struct CommitSaid {
  coordinator::CommitOutcome outcome;
  std::optional<Error> why;
};

class Conductor {
 public:
  // What is the lead's own to do.  All outlive the operation under way.
  struct Handlers {
    // Awaited before a command goes out; repeats too.
    std::function<Task<>(const coordinator::Command&)> before;
    std::function<std::string(coordinator::MemberId, const coordinator::Command&)> details;
    std::function<Task<CommitSaid>(uint64_t epoch)> commit;
    std::function<Task<>(uint64_t epoch)> discard;
  };

  // `nodes`: names of the members' nodes; one that is empty is not named.
  Conductor(const asio::any_io_executor& executor, std::vector<std::string> nodes,
            coordinator::Limits limits);
  void set_members(const std::vector<std::unique_ptr<MemberPort>>& members) { members_ = &members; }
  void set_handlers(Handlers handlers) { handlers_ = std::move(handlers); }

  // One at a time: kBusy.  Returns when all has been said and done.
  Task<Result<coordinator::Report>> perform(coordinator::Request request);
  void cancel(const Error& why);  // the one under way; too late once it is being committed

  void answered(coordinator::MemberId member, const coordinator::Answer& answer);
  void lost(coordinator::MemberId member, const Error& why);

  std::optional<coordinator::Step> step() const { return coordinator_.step(); }
  uint64_t epoch() const { return coordinator_.epoch(); }
  std::span<const std::string> answers(coordinator::Step step) const {
    return coordinator_.answers(step);
  }

 private:
  void act(const coordinator::Actions& actions);
  Task<> send(coordinator::Send what);
  Task<> commit(coordinator::Commit what);
  Task<> discard(uint64_t epoch);
  void arm();

  asio::any_io_executor executor_;
  coordinator::Coordinator coordinator_;
  const std::vector<std::unique_ptr<MemberPort>>* members_ = nullptr;
  Handlers handlers_;
  asio::steady_timer timer_;
  Event over_;
  std::optional<coordinator::Report> report_;
  bool performing_ = false;
  unsigned discarding_ = 0;
};

}  // namespace stillpoint::agent
