// nftables, through its library.
#pragma once

#include <string>

#include "common/error.h"

namespace stillpoint::container {

// Runs commands (nft's own language) as one transaction in the network namespace that the caller is
// in.  What `list` commands say comes back as nft's JSON.  kSystem, with nft's first line.
Result<std::string> run_nft(const std::string& commands);

}  // namespace stillpoint::container
