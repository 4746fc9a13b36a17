#include "criu-glue/container/tunnel_guard.h"

#include <netinet/ip.h>
#include <netinet/udp.h>
#include <unistd.h>

#include <cstring>

#include "criu-glue/container/network_fixture.h"

namespace stillpoint::container {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr uid_t kUser = 4242;
constexpr uint16_t kRankPort = 7000;  // where the attacked rank listens
constexpr char kForged[] = "forged";

uint16_t ip_checksum(const void* data, size_t size) {
  uint32_t sum = 0;
  for (size_t i = 0; i < size; i += 2) {
    uint16_t word;
    std::memcpy(&word, static_cast<const char*>(data) + i, 2);
    sum += word;
  }
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

// A VXLAN packet with a UDP datagram from container 0 to container 1 in it.
std::string forged_packet() {
  const char vxlan[8] = {0x08, 0, 0, 0, 0, kVni >> 8, static_cast<char>(kVni & 0xff), 0};
  const char ethernet[14] = {2, 0x53, 0x50, 0, 0, 2, 2, 0x53, 0x50, 0, 0, 1, 8, 0};
  udphdr udp{};
  udp.source = udp.dest = htons(kRankPort);
  udp.len = htons(sizeof udp + sizeof kForged);
  iphdr ip{};
  ip.version = 4;
  ip.ihl = 5;
  ip.ttl = 64;
  ip.protocol = IPPROTO_UDP;
  ip.tot_len = htons(sizeof ip + sizeof udp + sizeof kForged);
  ::inet_pton(AF_INET, "100.64.0.1", &ip.saddr);
  ::inet_pton(AF_INET, "100.64.0.2", &ip.daddr);
  ip.check = ip_checksum(&ip, sizeof ip);
  const auto bytes = [](const auto& part) {
    return std::string(reinterpret_cast<const char*>(&part), sizeof part);
  };
  return bytes(vxlan) + bytes(ethernet) + bytes(ip) + bytes(udp) + bytes(kForged);
}

class TunnelGuardTest : public NetworkTest {
 protected:
  void SetUp() override {
    make_nodes(2);
    a = container(0, 0);
    b = container(1, 1);
    connect_all({&a, &b});
    rank = socket_in(b.ns.get(), SOCK_DGRAM);
    ASSERT_EQ(bind_to(rank, at("100.64.0.2", kRankPort)), 0);
  }
  void guard(bool on) {
    auto done = in_namespace(
        nodes_[0].get(), "node",
        [&]() -> Result<std::string> {
          auto r = on ? guard_tunnels(kPorts, soon()) : unguard_tunnels(soon());
          if (!r) return fail(r.error());
          return "";
        },
        soon());
    ASSERT_TRUE(done) << done.error().line();
  }
  // A user's UDP socket: it belongs to whoever made it.
  static Fd socket_of(uid_t who, int ns, int type) {
    const Fd own(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(::setns(ns, CLONE_NEWNET), 0);
    EXPECT_EQ(::seteuid(who), 0);
    Fd made(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::seteuid(0), 0);
    EXPECT_EQ(::setns(own.get(), CLONE_NEWNET), 0);
    return made;
  }
  // Whether a packet that somebody on node 0 forges reaches the rank.  A genuine one that a rank of
  // the user sends after it on the same way must arrive, and tells when to stop waiting.
  bool forgery_arrives(uid_t who) {
    const Fd evil = socket_of(who, nodes_[0].get(), SOCK_DGRAM);
    EXPECT_EQ(connect_to(evil, at(node_address(1), b.port)), 0);
    const std::string packet = forged_packet();
    if (::send(evil.get(), packet.data(), packet.size(), 0) < 0) {
      EXPECT_EQ(errno, EPERM);
    }
    const Fd genuine = socket_of(kUser, a.ns.get(), SOCK_DGRAM);
    EXPECT_EQ(connect_to(genuine, at("100.64.0.2", kRankPort)), 0);
    EXPECT_EQ(::send(genuine.get(), "genuine", 7, 0), 7);
    bool forged = false;
    for (char text[64];;) {
      pollfd p{rank.get(), POLLIN, 0};
      EXPECT_EQ(::poll(&p, 1, 5000), 1) << "the job's own packet did not arrive";
      if (!p.revents) return forged;
      const ssize_t n = ::recv(rank.get(), text, sizeof text, 0);
      if (n == sizeof kForged && std::memcmp(text, kForged, sizeof kForged) == 0)
        forged = true;
      else
        return forged;
    }
  }
  std::string rules() { return sh(nodes_[0].get(), "nft list ruleset"); }

  TestContainer a, b;
  Fd rank;
};

TEST_F(TunnelGuardTest, WithoutItAUserCanSpeakAsARank) {
  EXPECT_TRUE(forgery_arrives(kUser));
}

TEST_F(TunnelGuardTest, DropsWhatUsersForgeAndLetsTheJobPass) {
  guard(true);
  EXPECT_FALSE(forgery_arrives(kUser));
  EXPECT_THAT(rules(), HasSubstr("counter packets 1 "));
  EXPECT_TRUE(forgery_arrives(0)) << "root may";
  auto c = container(0, 2);  // on the same node: through UDP as well
  connect_all({&a, &b, &c});
  for (const auto* to : {&b, &c}) {
    auto s = stream(a, *to);
    EXPECT_TRUE(s.flows(4 << 20, soon()));
  }
  EXPECT_THAT(rules(), HasSubstr("counter packets 1 ")) << "none of the job's own packets";
}

TEST_F(TunnelGuardTest, LeavesOtherPortsAlone) {
  guard(true);
  b.port = 4804;  // beside the range: nobody listens there, but the packet leaves
  EXPECT_FALSE(forgery_arrives(kUser));
  EXPECT_THAT(rules(), HasSubstr("counter packets 0 "));
}

TEST_F(TunnelGuardTest, GuardingTwiceIsOnceAndUnguardingLeavesNothing) {
  guard(true);
  const std::string once = rules();
  guard(true);
  EXPECT_EQ(rules(), once);
  guard(false);
  EXPECT_EQ(rules(), "");
  guard(false);
  EXPECT_TRUE(forgery_arrives(kUser));
  EXPECT_FALSE(guard_tunnels({.first = 5, .last = 4}, soon()));
  EXPECT_FALSE(guard_tunnels({.first = 0, .last = 4}, soon()));
}

}  // namespace
}  // namespace stillpoint::container
