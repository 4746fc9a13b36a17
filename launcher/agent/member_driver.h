// Drives a member's state machine (coordinator/member.h): time and commands go in, its works are
// performed, its answers go out.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <functional>

#include "launcher/agent/works.h"
#include "launcher/coordinator/member.h"

namespace stillpoint::agent {

// Milliseconds of the monotonic clock, as the state machines count.
coordinator::Time machine_time();

class MemberDriver {
 public:
  using OnAnswer = std::function<void(const coordinator::Answer&)>;
  // All three outlive it, and every work under way.
  MemberDriver(const asio::any_io_executor& executor, Works& works, coordinator::Limits limits,
               OnAnswer on_answer);

  void command(const coordinator::Command& command, std::string details);
  void coordinator_lost();
  bool idle() const { return member_.idle(); }

 private:
  void act(const coordinator::MemberActions& actions);
  Task<> perform(coordinator::Work work);
  void arm();

  asio::any_io_executor executor_;
  Works& works_;
  coordinator::Member member_;
  OnAnswer on_answer_;
  asio::steady_timer timer_;
  std::string details_;  // that came with the latest command
};

}  // namespace stillpoint::agent
