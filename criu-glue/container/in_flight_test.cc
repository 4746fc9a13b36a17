#include "criu-glue/container/in_flight.h"

#include <netinet/tcp.h>

#include "criu-glue/container/network_fixture.h"
#include "criu-glue/container/network_lock.h"
#include "criu-glue/container/tcp_info.h"

namespace stillpoint::container {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class InFlightTest : public NetworkTest {
 protected:
  void SetUp() override {
    make_nodes(2);
    a = container(0, 0);
    b = container(1, 1);
    connect_all({&a, &b});
  }
  void cut(const TestContainer& c) { ASSERT_TRUE(network_lock::lock(c.ns.get(), soon())); }
  void heal(const TestContainer& c) { ASSERT_TRUE(network_lock::unlock(c.ns.get(), soon())); }
  static InFlight look(const TestContainer& c) {
    auto seen = in_flight(c.ns.get(), soon());
    EXPECT_TRUE(seen) << seen.error().line();
    return seen.value_or(InFlight{});
  }
  static InFlight drain(const TestContainer& c, Deadline::Clock::duration wait) {
    auto left = drained(c.ns.get(), Deadline::in(wait));
    EXPECT_TRUE(left) << left.error().line();
    return left.value_or(InFlight{});
  }
  TestContainer a, b;
};

TEST_F(InFlightTest, NothingWhenIdle) {
  EXPECT_TRUE(look(a).nothing());
  auto s = stream(a, b);
  ASSERT_TRUE(s.flows(1 << 20, soon()));
  ASSERT_TRUE(s.arrives(soon()));
  for (const auto* c : {&a, &b}) {
    const InFlight left = drain(*c, 5s);
    EXPECT_TRUE(left.nothing()) << left.describe();
    EXPECT_EQ(left.closed_windows, 0u);
    EXPECT_THAT(left.worst, IsEmpty());
    EXPECT_EQ(left.describe(), "nothing in flight");
  }
}

TEST_F(InFlightTest, SeesWhatWasSentIntoACutTunnel) {
  auto s = stream(a, b), quiet = stream(a, b);
  cut(b);
  ASSERT_EQ(::send(s.from.get(), "12345", 5, 0), 5);
  const InFlight seen = look(a);
  EXPECT_EQ(seen.connections, 1u);
  EXPECT_EQ(seen.bytes, 5u);
  EXPECT_EQ(seen.packets, 1u);
  EXPECT_EQ(seen.closed_windows, 0u);
  ASSERT_THAT(seen.worst, SizeIs(1));
  EXPECT_EQ(seen.worst[0].remote, "100.64.0.2:5000");
  EXPECT_THAT(seen.worst[0].local, testing::StartsWith("100.64.0.1:"));
  EXPECT_EQ(seen.worst[0].state, "ESTABLISHED");
  EXPECT_THAT(seen.describe(), HasSubstr("1 connection with 5 B unacknowledged, as 100.64.0.1:"));
  EXPECT_TRUE(look(b).nothing()) << "the receiver has sent nothing";

  const auto start = Deadline::Clock::now();
  EXPECT_EQ(drain(a, 100ms).connections, 1u) << "what is left at the deadline";
  EXPECT_GE(Deadline::Clock::now() - start, 100ms);
  heal(b);
  EXPECT_TRUE(drain(a, 10s).nothing()) << "returns as soon as it is acknowledged";
}

TEST_F(InFlightTest, AFullSendQueueCountsOnlyWhatWasSent) {
  auto s = stream(a, b);
  cut(b);
  for (int i = 0; i < 100; i++) s.send_some();
  const InFlight seen = look(a);
  EXPECT_EQ(seen.connections, 1u);
  EXPECT_GT(seen.packets, 1u);
  EXPECT_GT(seen.bytes, 1000u);
  EXPECT_LT(seen.bytes, s.sent) << "the rest waits for its turn in the queue";
}

TEST_F(InFlightTest, AReaderThatNeverReadsIsAClosedWindow) {
  auto s = stream(a, b);
  uint64_t before = 1;
  for (const auto until = soon(); before != s.sent && !until.passed(); ::poll(nullptr, 0, 300)) {
    before = s.sent;
    for (int i = 0; i < 2000; i++) s.send_some();
  }
  const InFlight left = drain(a, 10s);
  EXPECT_TRUE(left.nothing()) << left.describe();
  EXPECT_EQ(left.closed_windows, 1u);
  ASSERT_THAT(left.worst, SizeIs(1));
  EXPECT_TRUE(left.worst[0].closed_window);
  EXPECT_GT(left.worst[0].bytes, 1000u);
  EXPECT_TRUE(s.arrives(soon())) << "and nothing of it is lost";
}

TEST_F(InFlightTest, SeesIpv4ThatAnIpv6SocketSpeaks) {
  const Fd listener = socket_in(b.ns.get(), SOCK_STREAM);
  ASSERT_EQ(bind_to(listener, at(*mpi_network::address_of(1), 5000)), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  const Fd six = socket_in(a.ns.get(), SOCK_STREAM, AF_INET6);
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  to.sin6_port = htons(5000);
  ::inet_pton(AF_INET6, "::ffff:100.64.0.2", &to.sin6_addr);
  ASSERT_EQ(::connect(six.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  cut(b);
  ASSERT_EQ(::send(six.get(), "12345", 5, 0), 5);
  const InFlight seen = look(a);
  EXPECT_EQ(seen.bytes, 5u);
  ASSERT_THAT(seen.worst, SizeIs(1));
  EXPECT_EQ(seen.worst[0].remote, "[::ffff:100.64.0.2]:5000");
}

TEST_F(InFlightTest, AConnectionBeingMadeIsInFlight) {
  cut(b);
  const Fd socket = socket_in(a.ns.get(), SOCK_STREAM | SOCK_NONBLOCK);
  EXPECT_EQ(connect_to(socket, at(*mpi_network::address_of(1), 5000)), -1);
  const InFlight seen = look(a);
  EXPECT_EQ(seen.connections, 1u);
  ASSERT_THAT(seen.worst, SizeIs(1));
  EXPECT_EQ(seen.worst[0].state, "SYN_SENT");
}

TEST_F(InFlightTest, SoIsOneThatIsHalfAccepted) {
  const Fd listener = socket_in(b.ns.get(), SOCK_STREAM);
  ASSERT_EQ(bind_to(listener, at(*mpi_network::address_of(1), 5000)), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  cut(a);  // the answer to the first packet does not arrive
  const Fd socket = socket_in(a.ns.get(), SOCK_STREAM | SOCK_NONBLOCK);
  EXPECT_EQ(connect_to(socket, at(*mpi_network::address_of(1), 5000)), -1);
  InFlight seen;
  for (const auto until = soon(); seen.nothing() && !until.passed(); ::poll(nullptr, 0, 5))
    seen = look(b);
  ASSERT_THAT(seen.worst, SizeIs(1));
  EXPECT_EQ(seen.worst[0].state, "SYN_RECV");
}

TEST_F(InFlightTest, ConnectionsWithinTheContainerDoNotCount) {
  for (const std::string address : {"127.0.0.1", "100.64.0.1"}) {
    auto s = stream(a, a, address);
    for (int i = 0; i < 2000; i++) s.send_some();  // never read: its window closes
    const InFlight seen = look(a);
    EXPECT_TRUE(seen.nothing()) << seen.describe();
    EXPECT_EQ(seen.closed_windows, 0u) << address;
  }
}

TEST_F(InFlightTest, NamesTheWorstOnly) {
  std::vector<Stream> all;
  for (int i = 0; i < 12; i++) all.push_back(stream(a, b));
  cut(b);
  const std::string bytes(100, 'x');
  for (size_t i = 0; i < all.size(); i++)
    ASSERT_EQ(::send(all[i].from.get(), bytes.data(), 10 + i, 0), static_cast<ssize_t>(10 + i));
  const InFlight seen = look(a);
  EXPECT_EQ(seen.connections, 12u);
  EXPECT_EQ(seen.bytes, 12u * 10 + 66);
  ASSERT_THAT(seen.worst, SizeIs(8));
  EXPECT_EQ(seen.worst[0].bytes, 21u);
  EXPECT_EQ(seen.worst[7].bytes, 14u);
}

TEST_F(InFlightTest, RefusesWhatIsNoNamespace) {
  const Fd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(in_flight(file.get(), soon()));
  EXPECT_FALSE(drained(file.get(), soon()));
}

TEST(TcpInfoTest, TakesWhatAnyKernelGives) {
  std::vector<std::byte> bytes(4096, std::byte{1});
  EXPECT_EQ(parse_tcp_info({}).unacknowledged, 0u);
  EXPECT_EQ(parse_tcp_info({bytes.data(), 3}).unacknowledged, 0u);
  const TcpInfo old = parse_tcp_info({bytes.data(), sizeof(tcp_info)});  // the C library's, short
  EXPECT_EQ(old.unacknowledged, 0x01010101u);
  EXPECT_EQ(old.unsent, 0u);
  EXPECT_FALSE(old.window);
  const TcpInfo newer = parse_tcp_info(bytes);
  EXPECT_EQ(newer.unsent, 0x01010101u);
  EXPECT_EQ(newer.window, 0x01010101u);
}

}  // namespace
}  // namespace stillpoint::container
