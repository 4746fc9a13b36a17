// A daemon's dealings with what started it.
#pragma once

#include <functional>
#include <string>

#include "common/error.h"
#include "common/fd.h"

namespace stillpoint::daemon {

// Tells systemd, if it wants to know (NOTIFY_SOCKET): "READY=1", "STOPPING=1".
void notify(const std::string& state);

// Whether standard error leads to the journal (JOURNAL_STREAM), which takes priorities.
bool logs_to_journal();

// Holds the file while this process lives.  kBusy names the process that has it.  A lock of POSIX's
// kind: what this process forks does not hold it, so that jobs do not keep the next daemon out.
Result<Fd> hold_alone(const std::string& path);

// Runs `serve` in a session of its own in the background; the caller returns once it has said that
// it is ready, or with its status if it ended before.  Standard error stays what it was.
Result<int> in_background(const std::function<int(const std::function<void()>& ready)>& serve);

}  // namespace stillpoint::daemon
