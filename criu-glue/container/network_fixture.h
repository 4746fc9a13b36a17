// For tests of the container network.  Nodes are network namespaces on a bridge in one more, and
// containers are network namespaces: nothing of the machine's own network is touched, and all of it
// goes with the descriptors.  Needs root.  The test process holds every socket itself, whichever
// namespace it is of, so one thread can drive both ends of a connection.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "criu-glue/container/container.h"
#include "criu-glue/container/in_namespace.h"
#include "criu-glue/container/mpi_network.h"

namespace stillpoint::container {

using namespace std::chrono_literals;

constexpr uint32_t kVni = 4242;
constexpr mpi_network::PortRange kPorts{4800, 4803};

// A connection, one direction: bytes of a known pattern, checked as they arrive.
struct Stream {
  Fd from, to;
  uint64_t sent = 0, received = 0;
  bool wrong = false;

  static char byte_at(uint64_t offset) { return static_cast<char>(offset * 2654435761u >> 13); }
  void send_some() {
    char buffer[16384];
    for (size_t i = 0; i < sizeof buffer; i++) buffer[i] = byte_at(sent + i);
    const ssize_t n = ::send(from.get(), buffer, sizeof buffer, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) sent += static_cast<uint64_t>(n);
  }
  void receive_some() {
    char buffer[65536];
    const ssize_t n = ::recv(to.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    for (ssize_t i = 0; i < n; i++)
      wrong |= buffer[i] != byte_at(received + static_cast<size_t>(i));
    if (n > 0) received += static_cast<uint64_t>(n);
  }
  // Sends and receives until `bytes` more have arrived; false if the deadline passes before.
  bool flows(uint64_t bytes, Deadline deadline) {
    for (const uint64_t goal = received + bytes; received < goal;) {
      if (deadline.passed()) return false;
      send_some();
      receive_some();
      if (received < goal) wait_a_little();
    }
    return !wrong;
  }
  // Receives what was sent and is not here yet.
  bool arrives(Deadline deadline) {
    while (received < sent && !deadline.passed()) {
      receive_some();
      if (received < sent) wait_a_little();
    }
    return received == sent && !wrong;
  }
  void wait_a_little() const {
    pollfd p[] = {{to.get(), POLLIN, 0}, {from.get(), POLLOUT, 0}};
    ::poll(p, p[1].fd >= 0 ? 1 : 2, 1);
  }
};

struct TestContainer {
  Fd ns;
  size_t node = 0;
  uint32_t index = 0;
  uint16_t port = 0;
};

class NetworkTest : public testing::Test {
 protected:
  static Deadline soon() { return Deadline::in(10s); }

  // Nodes 0 to count-1 with the addresses 10.88.0.11 and so on.
  void make_nodes(size_t count) {
    switch_ = namespace_();
    sh(switch_.get(), "ip link add br0 type bridge && ip link set br0 up");
    for (size_t i = 0; i < count; i++) {
      nodes_.push_back(namespace_());
      const std::string fd = std::to_string(nodes_.back().get()), port = "port" + std::to_string(i);
      sh(switch_.get(), "ip link add " + port + " type veth peer name eth0 netns /proc/" +
                            std::to_string(::getpid()) + "/fd/" + fd + " && ip link set " + port +
                            " master br0 up");
      sh(nodes_.back().get(),
         "ip addr add " + node_address(i) + "/24 dev eth0 && ip link set eth0 up");
    }
  }
  static std::string node_address(size_t node) { return "10.88.0." + std::to_string(11 + node); }

  static Fd namespace_() {
    auto ns = make_network_namespace();
    EXPECT_TRUE(ns) << "this test needs root: " << ns.error().line();
    return ns ? std::move(*ns) : Fd();
  }
  // What a shell command says in a namespace; a failure of it fails the test.
  static std::string sh(int ns, const std::string& command) {
    auto out = in_namespace(
        ns, command,
        [&]() -> Result<std::string> {
          auto run = run_program({"/bin/sh", "-c", command}, soon());
          if (!run) return fail(run.error());
          if (!run->exit.ok()) return fail(ErrorKind::kSystem, run->out);
          return run->out;
        },
        soon());
    EXPECT_TRUE(out) << out.error().line();
    return out.value_or("");
  }

