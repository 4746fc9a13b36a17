// stillpoint check --hosts: asks the daemons of many nodes whether they are fit.
#pragma once

#include <string>
#include <vector>

#include "common/error.h"

namespace stillpoint::cli {

// One line a node, or JSON, in the order of the list.  0, or kUnfit's status if a node is not fit
// or cannot be asked.  kUsage: the list is nonsense.
Result<int> check_hosts(const std::string& list, bool json);

// "a,b,c": no empty name, none twice, no blanks; 4096 at most.
Result<std::vector<std::string>> split_hosts(const std::string& list);

}  // namespace stillpoint::cli
