#include "launcher/supervisor/collectives.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "launcher/supervisor/fan.h"

namespace stillpoint::supervisor {

namespace {

size_t cost(const std::string& key, const Collectives::Bundle& bundle) {
  size_t bytes = key.size();
  for (const auto& part : bundle) bytes += sizeof part + part.data.size();
  return bytes;
}

auto nonsense(Collectives::Node from) {
  return fail(ErrorKind::kProtocol,
              "node " + std::to_string(from) + " brings something that its operation is not about");
}

}  // namespace

std::vector<Collectives::Node> Collectives::Ours::below() const {
  std::vector<Node> found;
  for (const uint32_t at : fan::below(place, static_cast<uint32_t>(nodes.size())))
    found.push_back(nodes[at]);
  return found;
}

Result<> Collectives::contribute(const std::string& key, const std::set<Node>& nodes,
                                 std::string data, Done done) {
  const auto self = nodes.find(self_);
  if (self == nodes.end())
    return fail(ErrorKind::kProtocol, "a collective operation without this node");
  operations_[key].ours.push_back(
      {.nodes = {nodes.begin(), nodes.end()},
       .place = static_cast<uint32_t>(std::distance(nodes.begin(), self)),
       .data = std::move(data),
       .done = std::move(done)});
  return advance(key);
}

Result<> Collectives::gathered(const std::string& key, Node from, Bundle parts) {
  if (from == self_) return fail(ErrorKind::kProtocol, "a contribution of our own from outside");
  const size_t bytes = cost(key, parts);
  if (early_bytes_ + bytes > most_early_bytes_)
    return fail(ErrorKind::kProtocol,
                "node " + std::to_string(from) + " is too far ahead in its collective operations");
  early_bytes_ += bytes;
  operations_[key].below[from].push_back(std::move(parts));
  return advance(key);
}

// The oldest of ours that waits for those below it goes on, if they are all there.
Result<> Collectives::advance(const std::string& key) {
  Operation& operation = operations_.at(key);
  const auto waiting =
      std::ranges::find_if(operation.ours, [](const Ours& ours) { return !ours.handed_up; });
  if (waiting == operation.ours.end()) return {};
  for (const Node node : waiting->below())
    if (!operation.below.contains(node)) return {};
  Bundle bundle = collect(key, operation, *waiting);
  if (waiting->place == 0) return complete(key, std::move(bundle));
  waiting->handed_up = true;
  outlet_.gather(waiting->nodes[fan::above(waiting->place)], key, bundle);
  return {};
}

Collectives::Bundle Collectives::collect(const std::string& key, Operation& operation, Ours& ours) {
  Bundle bundle;
  bundle.push_back({self_, std::move(ours.data)});
  for (const Node node : ours.below()) {
    const auto queue = operation.below.find(node);
    early_bytes_ -= cost(key, queue->second.front());
    std::ranges::move(queue->second.front(), std::back_inserter(bundle));
    queue->second.pop_front();
    if (queue->second.empty()) operation.below.erase(queue);
  }
  std::ranges::sort(bundle, {}, &Part::node);
  return bundle;
}

Result<> Collectives::spread(const std::string& key, Node from, Bundle all) {
  const auto found = operations_.find(key);
  if (found == operations_.end() || found->second.ours.empty()) return nonsense(from);
  const Ours& ours = found->second.ours.front();
  if (!ours.handed_up || ours.nodes[fan::above(ours.place)] != from) return nonsense(from);
  return complete(key, std::move(all));
}

Result<> Collectives::complete(const std::string& key, Bundle all) {
  Operation& operation = operations_.at(key);
  if (!std::ranges::equal(all, operation.ours.front().nodes, {}, &Part::node))
    return nonsense(all.empty() ? self_ : all.front().node);
  const Ours ours = std::move(operation.ours.front());
  operation.ours.pop_front();
  const bool more = !operation.ours.empty() && ours.place == 0;
  if (operation.ours.empty() && operation.below.empty()) operations_.erase(key);
  if (const auto below = ours.below(); !below.empty()) outlet_.spread(below, key, all);
  Parts parts;
  for (Part& part : all) parts.push_back(std::move(part.data));
  ours.done(std::move(parts));  // it may change the table
  return more && operations_.contains(key) ? advance(key) : Result<>();
}

}  // namespace stillpoint::supervisor
