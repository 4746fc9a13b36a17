// Asking a job's agent over its control socket.
#pragma once

#include <functional>
#include <string>

#include "common/deadline.h"
#include "common/error.h"
#include "common/wire/control.pb.h"

namespace stillpoint::cli {

// The agent's answer; its failures come back as errors.  kNotFound if no such job runs on this
// node.
Result<control::Reply> ask(const std::string& job, const control::Request& request,
                           Deadline deadline,
                           const std::function<void(const control::Progress&)>& on_progress = {});

}  // namespace stillpoint::cli
