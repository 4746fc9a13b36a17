// What the node says of itself.
#pragma once

#include <optional>

#include "common/async/event.h"
#include "common/wire/peer.pb.h"

namespace stillpoint::daemon {

class NodeQuery {
 public:
  static constexpr std::chrono::seconds kFresh{30};  // so long the look at the node's fitness holds

  explicit NodeQuery(const asio::any_io_executor& executor) : free_(executor) { free_.set(); }
  // For a caller with this uid.  Looks in a worker, for one caller at a time.
  Task<Result<peer::NodeReply>> answer(uid_t caller, Deadline deadline);

 private:
  Event free_;  // nobody looks
  std::optional<peer::NodeReply> known_;
  Deadline::Clock::time_point looked_{};
};

}  // namespace stillpoint::daemon
