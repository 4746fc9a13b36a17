// The member of a job that runs in this process: its part, driven by commands.
#pragma once

#include <memory>

#include "launcher/agent/member_driver.h"
#include "launcher/agent/member_port.h"
#include "launcher/agent/works.h"

namespace stillpoint::agent {

// How long a member waits, given how long its job may be held still.
coordinator::Limits limits_of(const CheckpointPolicy& policy);

class LocalMember : public MemberPort {
 public:
  static Result<std::unique_ptr<LocalMember>> make(asio::io_context& io, PartSpec spec,
                                                   MemberEvents events);
  ~LocalMember() override;
  void command(const coordinator::Command& command, const std::string& details) override;
  void tell(const link::ToSupervisor& message) override;
  Task<Result<std::vector<control::RankStatus>>> look(Deadline deadline) override;
  Task<Result<>> leave(Deadline deadline) override;
  pid_t init_pid() const override { return part_->init_pid(); }

  void lead_lost() { driver_->coordinator_lost(); }
  bool at_rest() const { return driver_->idle(); }
  bool gone() const { return part_->gone(); }

 private:
  explicit LocalMember(MemberEvents events) : events_(std::move(events)) {}
  MemberEvents events_;
  std::unique_ptr<Part> part_;
  std::unique_ptr<Works> works_;
  std::unique_ptr<MemberDriver> driver_;
};

}  // namespace stillpoint::agent
