#include "launcher/supervisor/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "launcher/supervisor/fan.h"

namespace stillpoint::supervisor {
namespace {

using Nodes = std::vector<Placement::Node>;
using ::testing::HasSubstr;

Nodes three() {
  return {{"a", "100.64.0.1", {0, 4}}, {"b", "100.64.0.2", {1, 2}}, {"c", "100.64.0.3", {3}}};
}

TEST(Placement, SaysWhereEveryRankIs) {
  const auto placement = Placement::make(three(), 1, 5);
  ASSERT_TRUE(placement);
  EXPECT_EQ(placement->ranks(), 5U);
  EXPECT_EQ(placement->here().hostname, "b");
  EXPECT_FALSE(placement->alone());
  EXPECT_EQ(placement->node_of(4), 0U);
  EXPECT_EQ(placement->local_rank(4), 1U);
  EXPECT_EQ(placement->node_of(2), 1U);
  EXPECT_EQ(placement->local_rank(3), 0U);
  EXPECT_TRUE(placement->knows(4));
  EXPECT_FALSE(placement->knows(5));
}

TEST(Placement, OneNodeHasAllInOrder) {
  const auto placement = Placement::make("here", 3);
  ASSERT_TRUE(placement);
  EXPECT_TRUE(placement->alone());
  EXPECT_EQ(placement->node_of(2), 0U);
  EXPECT_EQ(placement->local_rank(2), 2U);
}

TEST(Placement, NonsenseIsRefusedWithItsReason) {
  const auto refusal = [](const std::function<void(Nodes&)>& spoil, uint32_t self = 1,
                          uint32_t ranks = 5) {
    Nodes nodes = three();
    spoil(nodes);
    const auto made = Placement::make(nodes, self, ranks);
    return made ? std::string("accepted") : made.error().what();
  };
  const auto nothing = [](Nodes&) {};
  EXPECT_EQ(refusal(nothing), "accepted");
  EXPECT_THAT(refusal(nothing, 3), HasSubstr("none of the job's"));
  EXPECT_THAT(refusal(nothing, 1, 6), HasSubstr("rank 5 is on no node"));
  EXPECT_THAT(refusal(nothing, 1, 4), HasSubstr("rank 4 of node a is out of range"));
  EXPECT_THAT(refusal(nothing, 1, 0), HasSubstr("0 ranks"));
  EXPECT_THAT(refusal(nothing, 1, 1U << 31), HasSubstr("ranks, 1 to"));
  EXPECT_THAT(refusal([](Nodes& n) { n[1].ranks = {2, 1}; }), HasSubstr("out of order"));
  EXPECT_THAT(refusal([](Nodes& n) { n[1].ranks = {1, 1}; }), HasSubstr("there twice"));
  EXPECT_THAT(refusal([](Nodes& n) { n[2].ranks = {2}; }), HasSubstr("there twice"));
  EXPECT_THAT(refusal([](Nodes& n) { n[2].ranks.clear(); }), HasSubstr("no rank is on node c"));
  EXPECT_THAT(refusal([](Nodes& n) { n[2].hostname = "a"; }), HasSubstr("are called a"));
  EXPECT_THAT(refusal([](Nodes& n) { n[2].hostname = "a,b"; }), HasSubstr("cannot be used"));
  EXPECT_THAT(refusal([](Nodes& n) { n[2].hostname = ""; }), HasSubstr("no name"));
  EXPECT_THAT(refusal([](Nodes& n) { n[2].address = "c.example"; }), HasSubstr("no IPv4"));
  EXPECT_THAT(refusal([](Nodes& n) { n[2].address = n[0].address; }), HasSubstr("the address"));
  EXPECT_THAT(refusal([](Nodes& n) { n.clear(); }, 0), HasSubstr("0 nodes"));
  EXPECT_FALSE(Placement::make("here", 0));
  EXPECT_FALSE(Placement::make("here", Placement::kMostRanksOfANode + 1));
  EXPECT_FALSE(Placement::make("", 1));
}

TEST(Placement, ListsOfNumbers) {
  EXPECT_EQ(compact({0, 1, 2, 3}), "0-3");
  EXPECT_EQ(compact({0, 2, 3, 9}), "0,2-3,9");
  EXPECT_EQ(compact({}), "");
  EXPECT_EQ(listed({0, 2, 3}), "0,2,3");
}

TEST(Fan, IsATreeOfAllPlaces) {
  for (const uint32_t places : {1U, 2U, 33U, 34U, 1000U, 4096U}) {
    std::set<uint32_t> seen = {0};
    for (uint32_t place = 0; place < places; place++)
      for (const uint32_t child : fan::below(place, places)) {
        EXPECT_LT(child, places);
        EXPECT_EQ(fan::above(child), place);
        EXPECT_TRUE(seen.insert(child).second);
      }
    EXPECT_EQ(seen.size(), places);
  }
}

}  // namespace
}  // namespace stillpoint::supervisor
