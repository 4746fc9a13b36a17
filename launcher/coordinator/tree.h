// The tree along which commands go out to many nodes and answers come back: every node has at most
// 32 children, so up to 33 nodes are a star around the first.  Node k's place follows from k alone:
// whoever knows the number of nodes knows the tree.  If an inner node is lost, its subtree is
// reached by nobody: the coordinator hears nothing from it and gives up.
#pragma once

#include <cstdint>
#include <optional>
#include <ranges>

namespace stillpoint::coordinator::tree {

using Node = uint32_t;
inline constexpr Node kMostChildren = 32;
inline constexpr Node kRoot = 0;

std::optional<Node> parent(Node node);
// Of a tree of so many nodes; empty for a leaf and for a node outside the tree.
std::ranges::iota_view<Node, Node> children(Node node, Node nodes);
// The neighbour of `at` on the way to `to`; `to` itself if they are the same.
Node next_hop(Node at, Node to);
// Steps from the root to the node.
unsigned depth(Node node);

}  // namespace stillpoint::coordinator::tree
