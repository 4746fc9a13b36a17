// What PMIx is told about a job, for its ranks to ask: who is where, how many there are.
#pragma once

#include <string>

#include "common/error.h"
#include "launcher/supervisor/environment.h"
#include "launcher/supervisor/placement.h"
#include "launcher/supervisor/pmix_info.h"

namespace stillpoint::supervisor {

struct PmixJob {
  std::string nspace;  // at most 255 characters
  Placement placement;
  std::string session_directory;  // exists, private to the user
  Launch launch;
};

// For PMIx_server_register_nspace, once PMIx's server is initialized.
Result<InfoArray> describe(const PmixJob& job);

}  // namespace stillpoint::supervisor
