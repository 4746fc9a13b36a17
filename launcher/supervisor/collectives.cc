#include "launcher/supervisor/collectives.h"

#include <utility>

namespace stillpoint::supervisor {

Result<> Collectives::contribute(const std::string& key, std::set<Node> nodes, std::string data,
                                 Done done) {
  if (!nodes.contains(self_))
    return fail(ErrorKind::kProtocol, "a collective operation without this node");
  Operation& operation = operations_[key];
  operation.parts[self_].push_back(std::move(data));
  operation.ours.push_back({std::move(nodes), std::move(done)});
  complete(key);
  return {};
}

Result<> Collectives::arrived(const std::string& key, Node from, std::string data) {
  if (from == self_) return fail(ErrorKind::kProtocol, "a contribution of our own from outside");
  const size_t cost = key.size() + data.size();
  if (early_bytes_ + cost > most_early_bytes_)
    return fail(ErrorKind::kProtocol,
                "node " + std::to_string(from) + " is too far ahead in its collective operations");
  early_bytes_ += cost;
  operations_[key].parts[from].push_back(std::move(data));
  complete(key);
  return {};
}

void Collectives::complete(const std::string& key) {
  const auto found = operations_.find(key);
  Operation& operation = found->second;
  if (operation.ours.empty()) return;
  for (const Node node : operation.ours.front().nodes) {
    const auto parts = operation.parts.find(node);
    if (parts == operation.parts.end() || parts->second.empty()) return;
  }
  const Ours ours = std::move(operation.ours.front());
  operation.ours.pop_front();
  Parts all;
  for (const Node node : ours.nodes) {
    auto& queue = operation.parts[node];
    all.push_back(std::move(queue.front()));
    queue.pop_front();
    if (node != self_) early_bytes_ -= key.size() + all.back().size();
    if (queue.empty()) operation.parts.erase(node);
  }
  if (operation.parts.empty() && operation.ours.empty()) operations_.erase(found);
  ours.done(std::move(all));  // last: it may change the table
}

}  // namespace stillpoint::supervisor
