#include "criu-glue/container/network_lock.h"

#include "criu-glue/container/network_fixture.h"

namespace stillpoint::container {
namespace {

using network_lock::lock;
using network_lock::locked;
using network_lock::unlock;

class NetworkLockTest : public NetworkTest {
 protected:
  void SetUp() override {
    make_nodes(2);
    a = container(0, 0);
    b = container(1, 1);
    connect_all({&a, &b});
  }
  TestContainer a, b;
};

TEST_F(NetworkLockTest, NothingArrivesWhileItIsOnAndAllDoesAfterwards) {
  auto s = stream(a, b);
  ASSERT_TRUE(s.flows(1 << 20, soon()));
  ASSERT_TRUE(s.arrives(soon()));
  ASSERT_TRUE(lock(b.ns.get(), soon()));
  EXPECT_TRUE(*locked(b.ns.get(), soon()));
  const uint64_t before = s.received;
  EXPECT_FALSE(s.flows(1, Deadline::in(300ms)));
  EXPECT_EQ(s.received, before);
  EXPECT_GT(s.sent, before) << "the sender's kernel takes it and hears nothing";
  auto dropped = unlock(b.ns.get(), soon());
  ASSERT_TRUE(dropped) << dropped.error().line();
  EXPECT_GT(dropped->packets, 0u);
  EXPECT_GT(dropped->bytes, 1000u);
  EXPECT_FALSE(*locked(b.ns.get(), soon()));
  EXPECT_TRUE(s.flows(1 << 20, soon()));
  EXPECT_TRUE(s.arrives(soon()));
}

TEST_F(NetworkLockTest, AcknowledgementsAreDroppedToo) {
  auto s = stream(a, b);
  ASSERT_TRUE(s.flows(1 << 20, soon()));
  ASSERT_TRUE(s.arrives(soon()));
  ASSERT_TRUE(lock(a.ns.get(), soon()));  // the sender's side
  s.send_some();
  EXPECT_TRUE(s.arrives(soon())) << "data goes the other way";
  const uint64_t before = s.received;
  for (int i = 0; i < 200; i++) s.flows(1 << 20, Deadline::in(1ms));
  EXPECT_LT(s.received - before, 16u << 20) << "more than any buffer came through";
  EXPECT_GT(unlock(a.ns.get(), soon())->packets, 0u);
  EXPECT_TRUE(s.flows(1 << 20, soon()));
}

TEST_F(NetworkLockTest, AConnectionWithinTheContainerGoesOn) {
  auto s = stream(a, a), lo = stream(a, a, "127.0.0.1");
  ASSERT_TRUE(lock(a.ns.get(), soon()));
  EXPECT_TRUE(s.flows(1 << 20, soon()));
  EXPECT_TRUE(lo.flows(1 << 20, soon()));
  EXPECT_EQ(unlock(a.ns.get(), soon())->packets, 0u);
}

TEST_F(NetworkLockTest, LockingAgainKeepsTheCountAndUnlockingAgainCountsNothing) {
  ASSERT_TRUE(lock(b.ns.get(), soon()));
  const Fd udp = socket_in(a.ns.get(), SOCK_DGRAM);
  ASSERT_EQ(connect_to(udp, at(*mpi_network::address_of(1), 7000)), 0);
  for (int i = 0; i < 3; i++) ASSERT_EQ(::send(udp.get(), "12345678", 8, 0), 8);
  // The bridge delivers at its own pace, so the count is read until it is there.
  for (const auto until = soon(); !until.passed(); ::poll(nullptr, 0, 5))
    if (sh(b.ns.get(), "nft list ruleset").find("packets 3 ") != std::string::npos) break;
  ASSERT_TRUE(lock(b.ns.get(), soon()));
  auto dropped = unlock(b.ns.get(), soon());
  ASSERT_TRUE(dropped);
  EXPECT_EQ(dropped->packets, 3u);
  EXPECT_EQ(dropped->bytes, 3u * (20 + 8 + 8)) << "IP packets";
  dropped = unlock(b.ns.get(), soon());
  ASSERT_TRUE(dropped) << dropped.error().line();
  EXPECT_EQ(dropped->packets, 0u);
  EXPECT_EQ(sh(b.ns.get(), "nft list ruleset"), "");
}

TEST_F(NetworkLockTest, CanBePutOnBeforeTheDeviceIsUpAndConnected) {
  const Fd early = socket_in(a.ns.get(), SOCK_DGRAM);
  TestContainer c = container(1, 2);
  sh(c.ns.get(), "ip link set mpi0 down");
  ASSERT_TRUE(lock(c.ns.get(), soon()));
  sh(c.ns.get(), "ip link set mpi0 up");
  connect_all({&a, &c});
  ASSERT_EQ(connect_to(early, at(*mpi_network::address_of(2), 7000)), 0);
  ASSERT_EQ(::send(early.get(), "x", 1, 0), 1);
  for (const auto until = soon(); !until.passed(); ::poll(nullptr, 0, 5))
    if (sh(c.ns.get(), "nft list ruleset").find("packets 1 ") != std::string::npos) break;
  EXPECT_EQ(unlock(c.ns.get(), soon())->packets, 1u);
}

TEST_F(NetworkLockTest, ALockedDeviceThatWasRemovedDoesNotCountAsLocked) {
  ASSERT_TRUE(lock(b.ns.get(), soon()));
  sh(b.ns.get(), "ip link del mpi0");
  EXPECT_EQ(lock(b.ns.get(), soon()).error().kind(), ErrorKind::kNotFound);
  place(b, 1);
  connect_all({&a, &b});
  ASSERT_TRUE(lock(b.ns.get(), soon()));
  const Fd udp = socket_in(a.ns.get(), SOCK_DGRAM);
  ASSERT_EQ(connect_to(udp, at(*mpi_network::address_of(1), 7000)), 0);
  ASSERT_EQ(::send(udp.get(), "x", 1, 0), 1);
  for (const auto until = soon(); !until.passed(); ::poll(nullptr, 0, 5))
    if (sh(b.ns.get(), "nft list ruleset").find("packets 1 ") != std::string::npos) break;
  EXPECT_EQ(unlock(b.ns.get(), soon())->packets, 1u);
}

TEST_F(NetworkLockTest, RefusesWhatIsNoNamespaceOrHasNoDevice) {
  const Fd bare = namespace_(), file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(lock(bare.get(), soon()).error().kind(), ErrorKind::kNotFound);
  EXPECT_FALSE(*locked(bare.get(), soon()));
  EXPECT_TRUE(unlock(bare.get(), soon()));
  EXPECT_FALSE(lock(file.get(), soon()));
  EXPECT_FALSE(unlock(file.get(), soon()));
  EXPECT_FALSE(locked(file.get(), soon()));
}

}  // namespace
}  // namespace stillpoint::container
