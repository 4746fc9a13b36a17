#include "launcher/remote/seating.h"

#include <algorithm>
#include <numeric>
#include <set>

namespace stillpoint::remote {

namespace {

Result<> check(const Hosts& hosts) {
  if (hosts.empty()) return fail(ErrorKind::kUsage, "no hosts are named");
  std::set<std::string> seen;
  for (const auto& host : hosts) {
    if (host.name().empty()) return fail(ErrorKind::kUsage, "a host without a name");
    if (!seen.insert(host.name()).second)
      return fail(ErrorKind::kUsage, "host " + host.name() + " is named twice");
    if ((host.slots() == 0) != (hosts.Get(0).slots() == 0))
      return fail(ErrorKind::kUsage, "some hosts have a number of slots and some have none",
                  "give it to all or to none of them");
  }
  return {};
}

// The size of each of `n` blocks of `all` things.
uint32_t even_share(uint32_t all, uint32_t n, uint32_t i) {
  return all / n + (i < all % n ? 1 : 0);
}

}  // namespace

Result<std::vector<agent::Seat>> seats_for(uint32_t ranks, const Hosts& hosts) {
  if (auto r = check(hosts); !r) return fail(r.error());
  const auto n = static_cast<uint32_t>(hosts.size());
  std::vector<agent::Seat> seats;
  uint32_t next = 0;
  for (uint32_t i = 0; i < n; i++) {
    const auto& host = hosts.Get(static_cast<int>(i));
    const uint32_t share =
        host.slots() ? std::min(host.slots(), ranks - next) : even_share(ranks, n, i);
    if (share == 0) continue;
    agent::Seat seat{.node = host.name(), .host = {}, .ranks = std::vector<uint32_t>(share)};
    std::iota(seat.ranks.begin(), seat.ranks.end(), next);
    next += share;
    seats.push_back(std::move(seat));
  }
  if (next < ranks)
    return fail(ErrorKind::kUsage, std::to_string(ranks) + " ranks, but the hosts have " +
                                       std::to_string(next) + " slots");
  return seats;
}

Result<std::vector<agent::Seat>> seats_for(const statefile::Manifest& dumped, const Hosts& hosts) {
  if (!hosts.empty())
    if (auto r = check(hosts); !r) return fail(r.error());
  const auto containers = static_cast<uint32_t>(dumped.containers.size());
  const uint32_t n = std::min(containers, static_cast<uint32_t>(hosts.size()));
  std::vector<agent::Seat> seats;
  for (uint32_t host = 0; host < n; host++)
    for (uint32_t k = even_share(containers, n, host); k > 0; k--)
      seats.push_back({.node = hosts.Get(static_cast<int>(host)).name(), .host = {}, .ranks = {}});
  for (uint32_t i = 0; i < containers; i++) {
    const auto& record = dumped.containers[i];
    if (hosts.empty()) seats.push_back({.node = record.hostname, .host = {}, .ranks = {}});
    for (const auto& rank : record.ranks) seats[i].ranks.push_back(rank.rank);
    std::ranges::sort(seats[i].ranks);
  }
  return seats;
}

}  // namespace stillpoint::remote
