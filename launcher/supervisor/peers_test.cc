#include "launcher/supervisor/peers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <set>

#include "common/wire/versions.h"

namespace stillpoint::supervisor {
namespace {

using Node = Peers::Node;
using Connection = Peers::Connection;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Peers::Payload payload(std::string text) {
  return std::make_shared<const std::string>(std::move(text));
}

// One engine whose actions are written down, driven by hand.
struct Host : Peers::Actions {
  Host(Node self, Node nodes, Peers::Limits limits = {})
      : peers({self, nodes, "job", "token"}, *this, limits) {}
  void call(Node node) override { calls.push_back(node); }
  void stop_call(Node node) override { stopped.push_back(node); }
  void writable(Connection connection) override { ready.insert(connection); }
  void close(Connection connection) override { closed.push_back(connection); }
  void received(Node from, std::string message) override { got.emplace_back(from, message); }
  void lost(Node node, std::string why) override { gone.emplace_back(node, why); }
  void complain(const std::string& what) override { complaints.push_back(what); }

  // What it has to say there, parsed.
  std::vector<mesh::Frame> said(Connection connection) {
    wire::FrameReader reader;
    while (auto bytes = peers.next(connection)) reader.feed(*bytes);
    std::vector<mesh::Frame> frames;
    for (auto one = reader.next(); one && *one; one = reader.next()) {
      frames.emplace_back();
      EXPECT_TRUE(frames.back().ParseFromString(**one));
    }
    return frames;
  }
  void ticks(int count) {
    for (int i = 0; i < count; i++) peers.tick();
  }

  std::vector<Node> calls, stopped;
  std::set<Connection> ready;
  std::vector<Connection> closed;
  std::vector<std::pair<Node, std::string>> got, gone;
  std::vector<std::string> complaints;
  Peers peers;
};

std::string frame(const std::function<void(mesh::Frame&)>& fill) {
  mesh::Frame one;
  fill(one);
  return wire::frame(one.SerializeAsString());
}

std::string hello(Node node, Node nodes, const std::string& token = "token",
                  const std::string& job = "job", uint32_t version = wire::kMeshVersion) {
  return frame([&](mesh::Frame& f) {
    f.mutable_hello()->set_version(version);
    f.mutable_hello()->set_job(job);
    f.mutable_hello()->set_node(node);
    f.mutable_hello()->set_nodes(nodes);
    f.mutable_hello()->set_token(token);
  });
}

std::string welcome(Node node) {
  return frame([&](mesh::Frame& f) { f.mutable_welcome()->set_node(node); });
}

std::string fragment(const std::string& data, bool last = true, bool to_all = false) {
  return frame([&](mesh::Frame& f) {
    f.mutable_fragment()->set_data(data);
    f.mutable_fragment()->set_last(last);
    f.mutable_fragment()->set_to_all(to_all);
  });
}

// Engines that are connected by streams; what happens when is left to chance.
class Net {
 public:
  Net(Node nodes, unsigned seed) : random_(seed) {
    for (Node node = 0; node < nodes; node++)
      hosts_.push_back(std::make_unique<Member>(*this, node, nodes));
  }
  Peers& operator[](Node node) { return hosts_[node]->peers; }
  const std::vector<std::pair<Node, std::string>>& got(Node node) { return hosts_[node]->got; }

  void settle() {
    while (happens()) {
    }
  }
  size_t connections() const { return ends_.size() / 2; }
  size_t losses() const { return losses_; }

 private:
  using End = std::pair<Node, Connection>;
  struct Stream {
    End far;
    std::string bytes;   // on the way to `far`
    bool ended = false;  // and then its end
  };
  struct Member : Peers::Actions {
    Member(Net& of, Node self, Node nodes)
        : net(of), number(self), peers({self, nodes, "job", "token"}, *this) {}
    void call(Node node) override { net.calls_.insert({number, node}); }
    void stop_call(Node node) override { net.calls_.erase({number, node}); }
    void writable(Connection connection) override { net.ready_.insert({number, connection}); }
    void close(Connection connection) override { net.hang_up({number, connection}); }
    void received(Node from, std::string message) override { got.emplace_back(from, message); }
    void lost(Node, std::string) override { net.losses_++; }
    void complain(const std::string& what) override { ADD_FAILURE() << what; }
    Net& net;
    Node number;
    Peers peers;
    std::vector<std::pair<Node, std::string>> got;
  };

