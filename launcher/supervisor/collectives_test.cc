#include "launcher/supervisor/collectives.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>

namespace stillpoint::supervisor {
namespace {

using Node = Collectives::Node;
using Parts = Collectives::Parts;
using Bundle = Collectives::Bundle;

// Nodes whose messages to each other arrive when the test says so; in order between any two.
class Net {
 public:
  explicit Net(Node nodes) {
    for (Node node = 0; node < nodes; node++)
      nodes_.push_back(std::make_unique<Member>(*this, node));
  }
  Collectives& operator[](Node node) { return nodes_[node]->engine; }

  // One message of those that are first in their line; false: there is none.
  bool deliver(std::mt19937& random) {
    if (lines_.empty()) return false;
    auto line = std::next(lines_.begin(), static_cast<long>(random() % lines_.size()));
    const auto [from, to] = line->first;
    const Message message = line->second.front();
    line->second.pop_front();
    if (line->second.empty()) lines_.erase(line);
    most_ = std::max(most_, message.parts.size());
    auto r = message.up ? nodes_[to]->engine.gathered(message.key, from, message.parts)
                        : nodes_[to]->engine.spread(message.key, from, message.parts);
    EXPECT_TRUE(r) << r.error().line();
    return true;
  }
  void deliver_all() {
    std::mt19937 random(1);
    while (deliver(random)) {
    }
  }
  // With how many others each node has exchanged something.
  size_t partners(Node node) const { return nodes_[node]->partners.size(); }