  // create() as the agent of that node would call it.
  Result<uint16_t> create(size_t node, const mpi_network::Spec& spec) {
    auto port = in_namespace(
        nodes_.at(node).get(), "node",
        [&]() -> Result<std::string> {
          auto made = mpi_network::create(spec, soon());
          if (!made) return fail(made.error());
          return std::to_string(*made);
        },
        soon());
    if (!port) return fail(port.error());
    return static_cast<uint16_t>(std::stoul(*port));
  }
  mpi_network::Spec spec(size_t node, uint32_t index, const Fd& ns) const {
    return {
        .vni = kVni, .index = index, .local = node_address(node), .ports = kPorts, .ns = ns.get()};
  }
  void place(TestContainer& c, size_t node) {
    c.node = node;
    auto port = create(node, spec(node, c.index, c.ns));
    ASSERT_TRUE(port) << port.error().line();
    c.port = *port;
  }
  TestContainer container(size_t node, uint32_t index) {
    TestContainer c{.ns = namespace_(), .index = index};
    place(c, node);
    return c;
  }
  Result<> connect(const TestContainer& c, const std::vector<mpi_network::FarEnd>& ends) {
    auto done = in_namespace(
        nodes_.at(c.node).get(), "node",
        [&]() -> Result<std::string> {
          if (auto r = mpi_network::connect(c.ns.get(), ends, soon()); !r) return fail(r.error());
          return "";
        },
        soon());
    if (!done) return fail(done.error());
    return {};
  }
  void connect_all(const std::vector<const TestContainer*>& all) {
    std::vector<mpi_network::FarEnd> ends;
    for (const auto* c : all)
      ends.push_back({.index = c->index, .node = node_address(c->node), .port = c->port});
    for (const auto* c : all) {
      auto r = connect(*c, ends);
      ASSERT_TRUE(r) << r.error().line();
    }
  }

  // A socket of another namespace.
  static Fd socket_in(int ns, int type, int family = AF_INET) {
    const int own = ::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    const Fd back(own);
    EXPECT_EQ(::setns(ns, CLONE_NEWNET), 0);
    Fd made(::socket(family, type | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::setns(own, CLONE_NEWNET), 0);
    return made;
  }
  static sockaddr_in at(const std::string& address, uint16_t port) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(port);
    ::inet_pton(AF_INET, address.c_str(), &a.sin_addr);
    return a;
  }
  static int bind_to(const Fd& socket, const sockaddr_in& a) {
    return ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&a), sizeof a);
  }
  static int connect_to(const Fd& socket, const sockaddr_in& a) {
    return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&a), sizeof a);
  }
  // A connection between two containers, made over mpi0 (or within one, at any address).
  static Stream stream(const TestContainer& from, const TestContainer& to,
                       std::string address = {}) {
    if (address.empty()) address = *mpi_network::address_of(to.index);
    Stream s;
    const Fd listener = socket_in(to.ns.get(), SOCK_STREAM);
    const int on = 1;
    ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    EXPECT_EQ(bind_to(listener, at(address, 5000)), 0);
    EXPECT_EQ(::listen(listener.get(), 4), 0);
    s.from = socket_in(from.ns.get(), SOCK_STREAM);
    EXPECT_TRUE(set_nonblocking(s.from.get(), true));
    (void)connect_to(s.from, at(address, 5000));
    pollfd p{listener.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&p, 1, 5000), 1) << "no connection to " << address;
    if (p.revents) s.to.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return s;
  }

  Fd switch_;
  std::vector<Fd> nodes_;
};

}  // namespace stillpoint::container