  bool happens() {
    const size_t kinds = 3, start = random_() % kinds;
    for (size_t i = 0; i < kinds; i++) {
      const size_t kind = (start + i) % kinds;
      if (kind == 0 ? connect() : kind == 1 ? write() : deliver()) return true;
    }
    return false;
  }
  template <typename Set>
  auto any(Set& set) {
    return std::next(set.begin(), static_cast<long>(random_() % set.size()));
  }
  bool connect() {
    if (calls_.empty()) return false;
    const auto it = any(calls_);
    const auto [from, to] = *it;
    calls_.erase(it);
    const End near{from, next_++}, far{to, next_++};
    ends_[near].far = far;
    ends_[far].far = near;
    hosts_[to]->peers.accepted(far.second);
    hosts_[from]->peers.called(to, near.second);
    return true;
  }
  bool write() {
    if (ready_.empty()) return false;
    const auto it = any(ready_);
    const End end = *it;
    auto bytes = hosts_[end.first]->peers.next(end.second);
    if (!bytes || !ends_.contains(end))
      ready_.erase(end);
    else
      ends_[end].bytes += *bytes;
    return true;
  }
  bool deliver() {
    std::vector<End> able;
    for (const auto& [end, stream] : ends_)
      if (!stream.bytes.empty() || stream.ended) able.push_back(end);
    if (able.empty()) return false;
    const End end = able[random_() % able.size()];
    Stream& stream = ends_[end];
    const End far = stream.far;
    if (stream.bytes.empty()) {
      ends_.erase(end);
      if (ends_.erase(far)) hosts_[far.first]->peers.closed(far.second, "closed");
      return true;
    }
    const size_t size = std::min<size_t>(stream.bytes.size(), 1 + random_() % 100'000);
    const std::string part = stream.bytes.substr(0, size);
    stream.bytes.erase(0, size);
    if (ends_.contains(far)) hosts_[far.first]->peers.arrived(far.second, part);
    return true;
  }
  void hang_up(End end) {
    const auto found = ends_.find(end);
    if (found != ends_.end()) found->second.ended = true;
  }

  std::mt19937 random_;
  std::vector<std::unique_ptr<Member>> hosts_;
  std::set<std::pair<Node, Node>> calls_;
  std::set<End> ready_;
  std::map<End, Stream> ends_;
  Connection next_ = 1;
  size_t losses_ = 0;
};

TEST(Peers, MessagesOfAnySizeArriveWholeAndInOrder) {
  for (unsigned seed = 0; seed < 20; seed++) {
    Net net(3, seed);
    std::vector<std::pair<Node, std::string>> expected;
    for (const size_t size : {0UL, 1UL, 70'000UL, Peers::kFragment, 3 * Peers::kFragment + 5}) {
      expected.emplace_back(0, std::string(size, static_cast<char>('a' + expected.size())));
      net[0].send(2, payload(expected.back().second));
    }
    net.settle();
    EXPECT_EQ(net.got(2), expected);
    EXPECT_THAT(net.got(1), IsEmpty());
    EXPECT_TRUE(net[0].up(2) && net[2].up(0));
  }
}

TEST(Peers, TwoThatCallEachOtherEndUpWithOneConnection) {
  for (unsigned seed = 0; seed < 300; seed++) {
    Net net(2, seed);
    net[1].begin();
    for (int i = 0; i < 5; i++) {
      net[0].send(1, payload("down" + std::to_string(i)));
      net[1].send(0, payload("up" + std::to_string(i)));
    }
    net.settle();
    for (int i = 0; i < 3; i++) {  // a call that was given up for the other's is not made again
      net[0].tick();
      net[1].tick();
      net.settle();
    }
    ASSERT_EQ(net.got(0).size(), 5U) << seed;
    ASSERT_EQ(net.got(1).size(), 5U) << seed;
    EXPECT_EQ(net.got(0)[4].second, "up4");
    EXPECT_EQ(net.got(1)[4].second, "down4");
    EXPECT_EQ(net.connections(), 1U) << seed;
    EXPECT_EQ(net.losses(), 0U);
  }
}

TEST(Peers, WhatIsForAllReachesEveryNodeOnce) {
  constexpr Node kNodes = 100;
  Net net(kNodes, 3);
  for (Node node = 0; node < kNodes; node++) net[node].begin();
  for (const Node from : {0U, 40U, 99U}) net[from].send_all(payload("of " + std::to_string(from)));
  net.settle();
  EXPECT_EQ(net.connections(), kNodes - 1);
  for (Node node = 0; node < kNodes; node++) {
    std::multiset<std::string> heard, expected;
    for (const auto& [from, message] : net.got(node)) heard.insert(message);
    for (const Node from : {0U, 40U, 99U})
      if (from != node) expected.insert("of " + std::to_string(from));
    EXPECT_EQ(heard, expected) << node;
  }
}

TEST(Peers, BeginsWithTheNodeAbove) {
  Host low(0, 100), middle(2, 100), high(70, 100);
  for (Host* host : {&low, &middle, &high}) host->peers.begin();
  EXPECT_THAT(low.calls, IsEmpty());
  EXPECT_THAT(middle.calls, ElementsAre(0));
  EXPECT_THAT(high.calls, ElementsAre(2));
}

TEST(Peers, SaysHelloAndNothingMoreUntilItIsWelcome) {
  Host host(1, 3);
  host.peers.send(0, payload("message"));
  host.peers.called(0, 7);
  auto said = host.said(7);
  ASSERT_EQ(said.size(), 1U);
  EXPECT_EQ(said[0].hello().token(), "token");
  EXPECT_EQ(said[0].hello().node(), 1U);
  host.peers.arrived(7, welcome(0));
  said = host.said(7);
  ASSERT_EQ(said.size(), 2U);
  EXPECT_TRUE(said[0].has_welcome());
  EXPECT_EQ(said[1].fragment().data(), "message");
}

// It may have lost patience while we stood still, and call again.
TEST(Peers, ACallerMayHaveGivenItsCallUp) {
  Host host(0, 2);
  host.peers.accepted(5);
  host.peers.arrived(5, hello(1, 2));
  host.peers.send(1, payload("message"));
  auto said = host.said(5);
  ASSERT_EQ(said.size(), 1U);
  EXPECT_TRUE(said[0].has_welcome());
  EXPECT_FALSE(host.peers.up(1));
  host.peers.accepted(6);
  host.peers.arrived(6, hello(1, 2));  // before we see the end of the first
  EXPECT_THAT(host.closed, ElementsAre(5));
  host.peers.closed(6, "closed");
  EXPECT_THAT(host.gone, IsEmpty());
  host.peers.tick();
  EXPECT_THAT(host.calls, ElementsAre(1));  // there is something to say
  host.peers.accepted(7);
  host.peers.arrived(7, hello(1, 2));
  host.peers.call_failed(1, "it is calling us");
  EXPECT_THAT(host.closed, ElementsAre(5, 7));  // ours stood
  host.peers.tick();
  host.peers.called(1, 8);
  host.peers.arrived(8, welcome(1));
  EXPECT_EQ(host.said(8).back().fragment().data(), "message");
}

TEST(Peers, APeerThatIsNotThereIsCalledUntilTheTimeIsUp) {
  Host host(1, 2);
  host.peers.begin();
  for (int tick = 1; tick < Peers::kCallTicks; tick++) {
    host.peers.call_failed(0, "refused");
    host.peers.tick();
    EXPECT_THAT(host.gone, IsEmpty());
    EXPECT_EQ(host.calls.size(), static_cast<size_t>(tick) + 1);
  }
  host.peers.call_failed(0, "refused");
  host.peers.tick();
  ASSERT_EQ(host.gone.size(), 1U);
  EXPECT_EQ(host.gone[0].second, "no connection within 60 s: refused");
  host.peers.send(0, payload("too late"));
  host.ticks(100);
  EXPECT_EQ(host.gone.size(), 1U);
  EXPECT_EQ(host.calls.size(), static_cast<size_t>(Peers::kCallTicks));
}

TEST(Peers, ACallThatIsNotAnsweredIsMadeAnew) {
  Host host(1, 2);
  host.peers.begin();
  host.ticks(Peers::kAttemptTicks);
  EXPECT_THAT(host.stopped, ElementsAre(0));
  host.peers.tick();
  EXPECT_EQ(host.calls.size(), 2U);
  host.peers.called(0, 5);  // connected, but no Welcome
  host.ticks(Peers::kAttemptTicks);
  EXPECT_THAT(host.closed, ElementsAre(5));
  host.peers.tick();
  host.peers.called(0, 6);
  host.peers.arrived(6, welcome(0));
  EXPECT_TRUE(host.peers.up(0));
}

TEST(Peers, SilenceIsNoLoss) {
  Host host(1, 2);
  host.peers.begin();
  host.peers.called(0, 5);
  host.peers.arrived(5, welcome(0));
  host.ticks(100'000);
  EXPECT_THAT(host.gone, IsEmpty());
  EXPECT_THAT(host.closed, IsEmpty());
}

TEST(Peers, ABrokenConnectionIsALoss) {
  Host host(0, 2);
  host.peers.accepted(5);
  host.peers.arrived(5, hello(1, 2) + welcome(1));
  host.peers.closed(5, "reset");
  host.peers.closed(5, "reset");
  EXPECT_THAT(host.gone, ElementsAre(std::pair(1U, std::string("reset"))));
  EXPECT_FALSE(host.peers.up(1));
  host.peers.accepted(6);  // a lost peer does not come back
  host.peers.arrived(6, hello(1, 2));
  EXPECT_THAT(host.closed, ElementsAre(6));
}

TEST(Peers, CallersAreLetInByTheirTokenOnly) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {hello(1, 3, "other"), "its token is not that of this job"},
      {hello(1, 3, ""), "its token is not that of this job"},
      {hello(1, 3).substr(0, 4) + "garbage that is long enough", "cannot be parsed"},
      {fragment("message"), "the first frame is no Hello"},
      {welcome(1), "the first frame is no Hello"},
      {std::string("\xff\xff\xff\x7f", 4), "a frame of"},
      {std::string(Peers::kMostGreeting + 1, '\0'), "sends too much"},
  };
  for (const auto& [bytes, complaint] : cases) {
    Host host(0, 3);
    host.peers.accepted(5);
    host.peers.arrived(5, bytes);
    EXPECT_THAT(host.closed, ElementsAre(5));
    ASSERT_EQ(host.complaints.size(), 1U);
    EXPECT_THAT(host.complaints[0], HasSubstr(complaint));
    EXPECT_THAT(host.gone, IsEmpty());
    host.peers.arrived(5, bytes);  // what was still on its way
    EXPECT_EQ(host.complaints.size(), 1U);
  }
}

TEST(Peers, OnesOfAnotherVersionOrJobAreToldSo) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {hello(1, 3, "token", "job", wire::kMeshVersion + 1), "it speaks version"},
      {hello(1, 3, "token", "other"), "another list"},
      {hello(1, 4), "another list"},
      {hello(3, 3), "another list"},
      {hello(0, 3), "another list"},
  };
  for (const auto& [bytes, reason] : cases) {
    Host host(0, 3);
    host.peers.accepted(5);
    host.peers.arrived(5, bytes + fragment("and more"));
    const auto said = host.said(5);
    ASSERT_EQ(said.size(), 1U);
    EXPECT_THAT(said[0].refusal().reason(), HasSubstr(reason));
    EXPECT_THAT(host.closed, ElementsAre(5));  // once that was written
    EXPECT_THAT(host.got, IsEmpty());
  }
  Host refused(1, 3);
  refused.peers.begin();
  refused.peers.called(0, 5);
  refused.peers.arrived(5, frame([](mesh::Frame& f) { f.mutable_refusal()->set_reason("why"); }));
  ASSERT_EQ(refused.gone.size(), 1U);
  EXPECT_EQ(refused.gone[0].second, "it refuses us: why");
}

TEST(Peers, CallersThatSayNothingGo) {
  Host host(0, 3);
  host.peers.accepted(5);
  host.ticks(Peers::kHelloTicks - 1);
  EXPECT_THAT(host.closed, IsEmpty());
  host.peers.tick();
  EXPECT_THAT(host.closed, ElementsAre(5));
}

TEST(Peers, TooManyOfThemGoTheOldestFirst) {
  Host host(0, 3);
  const size_t most = Peers::kMostStrangers + 3;
  for (Connection c = 1; c <= most; c++) host.peers.accepted(c);
  EXPECT_THAT(host.closed, IsEmpty());
  host.peers.accepted(most + 1);
  EXPECT_THAT(host.closed, ElementsAre(1));
}

TEST(Peers, ASecondCallOfAPeerIsRefusedTheFirstStands) {
  Host host(0, 3);
  host.peers.accepted(5);
  host.peers.arrived(5, hello(1, 3) + welcome(1));
  host.peers.accepted(6);
  host.peers.arrived(6, hello(1, 3));
  EXPECT_THAT(host.closed, ElementsAre(6));
  EXPECT_TRUE(host.peers.up(1));
  host.peers.arrived(5, fragment("message"));
  EXPECT_EQ(host.got.size(), 1U);
}

TEST(Peers, NonsenseOfAPeerIsItsLoss) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {hello(1, 3), "a frame out of place"},
      {std::string(100, '\xff'), "a frame of"},
      {fragment(std::string(600, 'x'), false) + fragment(std::string(600, 'x'), false),
       "a message of more than"},
  };
  for (const auto& [bytes, why] : cases) {
    Host host(0, 3, {.message = 1000});
    host.peers.accepted(5);
    host.peers.arrived(5, hello(1, 3) + welcome(1) + bytes);
    ASSERT_EQ(host.gone.size(), 1U);
    EXPECT_THAT(host.gone[0].second, HasSubstr(why));
    EXPECT_THAT(host.closed, ElementsAre(5));
  }
  Host far(40, 100);  // not next to 70 in the tree
  far.peers.accepted(5);
  far.peers.arrived(5, hello(70, 100) + welcome(70) + fragment("for all", true, true));
  EXPECT_THAT(far.got, IsEmpty());
  EXPECT_EQ(far.gone.size(), 1U);
}

