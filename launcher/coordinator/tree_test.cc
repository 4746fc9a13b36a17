#include "launcher/coordinator/tree.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace stillpoint::coordinator::tree {
namespace {

// Nodes, and the depth of the deepest.
class Tree : public testing::TestWithParam<std::pair<Node, unsigned>> {};

INSTANTIATE_TEST_SUITE_P(Sizes, Tree,
                         testing::Values(std::pair(1, 0), std::pair(2, 1), std::pair(32, 1),
                                         std::pair(33, 1), std::pair(34, 2), std::pair(1000, 2),
                                         std::pair(40000, 4)));

TEST_P(Tree, ABroadcastReachesEachExactlyOnce) {
  const auto [nodes, deepest] = GetParam();
  std::vector<int> reached(nodes);
  std::vector<Node> front{kRoot};
  unsigned rounds = 0;
  for (;; rounds++) {
    std::vector<Node> next;
    for (const Node node : front) {
      reached[node]++;
      EXPECT_EQ(depth(node), rounds);
      const auto below = children(node, nodes);
      EXPECT_LE(below.size(), kMostChildren);
      for (const Node child : below) {
        EXPECT_EQ(parent(child), node);
        next.push_back(child);
      }
    }
    if (next.empty()) break;
    front = next;
  }
  EXPECT_EQ(rounds, deepest);
  EXPECT_EQ(reached, std::vector<int>(nodes, 1));
}

TEST_P(Tree, EveryNodeIsReachedHopByHopAndAnswers) {
  const auto [nodes, deepest] = GetParam();
  for (Node to = 0; to < nodes; to += 1 + nodes / 500) {
    Node at = kRoot;
    unsigned hops = 0;
    for (; at != to; hops++) {
      ASSERT_LE(hops, deepest);
      const Node next = next_hop(at, to);
      ASSERT_EQ(next_hop(next, kRoot), at);  // the way back is the same
      at = next;
    }
    EXPECT_EQ(hops, depth(to));
  }
}

TEST(Tree, BetweenBranchesTheWayLeadsUpAndDownAgain) {
  // 33 and 40 are children of 1; 65 is a child of 2.
  EXPECT_EQ(next_hop(33, 40), 1U);
  EXPECT_EQ(next_hop(33, 65), 1U);
  EXPECT_EQ(next_hop(1, 65), 0U);
  EXPECT_EQ(next_hop(0, 65), 2U);
  EXPECT_EQ(next_hop(2, 65), 65U);
  EXPECT_EQ(next_hop(65, 65), 65U);
  EXPECT_EQ(next_hop(40, 2), 1U);
}

TEST(Tree, NumbersOutsideHaveNoChildren) {
  EXPECT_TRUE(children(5, 3).empty());
  EXPECT_TRUE(children(0xffffffff, 40000).empty());
  EXPECT_TRUE(children(0xffffffff, 0xffffffff).empty());
  EXPECT_TRUE(children(0, 0).empty());
}

}  // namespace
}  // namespace stillpoint::coordinator::tree
