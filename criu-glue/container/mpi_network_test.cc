#include "criu-glue/container/mpi_network.h"

#include "criu-glue/container/network_fixture.h"
#include "criu-glue/container/network_lock.h"

namespace stillpoint::container {
namespace {

using mpi_network::FarEnd;
using testing::HasSubstr;
using testing::Not;

class MpiNetworkTest : public NetworkTest {};

TEST_F(MpiNetworkTest, AddressesFollowFromTheIndex) {
  EXPECT_EQ(*mpi_network::address_of(0), "100.64.0.1");
  EXPECT_EQ(*mpi_network::address_of(255), "100.64.1.0");
  EXPECT_EQ(*mpi_network::address_of(65533), "100.64.255.254") << "the last before broadcast";
  EXPECT_EQ(*mpi_network::mac_of(0), "02:53:50:00:00:01");
  EXPECT_EQ(*mpi_network::mac_of(65533), "02:53:50:00:ff:fe");
  for (const uint32_t index : {65534u, 65535u, 0xffffffffu}) {
    EXPECT_EQ(mpi_network::address_of(index).error().kind(), ErrorKind::kUsage);
    EXPECT_EQ(mpi_network::mac_of(index).error().kind(), ErrorKind::kUsage);
  }
}

TEST_F(MpiNetworkTest, TheDeviceIsTheContainersAndNotTheNodes) {
  make_nodes(1);
  sh(nodes_[0].get(), "ip link set eth0 mtu 4000");
  auto c = container(0, 258);
  EXPECT_EQ(c.port, kPorts.first);
  const std::string device = sh(c.ns.get(), "ip -d link show mpi0; ip addr show mpi0");
  EXPECT_THAT(device, HasSubstr("mtu 3950"));
  EXPECT_THAT(device, HasSubstr("LOWER_UP"));
  EXPECT_THAT(device, HasSubstr("link/ether 02:53:50:00:01:03"));
  EXPECT_THAT(device, HasSubstr("vxlan id 4242 local 10.88.0.11"));
  EXPECT_THAT(device, HasSubstr("dstport 4800"));
  EXPECT_THAT(device, HasSubstr(" nolearning"));
  EXPECT_THAT(device, HasSubstr("inet 100.64.1.3/16"));
  EXPECT_THAT(device, Not(HasSubstr("inet6")));
  EXPECT_THAT(sh(nodes_[0].get(), "ip -o link"), Not(HasSubstr("vxlan")));
  const std::string tcp =
      sh(c.ns.get(), "cd /proc/sys/net/ipv4; cat tcp_rto_min_us tcp_rto_max_ms tcp_retries2");
  EXPECT_EQ(tcp, "20000\n4000\n255\n");
  EXPECT_EQ(sh(nodes_[0].get(), "cat /proc/sys/net/ipv4/tcp_retries2"), "15\n");
}

TEST_F(MpiNetworkTest, CarriesTcpBetweenNodesAndWithinOne) {
  make_nodes(2);
  auto a = container(0, 0), b = container(0, 1), c = container(1, 2);
  EXPECT_NE(a.port, b.port) << "two containers on one node";
  connect_all({&a, &b, &c});
  for (const auto* to : {&b, &c}) {
    auto s = stream(a, *to);
    EXPECT_TRUE(s.flows(4 << 20, soon()));
    auto back = stream(*to, a);
    EXPECT_TRUE(back.flows(4 << 20, soon()));
  }
}

TEST_F(MpiNetworkTest, AConnectionGoesOnWhenItsEndMovesToAnotherNode) {
  make_nodes(3);
  auto a = container(0, 0), b = container(1, 1);
  connect_all({&a, &b});
  auto s = stream(a, b);
  ASSERT_TRUE(s.flows(1 << 20, soon()));
  for (const size_t node : {2u, 0u}) {  // elsewhere, then beside the other container
    auto gone = mpi_network::remove(b.ns.get(), soon());
    ASSERT_TRUE(gone) << gone.error().line();
    place(b, node);
    connect_all({&a, &b});
    EXPECT_TRUE(s.flows(1 << 20, soon())) << "on node " << node;
  }
  EXPECT_TRUE(s.arrives(soon()));
}

TEST_F(MpiNetworkTest, ConnectingAgainReplacesAllFarEnds) {
  make_nodes(2);
  auto a = container(0, 0);
  std::vector<FarEnd> many;
  for (uint32_t i = 1; i <= 3000; i++)
    many.push_back({.index = i, .node = node_address(i % 2), .port = static_cast<uint16_t>(i)});
  ASSERT_TRUE(connect(a, many));
  EXPECT_EQ(sh(a.ns.get(), "bridge fdb show dev mpi0 | wc -l; ip neigh show dev mpi0 | wc -l"),
            "3000\n3000\n");
  ASSERT_TRUE(connect(a, {{.index = 7, .node = "10.88.0.99", .port = 4999}}));
  EXPECT_THAT(sh(a.ns.get(), "bridge fdb show dev mpi0"),
              testing::StartsWith("02:53:50:00:00:08 dst 10.88.0.99 port 4999 "));
  EXPECT_EQ(sh(a.ns.get(), "bridge fdb show dev mpi0 | wc -l; ip neigh show dev mpi0 | wc -l"),
            "1\n1\n");
  EXPECT_THAT(sh(a.ns.get(), "ip neigh show dev mpi0"),
              HasSubstr("100.64.0.8 lladdr 02:53:50:00:00:08 PERMANENT"));
}

TEST_F(MpiNetworkTest, TheMtuFitsTheWayToTheFarEnds) {
  make_nodes(2);
  auto a = container(0, 0);
  sh(nodes_[0].get(), "ip link set eth0 mtu 1300");
  ASSERT_TRUE(connect(a, {{.index = 1, .node = node_address(1), .port = 4800}}));
  EXPECT_THAT(sh(a.ns.get(), "ip link show mpi0"), HasSubstr("mtu 1250"));
  ASSERT_TRUE(connect(a, {{.index = 1, .node = node_address(0), .port = 4801}}));
  EXPECT_THAT(sh(a.ns.get(), "ip link show mpi0"), HasSubstr("mtu 1250")) << "lo does not count";
}

TEST_F(MpiNetworkTest, TakesTheFirstFreePortAndSaysWhenThereIsNone) {
  make_nodes(1);
  // A user's socket, at one address only, blocks the first; another job's container the second.
  const Fd taken = socket_in(nodes_[0].get(), SOCK_DGRAM);
  ASSERT_EQ(bind_to(taken, at("127.0.0.1", 4800)), 0);
  const Fd other = namespace_();
  auto s = spec(0, 0, other);
  s.vni = 9;
  EXPECT_EQ(*create(0, s), 4801);
  auto a = container(0, 0), b = container(0, 1);
  EXPECT_EQ(a.port, 4802);
  EXPECT_EQ(b.port, 4803);
  const Fd last = namespace_();
  auto none = create(0, spec(0, 2, last));
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind(), ErrorKind::kBusy);
  EXPECT_THAT(none.error().line(), HasSubstr("no UDP port from 4800 to 4803 is free"));
  EXPECT_THAT(sh(last.get(), "ip -o link"), Not(HasSubstr("mpi0")));
  a.ns.reset();  // its port is free again once the kernel has taken the namespace apart
  Result<uint16_t> port = fail(ErrorKind::kBusy, "");
  for (const auto until = soon(); !port && !until.passed(); ::poll(nullptr, 0, 10))
    port = create(0, spec(0, 2, last));
  EXPECT_EQ(port.value_or(0), 4802);
}

TEST_F(MpiNetworkTest, ADeviceThatIsDownKeepsItsPort) {
  make_nodes(1);
  auto a = container(0, 0);
  sh(a.ns.get(), "ip link set mpi0 down");
  auto b = container(0, 1);
  EXPECT_EQ(b.port, a.port + 1);
}

TEST_F(MpiNetworkTest, RefusesNonsense) {
  make_nodes(1);
  const Fd ns = namespace_(), file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const auto refused = [&](auto spoil, ErrorKind kind, const std::string& what) {
    auto s = spec(0, 0, ns);
    spoil(s);
    auto made = create(0, s);
    ASSERT_FALSE(made) << what;
    EXPECT_EQ(made.error().kind(), kind) << made.error().line();
    EXPECT_THAT(made.error().line(), HasSubstr(what));
    EXPECT_THAT(sh(ns.get(), "ip -o link"), Not(HasSubstr("mpi0")));
  };
  using mpi_network::Spec;
  refused([](Spec& s) { s.index = 65534; }, ErrorKind::kUsage, "container 65534");
  refused([](Spec& s) { s.vni = 0; }, ErrorKind::kUsage, "network number 0");
  refused([](Spec& s) { s.vni = 1 << 24; }, ErrorKind::kUsage, "network number 16777216");
  refused([](Spec& s) { s.ports = {0, 0}; }, ErrorKind::kUsage, "not a range");
  refused([](Spec& s) { s.ports = {4801, 4800}; }, ErrorKind::kUsage, "not a range");
  refused([](Spec& s) { s.local = "10.88.0.99"; }, ErrorKind::kNotFound,
          "not an address of this node");
  for (const std::string local : {"", "node1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1"})
    refused([&](Spec& s) { s.local = local; }, ErrorKind::kUsage, "'" + local + "'");
  refused([&](Spec& s) { s.ns = file.get(); }, ErrorKind::kSystem, "entering");
  refused([&](Spec& s) { s.ns = -1; }, ErrorKind::kSystem, "entering");
}

TEST_F(MpiNetworkTest, RefusesASecondDevice) {
  make_nodes(1);
  auto a = container(0, 0);
  EXPECT_EQ(create(0, spec(0, 1, a.ns)).error().kind(), ErrorKind::kBusy);
  EXPECT_THAT(sh(a.ns.get(), "ip addr show mpi0"), HasSubstr("100.64.0.1/16")) << "the first stays";
}

TEST_F(MpiNetworkTest, RefusesFarEndsThatAreNonsenseAndChangesNothing) {
  make_nodes(1);
  auto a = container(0, 0);
  const FarEnd good{.index = 1, .node = "10.88.0.12", .port = 4800};
  ASSERT_TRUE(connect(a, {good}));
  const std::string before = sh(a.ns.get(), "bridge fdb show dev mpi0");
  const std::vector<std::vector<FarEnd>> bad = {
      std::vector<FarEnd>(70000, good),
      {good, good},
      {{.index = 65534, .node = "10.88.0.12", .port = 4800}},
      {{.index = 2, .node = "10.88.0.12", .port = 0}},
      {{.index = 2, .node = "10.88.0.256", .port = 4800}},
      {{.index = 2, .node = std::string("10.88.0.1\0 2", 12), .port = 4800}},
  };
  for (const auto& ends : bad) {
    auto r = connect(a, ends);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().kind(), ErrorKind::kUsage) << r.error().line();
  }
  EXPECT_EQ(sh(a.ns.get(), "bridge fdb show dev mpi0"), before);
  const TestContainer bare{.ns = namespace_()};
  EXPECT_EQ(connect(bare, {good}).error().kind(), ErrorKind::kNotFound);
}

TEST_F(MpiNetworkTest, RemovingLeavesNothing) {
  make_nodes(1);
  auto a = container(0, 0);
  ASSERT_TRUE(network_lock::lock(a.ns.get(), soon()));
  for (int i = 0; i < 2; i++) {
    EXPECT_TRUE(mpi_network::remove(a.ns.get(), soon()));
    EXPECT_THAT(sh(a.ns.get(), "ip -o link"), Not(HasSubstr("mpi0")));
    EXPECT_EQ(sh(a.ns.get(), "nft list ruleset"), "");
  }
  EXPECT_THAT(sh(nodes_[0].get(), "ip -o link"), Not(HasSubstr("vxlan")));
  EXPECT_THAT(sh(nodes_[0].get(), "ss -Hlun"), Not(HasSubstr("480")));
}

}  // namespace
}  // namespace stillpoint::container
