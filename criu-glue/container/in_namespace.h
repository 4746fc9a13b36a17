// Work inside another network namespace, without ever leaving one's own: in a forked child.
#pragma once

#include <functional>
#include <string>

#include "common/deadline.h"
#include "common/error.h"
#include "common/fd.h"

namespace stillpoint::container {

// Runs `work` in a child that is in the network namespace `ns`, or, with kOwnNamespace, in the
// caller's.  Its result or error comes back; at the deadline the child is killed (kTimeout).  The
// caller has one thread only.  `what` stands in front of every error.
inline constexpr int kOwnNamespace = -1;
Result<std::string> in_namespace(int ns, const std::string& what,
                                 const std::function<Result<std::string>()>& work,
                                 Deadline deadline);

// For such a child: moves itself.
Result<> enter_namespace(int ns);

}  // namespace stillpoint::container
