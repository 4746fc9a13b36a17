#include "launcher/agent/conductor.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "launcher/agent/member_driver.h"

namespace stillpoint::agent {

Conductor::Conductor(const asio::any_io_executor& executor, std::vector<std::string> nodes,
                     coordinator::Limits limits)
    : executor_(executor),
      coordinator_(std::move(nodes), limits),
      timer_(executor),
      over_(executor) {}

Task<Result<coordinator::Report>> Conductor::perform(coordinator::Request request) {
  if (performing_) co_return fail(ErrorKind::kBusy, "the job is still busy with something else");
  report_.reset();
  over_.reset();
  auto begun = coordinator_.begin(request, machine_time());
  if (!begun) co_return fail(begun.error());
  performing_ = true;
  act(*begun);
  co_await over_.wait();
  performing_ = false;
  co_return *report_;
}

void Conductor::cancel(const Error& why) {
  act(coordinator_.cancel(why, machine_time()));
}

void Conductor::answered(coordinator::MemberId member, const coordinator::Answer& answer) {
  act(coordinator_.on_answer(member, answer, machine_time()));
}

void Conductor::lost(coordinator::MemberId member, const Error& why) {
  act(coordinator_.on_lost(member, why, machine_time()));
}

void Conductor::act(const coordinator::Actions& actions) {
  for (const auto& action : actions) {
    if (const auto* what = std::get_if<coordinator::Send>(&action)) {
      asio::co_spawn(executor_, send(*what), asio::detached);
    } else if (const auto* decide = std::get_if<coordinator::Commit>(&action)) {
      asio::co_spawn(executor_, commit(*decide), asio::detached);
    } else if (const auto* gone = std::get_if<coordinator::Discard>(&action)) {
      discarding_++;
      asio::co_spawn(executor_, discard(gone->epoch), asio::detached);
    } else {
      report_ = std::get<coordinator::Report>(action);
      if (discarding_ == 0) over_.set();
    }
  }
  arm();
}

Task<> Conductor::send(coordinator::Send what) {
  if (handlers_.before) co_await handlers_.before(what.command);
  for (const coordinator::MemberId member : what.to)
    (*members_)[member]->command(
        what.command, handlers_.details ? handlers_.details(member, what.command) : std::string());
}

Task<> Conductor::commit(coordinator::Commit what) {
  auto said = co_await handlers_.commit(what.epoch);
  act(coordinator_.on_commit(what.attempt, said.outcome, std::move(said.why), machine_time()));
}

Task<> Conductor::discard(uint64_t epoch) {
  co_await handlers_.discard(epoch);
  if (--discarding_ == 0 && report_) over_.set();
}

void Conductor::arm() {
  timer_.cancel();
  const auto at = coordinator_.next_wakeup();
  if (!at) return;
  timer_.expires_at(std::chrono::steady_clock::time_point(*at));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) act(coordinator_.on_time(machine_time()));
  });
}

}  // namespace stillpoint::agent
