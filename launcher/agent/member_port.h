// A member of a job, from its lead's side: in the same process (local_member.h), or on another node
// (launcher/remote/remote_member.h).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/async/event.h"
#include "common/wire/control.pb.h"
#include "common/wire/link.pb.h"
#include "common/worker.h"
#include "launcher/coordinator/protocol.h"

namespace stillpoint::agent {

// What a member has to tell.  Never called from within a call of MemberPort, nor after the port is
// gone.
struct MemberEvents {
  std::function<void(const coordinator::Answer&)> answered;
  std::function<void(const link::FromSupervisor&)> news;  // part.h
  std::function<void(const std::string& phase, WorkDone done)> progress;
  std::function<void(const Error&)> lost;  // for good, and the last of all
};

class MemberPort {
 public:
  virtual ~MemberPort() = default;
  // Both return at once.  What is sent to a member that is lost goes nowhere.
  virtual void command(const coordinator::Command& command, const std::string& details) = 0;
  virtual void tell(const link::ToSupervisor& message) = 0;
  // The ranks there, and what they use now.
  virtual Task<Result<std::vector<control::RankStatus>>> look(Deadline deadline) = 0;
  // The job is over: when it returns, nothing of it is left there, or the error says why.
  virtual Task<Result<>> leave(Deadline deadline) = 0;
  // pid 1 of its container; 0: it is not on this node, or not made yet.
  virtual pid_t init_pid() const { return 0; }
};

}  // namespace stillpoint::agent
