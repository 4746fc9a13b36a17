#include "launcher/coordinator/tree.h"

#include <algorithm>

namespace stillpoint::coordinator::tree {

std::optional<Node> parent(Node node) {
  if (node == kRoot) return std::nullopt;
  return (node - 1) / kMostChildren;
}

std::ranges::iota_view<Node, Node> children(Node node, Node nodes) {
  const uint64_t first = uint64_t{node} * kMostChildren + 1;  // beyond 32 bits for hostile numbers
  const uint64_t end = std::min<uint64_t>(first + kMostChildren, nodes);
  if (first >= end) return {0, 0};
  return {static_cast<Node>(first), static_cast<Node>(end)};
}

// A node's number is larger than its parent's, so the way up from `to` passes `at` or goes below
// it.
Node next_hop(Node at, Node to) {
  Node hop = to;
  for (Node up = to; up > at; up = *parent(up)) {
    hop = up;
    if (*parent(up) == at) return hop;
  }
  return at == to ? to : *parent(at);
}

unsigned depth(Node node) {
  unsigned steps = 0;
  for (auto up = parent(node); up; up = parent(*up)) steps++;
  return steps;
}

}  // namespace stillpoint::coordinator::tree