TEST(Peers, APeerThatDoesNotReadIsLost) {
  Host host(0, 2, {.queued = 1000});
  host.peers.accepted(5);
  host.peers.arrived(5, hello(1, 2) + welcome(1));
  host.peers.send(1, payload(std::string(900, 'x')));
  EXPECT_EQ(host.said(5).size(), 2U);  // Welcome, and this: room again
  host.peers.send(1, payload(std::string(900, 'x')));
  EXPECT_THAT(host.gone, IsEmpty());
  host.peers.send(1, payload(std::string(900, 'x')));
  EXPECT_EQ(host.gone.size(), 1U);
}

TEST(Peers, NoiseNeverCrashes) {
  std::mt19937 random(9);
  for (int round = 0; round < 3000; round++) {
    Host host(0, 3);
    host.peers.accepted(1);
    std::string bytes = round % 2 ? hello(1, 3) + welcome(1) : "";
    for (size_t i = random() % 400; i > 0; i--) bytes += static_cast<char>(random());
    if (round % 3 == 0) bytes = fragment("x").substr(0, random() % 12) + bytes;
    while (!bytes.empty()) {
      const size_t size = 1 + random() % bytes.size();
      host.peers.arrived(1, bytes.substr(0, size));
      bytes.erase(0, size);
    }
    host.said(1);
    host.ticks(20);
    EXPECT_LE(host.got.size(), 1U);
  }
}

}  // namespace
}  // namespace stillpoint::supervisor
