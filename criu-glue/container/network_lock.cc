#include "criu-glue/container/network_lock.h"

#include <net/if.h>

#include <nlohmann/json.hpp>
#include <string>

#include "criu-glue/container/in_namespace.h"
#include "criu-glue/container/mpi_network.h"
#include "criu-glue/container/nft.h"

namespace stillpoint::container::network_lock {

namespace {

struct State {
  bool locked = false;
  Dropped dropped;
};

std::string table() {
  return std::string("table netdev ") + kTable;
}

// Before every other hook of the device.
std::string lock_commands() {
  return table() + " {\n chain lock {\n  type filter hook ingress device \"" +
         mpi_network::kDevice + "\" priority -500; policy accept;\n  counter drop\n }\n}\n";
}

// The counter of the one rule, in what nft says about the table.  The table alone is no lock: the
// kernel takes the chain away with the device.
Result<State> parse(const std::string& listing) {
  const auto json = nlohmann::json::parse(listing, nullptr, false);
  if (json.is_discarded() || !json.contains("nftables"))
    return fail(ErrorKind::kSystem, "nftables speaks no JSON");
  for (const auto& object : json["nftables"]) {
    if (!object.contains("rule") || object["rule"].value("table", "") != kTable) continue;
    for (const auto& expression : object["rule"]["expr"])
      if (expression.contains("counter") && expression["counter"].is_object())
        return State{.locked = true,
                     .dropped = {.packets = expression["counter"].value("packets", uint64_t{0}),
                                 .bytes = expression["counter"].value("bytes", uint64_t{0})}};
  }
  return State{};
}

// Of all tables of the family: asking for one that is not there would be an error like any other.
Result<std::string> listing_here() {
  return run_nft("list ruleset netdev");
}

Result<std::string> lock_here() {
  if (::if_nametoindex(mpi_network::kDevice) == 0)
    return fail(ErrorKind::kNotFound, std::string("there is no ") + mpi_network::kDevice);
  auto listing = listing_here();
  if (!listing) return listing;
  auto now = parse(*listing);
  if (!now) return fail(now.error());
  if (now->locked) return "";
  return run_nft(table() + " {}\ndelete " + table() + "\n" + lock_commands());
}

Result<std::string> unlock_here() {
  auto listing = listing_here();
  if (!listing) return listing;
  if (auto gone = run_nft(table() + " {}\ndelete " + table()); !gone) return gone;
  return listing;
}

}  // namespace

Result<> lock(int ns, Deadline deadline) {
  auto done = in_namespace(ns, "locking the network", lock_here, deadline);
  if (!done) return fail(done.error());
  return {};
}

Result<Dropped> unlock(int ns, Deadline deadline) {
  auto listing = in_namespace(ns, "unlocking the network", unlock_here, deadline);
  if (!listing) return fail(listing.error());
  auto before = parse(*listing);
  if (!before) return fail(before.error());
  return before->dropped;
}

Result<bool> locked(int ns, Deadline deadline) {
  auto listing = in_namespace(ns, "looking at the network's lock", listing_here, deadline);
  if (!listing) return fail(listing.error());
  auto now = parse(*listing);
  if (!now) return fail(now.error());
  return now->locked;
}

}  // namespace stillpoint::container::network_lock
