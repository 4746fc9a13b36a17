// Files of the application at a restart: each must still be there and as long as it was; those that
// were open for writing are cut back to the length they had at the checkpoint.  Acts as the calling
// process's user.
#pragma once

#include "common/error.h"
#include "criu-glue/statefile/record.h"

namespace stillpoint::agent {

// kDamaged names the first file that is gone or shorter.  Changes nothing.
Result<> check_files(const std::vector<statefile::FileRecord>& files);

// Call check_files before.  Opens without following symbolic links.
Result<> roll_back_files(const std::vector<statefile::FileRecord>& files);

}  // namespace stillpoint::agent
