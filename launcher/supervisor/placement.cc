#include "launcher/supervisor/placement.h"

#include <arpa/inet.h>

#include <numeric>
#include <set>
#include <utility>

namespace stillpoint::supervisor {

namespace {

auto refuse(const std::string& what) {
  return fail(ErrorKind::kUsage, "the job cannot be started: " + what);
}

Result<> check_node(const Placement::Node& node, size_t nodes) {
  if (node.hostname.empty()) return refuse("a node has no name");
  if (node.hostname.find_first_of(",; \t\n") != std::string::npos)
    return refuse("a node's name cannot be used: " + node.hostname);
  if (node.ranks.empty()) return refuse("no rank is on node " + node.hostname);
  if (node.ranks.size() > Placement::kMostRanksOfANode)
    return refuse(std::to_string(node.ranks.size()) + " ranks, 1 to " +
                  std::to_string(Placement::kMostRanksOfANode) + " are possible on a node");
  in_addr address{};
  if (nodes > 1 && ::inet_pton(AF_INET, node.address.c_str(), &address) != 1)
    return refuse("node " + node.hostname + " has no IPv4 address, but '" + node.address + "'");
  return {};
}

}  // namespace

Result<Placement> Placement::make(std::string hostname, uint32_t ranks) {
  if (ranks < 1 || ranks > kMostRanksOfANode)
    return refuse(std::to_string(ranks) + " ranks, 1 to " + std::to_string(kMostRanksOfANode) +
                  " are possible on a node");
  std::vector<uint32_t> all(ranks);
  std::iota(all.begin(), all.end(), 0);
  return make({{std::move(hostname), {}, std::move(all)}}, 0, ranks);
}

Result<Placement> Placement::make(std::vector<Node> nodes, uint32_t self, uint32_t ranks) {
  if (nodes.empty() || nodes.size() > kMostNodes)
    return refuse(std::to_string(nodes.size()) + " nodes, 1 to " + std::to_string(kMostNodes) +
                  " are possible");
  if (self >= nodes.size()) return refuse("this node is none of the job's");
  if (ranks < 1 || ranks > kMostRanks)
    return refuse(std::to_string(ranks) + " ranks, 1 to " + std::to_string(kMostRanks) +
                  " are possible");
  constexpr uint32_t kNowhere = kMostNodes;
  std::vector<Place> places(ranks, {kNowhere, 0});
  std::set<std::string> names, addresses;
  for (uint32_t index = 0; index < nodes.size(); index++) {
    const Node& node = nodes[index];
    if (auto r = check_node(node, nodes.size()); !r) return fail(r.error());
    if (!names.insert(node.hostname).second)
      return refuse("two of its nodes are called " + node.hostname);
    if (nodes.size() > 1 && !addresses.insert(node.address).second)
      return refuse("two of its nodes have the address " + node.address);
    for (uint32_t local = 0; local < node.ranks.size(); local++) {
      const uint32_t rank = node.ranks[local];
      if (rank >= ranks || places[rank].node != kNowhere ||
          (local > 0 && rank < node.ranks[local - 1]))
        return refuse("rank " + std::to_string(rank) + " of node " + node.hostname +
                      " is out of range, out of order, or there twice");
      places[rank] = {index, local};
    }
  }
  for (uint32_t rank = 0; rank < ranks; rank++)
    if (places[rank].node == kNowhere)
      return refuse("rank " + std::to_string(rank) + " is on no node");
  return Placement(std::move(nodes), self, std::move(places));
}

std::string compact(const std::vector<uint32_t>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) last++;
    text += (i ? "," : "") + std::to_string(numbers[i]);
    if (last > i) text += "-" + std::to_string(numbers[last]);
    i = last + 1;
  }
  return text;
}

std::string listed(const std::vector<uint32_t>& numbers) {
  std::string text;
  for (const uint32_t number : numbers) text += (text.empty() ? "" : ",") + std::to_string(number);
  return text;
}

}  // namespace stillpoint::supervisor
