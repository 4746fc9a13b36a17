#include "criu-glue/container/tunnel_guard.h"

#include "criu-glue/container/in_namespace.h"
#include "criu-glue/container/nft.h"

namespace stillpoint::container {

namespace {

// "table" makes it where it is missing, so that the "delete" never fails; all in one transaction.
std::string cleared() {
  const std::string table = std::string("table inet ") + kGuardTable;
  return table + " {}\ndelete " + table + "\n";
}

Result<> run(const std::string& what, const std::string& commands, Deadline deadline) {
  auto done = in_namespace(kOwnNamespace, what, [&] { return run_nft(commands); }, deadline);
  if (!done) return fail(done.error());
  return {};
}

}  // namespace

Result<> guard_tunnels(const mpi_network::PortRange& ports, Deadline deadline) {
  if (auto r = mpi_network::check(ports); !r) return fail(r.error());
  const std::string range = std::to_string(ports.first) + "-" + std::to_string(ports.last);
  // Before connection tracking and address translation (-300 to -100), which could hide the port.
  return run("guarding the tunnels",
             cleared() + "table inet " + kGuardTable +
                 " {\n chain output {\n  type filter hook output priority -400; policy accept;\n"
                 "  udp dport " +
                 range + " meta skuid != 0 counter drop\n }\n}\n",
             deadline);
}

Result<> unguard_tunnels(Deadline deadline) {
  return run("taking the guard off the tunnels", cleared(), deadline);
}

}  // namespace stillpoint::container
