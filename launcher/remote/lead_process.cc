#include "launcher/remote/lead_process.h"

#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <csignal>
#include <optional>

#include "common/log.h"
#include "launcher/agent/guard.h"
#include "launcher/agent/lead.h"
#include "launcher/agent/registry.h"
#include "launcher/remote/messages.h"
#include "launcher/remote/remote_front_end.h"
#include "launcher/remote/remote_member.h"
#include "launcher/remote/seating.h"

namespace stillpoint::remote {

namespace {

// The job's name on this node, for as long as the lead lives.
class Claim {
 public:
  static Result<Claim> take(const std::string& job, uid_t uid) {
    auto claim = agent::JobClaim::claim(job);
    if (!claim) return fail(claim.error());
    auto guard = agent::Guard::start(*claim, job);
    if (!guard) return fail(guard.error().during("starting the guard"));
    Claim taken(std::move(*claim), std::move(*guard));
    taken.note_ = {.job = job, .cgroup = {}, .staging = {}, .uid = uid, .agent_pid = ::getpid()};
    if (auto r = taken.claim_.write(taken.note_); !r) return fail(r.error());
    return taken;
  }
  Claim(Claim&&) = default;
  ~Claim() {
    if (note_.job.empty()) return;
    if (auto r = agent::clean_up(note_); !r) log::warning(r.error().line());
    guard_.dismiss();
  }

 private:
  Claim(agent::JobClaim claim, agent::Guard guard)
      : claim_(std::move(claim)), guard_(std::move(guard)) {}
  agent::JobClaim claim_;
  agent::Guard guard_;
  agent::JobNote note_;
};

// Everybody acts for himself, root for whom it names.
Result<Identity> user_of(const peer::Party& party, const job::LeadJob& request) {
  if (party.uid != 0 && party.uid != request.uid())
    return fail(ErrorKind::kPermission, "only root may act for others");
  return identity_of(request.uid());
}

Result<int> lead(const agent::Surroundings& around, const peer::Party& party,
                 const job::LeadJob& request, const Config& config) {
  auto user = user_of(party, request);
  if (!user) return fail(user.error());
  if (request.has_run()) {
    auto run = run_from(request, std::move(*user), config);
    if (!run) return fail(run.error());
    auto seats = seats_for(run->ranks, request.hosts());
    if (!seats) return fail(seats.error());
    auto claim = Claim::take(run->job, run->user.uid);
    if (!claim) return fail(claim.error());
    return agent::lead_run(around, *run, std::move(*seats));
  }
  auto restart = restart_from(request, std::move(*user), config);
  if (!restart) return fail(restart.error());
  auto found = agent::find_checkpoint(*restart);
  if (!found) return fail(found.error());
  auto seats = seats_for(found->manifest, request.hosts());
  if (!seats) return fail(seats.error());
  auto claim = Claim::take(found->manifest.job, restart->user.uid);
  if (!claim) return fail(claim.error());
  return agent::lead_restart(around, *restart, *found, std::move(*seats));
}

}  // namespace

int run_lead(peer::Released released, const job::LeadJob& request, const Config& config) {
  ::signal(SIGPIPE, SIG_IGN);
  asio::io_context io(1);
  const peer::Party party = released.party;
  peer::ConnectionLimits limits;
  limits.node_timeout = config.node_timeout;
  auto connection = peer::Connection::resume(io.get_executor(), std::move(released), limits);
  if (!connection) {
    log::error(connection.error());
    return connection.error().exit_status();
  }
  RemoteFrontEnd front(io.get_executor(), std::move(*connection));
  log::set_listener([&front](log::Level level, const std::string& text) {
    front.say(static_cast<int>(level), text);
  });
  auto status = lead({io, front, members_on_nodes(io, config)}, party, request, config);
  if (!front.finished()) {  // there was no job to say it
    asio::co_spawn(io, front.finish(status), [&](std::exception_ptr) { io.stop(); });
    io.run();
  }
  log::set_listener({});
  return status ? 0 : 1;
}

}  // namespace stillpoint::remote
