#include "launcher/agent/agent.h"

#include <boost/asio/io_context.hpp>
#include <csignal>
#include <numeric>

#include "launcher/agent/launch.h"
#include "launcher/agent/lead.h"
#include "launcher/agent/local_member.h"
#include "launcher/agent/terminal.h"

namespace stillpoint::agent {

namespace {

// The one seat of a job on this node alone.
std::vector<Seat> seat_here(uint32_t ranks) {
  Seat seat{.node = {}, .host = this_host(), .ranks = std::vector<uint32_t>(ranks)};
  std::iota(seat.ranks.begin(), seat.ranks.end(), 0u);
  return {seat};
}

MakeMember members_here(asio::io_context& io) {
  return [&io](PartSpec spec, Seat&,
               MemberEvents events) -> Task<Result<std::unique_ptr<MemberPort>>> {
    auto member = LocalMember::make(io, std::move(spec), std::move(events));
    if (!member) co_return fail(member.error());
    co_return std::move(*member);
  };
}

}  // namespace

Result<int> run_job(const RunRequest& request, ProgressSink& sink) {
  ::signal(SIGPIPE, SIG_IGN);
  asio::io_context io(1);
  Terminal terminal(io.get_executor(), sink);
  return lead_run({io, terminal, members_here(io)}, request, seat_here(request.ranks));
}

Result<int> restart_job(const RestartRequest& request, ProgressSink& sink) {
  ::signal(SIGPIPE, SIG_IGN);
  auto found = find_checkpoint(request);
  if (!found) return fail(found.error());
  if (found->manifest.containers.size() != 1)
    return fail(ErrorKind::kUsage, "the checkpoint is of a job in several containers",
                "name nodes for it with --hosts");
  asio::io_context io(1);
  Terminal terminal(io.get_executor(), sink);
  return lead_restart({io, terminal, members_here(io)}, request, *found,
                      seat_here(found->manifest.ranks));
}

}  // namespace stillpoint::agent
