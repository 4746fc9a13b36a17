// The life of a job, from the side of the process that leads it; the same whether its members are
// in this process or on other nodes.
#pragma once

#include <boost/asio/io_context.hpp>

#include "launcher/agent/front_end.h"
#include "launcher/agent/job.h"
#include "launcher/agent/part.h"
#include "launcher/agent/request.h"
#include "launcher/agent/restart.h"

namespace stillpoint::agent {

// Makes the member of a seat, and tells the seat what its node calls itself.  The spec has no
// tunnel ends yet.
using MakeMember = std::function<Task<Result<std::unique_ptr<MemberPort>>>(
    PartSpec spec, Seat& seat, MemberEvents events)>;

struct Surroundings {
  asio::io_context& io;
  FrontEnd& front;
  MakeMember make;
};

// Starts a job, serves it, returns its exit status; an error if it could not be started.
Result<int> lead_run(const Surroundings& around, const RunRequest& request,
                     std::vector<Seat> seats);

// The same from a checkpoint; one seat for each of its containers.
Result<int> lead_restart(const Surroundings& around, const RestartRequest& request,
                         const FoundCheckpoint& found, std::vector<Seat> seats);

}  // namespace stillpoint::agent
