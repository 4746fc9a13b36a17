// The settings of a node: /etc/stillpoint/stillpoint.conf, lines of `key = value`, '#' begins a
// comment.  share/man/stillpoint.conf.5 explains each key; a test holds the two together.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/units.h"

namespace stillpoint {

struct Config {
  // Below 1024, so that no ordinary user of a node can listen there in the daemon's place; below
  // 600, where programs that take any privileged port (NFS, rpcbind) do not stray.
  uint16_t port = 295;
  std::string address;  // IPv4, to listen on and for tunnels; empty: that of the host name
  uint16_t first_tunnel_port = 29400, last_tunnel_port = 29655;  // UDP; both belong to the range
  std::string staging = paths::kDefaultStaging;
  std::string checkpoint_dir = paths::kDefaultCheckpoints;  // relative: to the job's directory
  uint32_t keep = 2;                                        // checkpoints; 0: all
  Milliseconds node_timeout{60'000};                        // silence for so long: the node is lost
  Milliseconds hold_limit{600'000};
  uint32_t max_jobs = 64;  // parts of jobs on this node at a time
  log::Level log_level = log::Level::kInfo;

  // What the file's text says over the defaults.  kUsage names `path`, the line and what is wrong.
  static Result<Config> parse(std::string_view text, const std::string& path);
  // Reads the file.  kPermission unless it is a regular file of root that nobody else can write;
  // kNotFound if it is not there.
  static Result<Config> read(const std::string& path);
  // The file that applies: `named` if not empty; for root that in STILLPOINT_CONFIG; else
  // paths::kConfiguration, where a file that is missing means all defaults.
  static Result<Config> load(const std::string& named = {});
};

std::vector<std::string_view> config_keys();  // all that a file may hold

// The node's IPv4 address: the one configured, else that of the host name.  kUnfit if the host
// name has none, or only one that other nodes cannot reach.
Result<std::string> node_address(const Config& config);

}  // namespace stillpoint
