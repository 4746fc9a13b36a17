#include "launcher/agent/member_driver.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

namespace stillpoint::agent {

using coordinator::CallOff;
using coordinator::Do;
using coordinator::Reply;

coordinator::Time machine_time() {
  return std::chrono::duration_cast<coordinator::Time>(
      std::chrono::steady_clock::now().time_since_epoch());
}

MemberDriver::MemberDriver(const asio::any_io_executor& executor, Works& works,
                           coordinator::Limits limits, OnAnswer on_answer)
    : executor_(executor),
      works_(works),
      member_(limits),
      on_answer_(std::move(on_answer)),
      timer_(executor) {}

void MemberDriver::command(const coordinator::Command& command, std::string details) {
  details_ = std::move(details);
  act(member_.on_command(command, machine_time()));
}

void MemberDriver::coordinator_lost() {
  act(member_.on_coordinator_lost(machine_time()));
}

void MemberDriver::act(const coordinator::MemberActions& actions) {
  for (const auto& action : actions) {
    if (const auto* work = std::get_if<Do>(&action))
      asio::co_spawn(executor_, perform(work->work), asio::detached);
    else if (std::holds_alternative<CallOff>(action))
      works_.call_off();
    else
      on_answer_(std::get<Reply>(action).answer);
  }
  arm();
}

Task<> MemberDriver::perform(coordinator::Work work) {
  auto result = co_await works_.perform(work, details_);
  act(member_.done(work, std::move(result), machine_time()));
}

void MemberDriver::arm() {
  timer_.cancel();
  const auto at = member_.next_wakeup();
  if (!at) return;
  timer_.expires_at(std::chrono::steady_clock::time_point(*at));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) act(member_.on_time(machine_time()));
  });
}

}  // namespace stillpoint::agent