 private:
  struct Message {
    bool up;
    std::string key;
    Bundle parts;
  };
  struct Member : Collectives::Outlet {
    Member(Net& of, Node self) : net(of), number(self), engine(self, *this) {}
    void gather(Node above, const std::string& key, const Bundle& parts) override {
      net.put(number, above, {true, key, parts});
    }
    void spread(const std::vector<Node>& below, const std::string& key,
                const Bundle& all) override {
      for (const Node node : below) net.put(number, node, {false, key, all});
    }
    Net& net;
    Node number;
    Collectives engine;
    std::set<Node> partners;
  };
  void put(Node from, Node to, Message message) {
    nodes_[from]->partners.insert(to);
    nodes_[to]->partners.insert(from);
    lines_[{from, to}].push_back(std::move(message));
  }
  std::vector<std::unique_ptr<Member>> nodes_;
  std::map<std::pair<Node, Node>, std::deque<Message>> lines_;
  size_t most_ = 0;
};

std::set<Node> first(Node count) {
  std::set<Node> nodes;
  for (Node node = 0; node < count; node++) nodes.insert(node);
  return nodes;
}

TEST(Collectives, AloneIsDoneAtOnce) {
  Net net(1);
  Parts got;
  ASSERT_TRUE(net[0].contribute("fence", {0}, "mine", [&](Parts parts) { got = parts; }));
  EXPECT_EQ(got, Parts{"mine"});
  EXPECT_EQ(net[0].pending(), 0U);
}

TEST(Collectives, WaitsForAllNodesAndKeepsTheirOrder) {
  Net net(4);
  std::vector<Parts> got(4);
  for (const Node node : {3U, 1U}) {
    ASSERT_TRUE(net[node].contribute("fence", {0, 1, 3}, std::to_string(node),
                                     [&got, node](Parts parts) { got[node] = parts; }));
    net.deliver_all();
    EXPECT_TRUE(got[1].empty());
  }
  ASSERT_TRUE(net[0].contribute("fence", {0, 1, 3}, "0", [&](Parts parts) { got[0] = parts; }));
  net.deliver_all();
  for (const Node node : {0, 1, 3}) {
    EXPECT_EQ(got[node], (Parts{"0", "1", "3"}));
    EXPECT_EQ(net[node].pending(), 0U);
  }
}

// Three levels, any order of arrival, several rounds in flight; and no node deals with many.
TEST(Collectives, AThousandNodesInAnyOrder) {
  static constexpr Node kNodes = 1100;
  constexpr int kRounds = 3;
  const auto all = first(kNodes);
  Net net(kNodes);
  std::mt19937 random(5);
  std::vector<int> done(kNodes);
  std::vector<std::pair<Node, int>> to_do;
  for (int round = 0; round < kRounds; round++)
    for (Node node = 0; node < kNodes; node++) to_do.emplace_back(node, round);
  std::ranges::stable_sort(to_do, {}, [](auto& one) { return one.first * 37 % kNodes; });
  for (const auto& [node, round] : to_do) {
    ASSERT_TRUE(net[node].contribute("fence", all,
                                     std::to_string(node) + "." + std::to_string(round),
                                     [&done, node = node](const Parts& parts) {
                                       const std::string turn = "." + std::to_string(done[node]++);
                                       ASSERT_EQ(parts.size(), kNodes);
                                       EXPECT_EQ(parts.front(), "0" + turn);
                                       EXPECT_EQ(parts[700], "700" + turn);
                                       EXPECT_EQ(parts.back(), std::to_string(kNodes - 1) + turn);
                                     }));
    net.deliver(random);
  }
  while (net.deliver(random)) {
  }
  for (Node node = 0; node < kNodes; node++) {
    EXPECT_EQ(done[node], kRounds);
    EXPECT_EQ(net[node].pending(), 0U);
    EXPECT_LE(net.partners(node), 33U);
  }
}

TEST(Collectives, OperationsWithOtherKeysDoNotMeet) {
  Net net(2);
  int done = 0;
  ASSERT_TRUE(net[0].contribute("a", {0, 1}, "", [&](Parts) { done++; }));
  ASSERT_TRUE(net[1].contribute("b", {0, 1}, "", [&](Parts) { done++; }));
  net.deliver_all();
  EXPECT_EQ(done, 0);
  EXPECT_EQ(net[0].pending(), 2U);
}

TEST(Collectives, DoneMayStartTheNext) {
  Net net(2);
  int rounds = 0;
  std::function<void(Parts)> next = [&](Parts) {
    if (++rounds == 100) return;
    ASSERT_TRUE(net[0].contribute("fence", {0}, "", next));
  };
  ASSERT_TRUE(net[0].contribute("fence", {0}, "", next));
  EXPECT_EQ(rounds, 100);
}

TEST(Collectives, RefusesNonsense) {
  Net net(3);
  EXPECT_FALSE(net[0].contribute("x", {1}, "", [](Parts) {}));
  EXPECT_FALSE(net[0].gathered("x", 0, {}));
  EXPECT_FALSE(net[1].spread("x", 0, {{0, ""}, {1, ""}}));  // of nothing that we wait for
  bool done = false;
  ASSERT_TRUE(net[1].contribute("x", {0, 1}, "", [&](Parts) { done = true; }));
  EXPECT_FALSE(net[1].spread("x", 2, {{0, ""}, {1, ""}}));           // not from above us
  EXPECT_FALSE(net[1].spread("x", 0, {{0, ""}, {1, ""}, {2, ""}}));  // more than all
  EXPECT_FALSE(net[1].spread("x", 0, {{0, ""}, {0, ""}}));           // one twice
  EXPECT_FALSE(done);
  EXPECT_TRUE(net[1].spread("x", 0, {{0, ""}, {1, ""}}));
  EXPECT_TRUE(done);
  ASSERT_TRUE(net[0].gathered("y", 1, {{2, "not its own"}}));
  EXPECT_FALSE(net[0].contribute("y", {0, 1}, "", [](Parts) { FAIL(); }));
}

TEST(Collectives, OthersMayBeAheadBySoMuch) {
  struct Nowhere : Collectives::Outlet {
    void gather(Node, const std::string&, const Bundle&) override {}
    void spread(const std::vector<Node>&, const std::string&, const Bundle&) override {}
  } nowhere;
  Collectives engine(0, nowhere, 200);
  ASSERT_TRUE(engine.gathered("x", 1, {{1, std::string(100, 'x')}}));
  auto r = engine.gathered("x", 1, {{1, std::string(100, 'x')}});
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().kind(), ErrorKind::kProtocol);
  // What is used makes room again.
  ASSERT_TRUE(engine.contribute("x", {0, 1}, "", [](Parts) {}));
  EXPECT_TRUE(engine.gathered("x", 1, {{1, std::string(100, 'x')}}));
}

}  // namespace
}  // namespace stillpoint::supervisor
