#include "launcher/agent/local_member.h"

#include <boost/asio/post.hpp>

#include "launcher/agent/node_facts.h"

namespace stillpoint::agent {

using namespace std::chrono_literals;

coordinator::Limits limits_of(const CheckpointPolicy& policy) {
  coordinator::Limits limits;
  // The works have bounds of their own, which tell more: these come after them.
  limits.prepare = 3min;
  limits.freeze = 2min;
  limits.dump = policy.hold_limit + 4min;
  limits.hold = policy.hold_limit + 6min;
  limits.go = 1min;
  limits.undo = 5min;
  limits.commit = 70s;
  limits.start = 1min;
  return limits;
}

Result<std::unique_ptr<LocalMember>> LocalMember::make(asio::io_context& io, PartSpec spec,
                                                       MemberEvents events) {
  std::unique_ptr<LocalMember> made(new LocalMember(std::move(events)));
  LocalMember* self = made.get();
  const coordinator::Limits limits = limits_of(spec.policy);
  auto part = Part::prepare(io, std::move(spec),
                            [self](const link::FromSupervisor& news) { self->events_.news(news); });
  if (!part) return fail(part.error());
  made->part_ = std::move(*part);
  made->works_ = std::make_unique<Works>(*made->part_, made->events_.progress);
  made->driver_ = std::make_unique<MemberDriver>(
      io.get_executor(), *made->works_, limits,
      [self](const coordinator::Answer& answer) { self->events_.answered(answer); });
  return made;
}

// What is held still must not run on for a moment when the works let go of it.
LocalMember::~LocalMember() {
  if (part_) part_->kill();
}

void LocalMember::command(const coordinator::Command& command, const std::string& details) {
  asio::post(part_->executor(), [this, command, details] { driver_->command(command, details); });
}

void LocalMember::tell(const link::ToSupervisor& message) {
  asio::post(part_->executor(), [this, message] { part_->tell(message); });
}

Task<Result<std::vector<control::RankStatus>>> LocalMember::look(Deadline) {
  const auto processes = part_->cgroup().processes();
  std::vector<control::RankStatus> ranks;
  for (const auto& rank :
       rank_records(part_->rank_pids(), processes.value_or(std::vector<pid_t>()))) {
    control::RankStatus status;
    status.set_rank(rank.rank);
    status.set_pid(rank.pid);
    status.set_program(rank.program);
    status.set_memory(rank.memory);
    ranks.push_back(std::move(status));
  }
  co_return ranks;
}

Task<Result<>> LocalMember::leave(Deadline) {
  co_await part_->leave();
  co_return Result<>();
}

}  // namespace stillpoint::agent
