// CRIU's log made into one line for people.
#pragma once

#include <string>
#include <string_view>

#include "common/error.h"

namespace stillpoint::criu {

// The first error lines of a CRIU log (the first is the cause, later ones follow from it), and
// advice where the cause is a known one: a file gone or of another size, a device, a socket to the
// outside, io_uring, no space, another CPU, missing privileges ...  `doing` is "dump" or "restore".
Error explain(std::string_view doing, std::string_view log);

}  // namespace stillpoint::criu
