#include "launcher/supervisor/collectives.h"

#include <gtest/gtest.h>

namespace stillpoint::supervisor {
namespace {

using Parts = Collectives::Parts;

TEST(Collectives, AloneIsDoneAtOnce) {
  Collectives engine(0);
  Parts got;
  ASSERT_TRUE(engine.contribute("fence", {0}, "mine", [&](Parts parts) { got = parts; }));
  EXPECT_EQ(got, Parts{"mine"});
  EXPECT_EQ(engine.pending(), 0U);
}

TEST(Collectives, WaitsForAllNodesAndKeepsTheirOrder) {
  Collectives engine(1);
  Parts got;
  ASSERT_TRUE(engine.arrived("fence", 2, "two"));
  ASSERT_TRUE(engine.contribute("fence", {0, 1, 2}, "one", [&](Parts parts) { got = parts; }));
  EXPECT_TRUE(got.empty());
  EXPECT_EQ(engine.pending(), 1U);
  ASSERT_TRUE(engine.arrived("fence", 0, "zero"));
  EXPECT_EQ(got, (Parts{"zero", "one", "two"}));
  EXPECT_EQ(engine.pending(), 0U);
}

TEST(Collectives, AFastNodeMayBeAhead) {
  Collectives engine(0);
  std::vector<Parts> got;
  const auto note = [&](Parts parts) { got.push_back(parts); };
  ASSERT_TRUE(engine.arrived("fence", 1, "first"));
  ASSERT_TRUE(engine.arrived("fence", 1, "second"));
  ASSERT_TRUE(engine.contribute("fence", {0, 1}, "a", note));
  ASSERT_TRUE(engine.contribute("fence", {0, 1}, "b", note));
  EXPECT_EQ(got, (std::vector<Parts>{{"a", "first"}, {"b", "second"}}));
  EXPECT_EQ(engine.pending(), 0U);
}

TEST(Collectives, OperationsWithOtherKeysDoNotMeet) {
  Collectives engine(0);
  int done = 0;
  ASSERT_TRUE(engine.contribute("a", {0, 1}, "", [&](Parts) { done++; }));
  ASSERT_TRUE(engine.arrived("b", 1, ""));
  EXPECT_EQ(done, 0);
  EXPECT_EQ(engine.pending(), 2U);
}

TEST(Collectives, DoneMayStartTheNext) {
  Collectives engine(0);
  int rounds = 0;
  std::function<void(Parts)> next = [&](Parts) {
    if (++rounds == 100) return;
    ASSERT_TRUE(engine.contribute("fence", {0}, "", next));
  };
  ASSERT_TRUE(engine.contribute("fence", {0}, "", next));
  EXPECT_EQ(rounds, 100);
}

TEST(Collectives, RefusesNonsenseAndTooMuch) {
  Collectives engine(0, 100);
  EXPECT_FALSE(engine.contribute("x", {1}, "", [](Parts) {}));
  EXPECT_FALSE(engine.arrived("x", 0, ""));
  ASSERT_TRUE(engine.arrived("x", 1, std::string(60, 'x')));
  auto r = engine.arrived("x", 1, std::string(60, 'x'));
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().kind(), ErrorKind::kProtocol);
  // What is used makes room again.
  ASSERT_TRUE(engine.contribute("x", {0, 1}, "", [](Parts) {}));
  EXPECT_TRUE(engine.arrived("x", 1, std::string(60, 'x')));
}

}  // namespace
}  // namespace stillpoint::supervisor
