#include "launcher/peer/listener.h"

#include <gtest/gtest.h>

#include <boost/asio/detached.hpp>
#include <random>

#include "common/log.h"
#include "common/wire/frame.h"
#include "launcher/peer/client.h"
#include "launcher/peer/testing/fixture.h"

namespace stillpoint::peer {
namespace {

using namespace testing;

class Listening : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { munged_ = new Munged; }
  static void TearDownTestSuite() {
    delete munged_;
    munged_ = nullptr;
  }

  void listen(ListenerOptions options = {}) {
    options.munge = Munge(munged_->socket());
    auto made = Listener::tcp(
        io_.get_executor(), "127.0.0.1", 0, std::move(options),
        [this](std::unique_ptr<Connection> connection) { return serve(std::move(connection)); });
    ASSERT_TRUE(made) << made.error().line();
    listener_ = std::move(*made);
  }
  // Says who it is that asks, and holds the connection until it is let go.
  Task<> serve(std::unique_ptr<Connection> connection) {
    const auto request = co_await connection->receive(Deadline::in(20s));
    if (!request || !*request) co_return;
    Message message;
    message.mutable_reply()->mutable_node()->set_host(std::to_string(connection->party().uid));
    (void)co_await connection->send(std::move(message), Deadline::in(20s));
    (void)co_await connection->receive(Deadline::in(20s));
  }
  Result<std::string> ask_who() {
    auto connection = connect();
    if (!connection) return fail(connection.error());
    Request request;
    request.mutable_node();
    auto reply = run(io_, ask(**connection, std::move(request), Deadline::in(20s)));
    if (!reply) return fail(reply.error());
    return reply->node().host();
  }
  Result<std::unique_ptr<Connection>> connect() {
    return run(io_, call("127.0.0.1", listener_->port(), {.munge = Munge(munged_->socket())},
                         Deadline::in(20s)));
  }
  Fd raw() {
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    where.sin_port = htons(listener_->port());
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&where), sizeof where), 0);
    return fd;
  }
  bool until(const std::function<bool()>& condition) {
    const auto deadline = Deadline::in(20s);
    io_.restart();
    while (!condition() && !deadline.passed()) io_.run_one_for(10ms);
    return condition();
  }
  static bool closed(const Fd& fd) {
    char bytes[4096];
    for (;;) {
      const ssize_t n = ::recv(fd.get(), bytes, sizeof bytes, MSG_DONTWAIT);
      if (n > 0) continue;  // the challenge
      return n == 0 || errno == ECONNRESET;
    }
  }

  static Munged* munged_;
  asio::io_context io_;
  std::unique_ptr<Listener> listener_;
};
Munged* Listening::munged_ = nullptr;

TEST_F(Listening, ServesWhoIsKnown) {
  listen();
  const auto who = ask_who();
  ASSERT_TRUE(who) << who.error().line();
  EXPECT_EQ(*who, std::to_string(::geteuid()));
  EXPECT_EQ(listener_->unknown(), 0u);
}

TEST_F(Listening, OnAUnixSocket) {
  const std::string path = "/tmp/stillpoint-listener-" + std::to_string(::getpid());
  const auto handler = [this](std::unique_ptr<Connection> c) { return serve(std::move(c)); };
  for (int round = 0; round < 2; round++) {  // the second finds the first one's socket
    auto made = Listener::local(io_.get_executor(), path, {}, handler);
    ASSERT_TRUE(made) << made.error().line();
    auto connection = run(io_, call_local(path, {}, Deadline::in(20s)));
    ASSERT_TRUE(connection) << connection.error().line();
    EXPECT_EQ((*connection)->party().uid, ::geteuid());
  }
  ::unlink(path.c_str());
}

TEST_F(Listening, ErrorsOfBindInWords) {
  listen();
  const auto handler = [this](std::unique_ptr<Connection> c) { return serve(std::move(c)); };
  const auto error = [&](const char* address, uint16_t port) {
    return Listener::tcp(io_.get_executor(), address, port, {}, handler).error().line();
  };
  const auto taken = error("127.0.0.1", listener_->port());
  EXPECT_NE(taken.find("another program listens on 127.0.0.1:"), taken.npos) << taken;
  const auto foreign = error("192.0.2.1", 0);
  EXPECT_NE(foreign.find("this node has no address 192.0.2.1"), foreign.npos) << foreign;
}

TEST_F(Listening, OldestUnknownGoesFirst) {
  listen({.most_unknown = 3, .handshake_time = 60s});
  std::vector<Fd> silent;
  for (size_t i = 0; i < 3; i++) {
    silent.push_back(raw());
    ASSERT_TRUE(until([&] { return listener_->unknown() == i + 1; }));
  }
  silent.push_back(raw());
  EXPECT_TRUE(until([&] { return closed(silent[0]); }));
  EXPECT_EQ(listener_->unknown(), 3u);
  for (size_t i = 1; i < 4; i++) EXPECT_FALSE(closed(silent[i])) << i;
  EXPECT_TRUE(ask_who());
}

TEST_F(Listening, SilenceIsNotWaitedForLong) {
  listen({.handshake_time = 100ms});
  const Fd silent = raw();
  EXPECT_TRUE(until([&] { return closed(silent); }));
  EXPECT_EQ(listener_->unknown(), 0u);
}

TEST_F(Listening, OneUsersConnectionsAreBounded) {
  if (::geteuid() != 0) GTEST_FAIL() << "needs root";
  listen({.most_per_user = 2});
  const Identity nobody{.uid = 65534, .gid = 65534, .groups = {65534}};
  // Each in a process of that user, which holds what it has until it is killed.
  const auto ask_as_nobody = [&] {
    auto worker = Worker::start("nobody", &nobody, [&](Progress&) -> Result<std::string> {
      asio::io_context io;
      std::vector<std::unique_ptr<Connection>> held;
      std::string outcomes;
      for (int i = 0; i < 3; i++) {
        auto c = run(io, call("127.0.0.1", listener_->port(), {.munge = Munge(munged_->socket())},
                              Deadline::in(20s)));
        if (!c) return fail(c.error());
        Request request;
        request.mutable_node();
        auto reply = run(io, ask(**c, std::move(request), Deadline::in(20s)));
        outcomes += (reply ? reply->node().host() : reply.error().line()) + ";";
        held.push_back(std::move(*c));
      }
      return outcomes;
    });
    return run(io_, finish(std::move(*worker), Deadline::in(40s)));
  };
  const auto outcomes = ask_as_nobody();
  ASSERT_TRUE(outcomes) << outcomes.error().line();
  EXPECT_TRUE(outcomes->starts_with("65534;65534;")) << *outcomes;
  EXPECT_NE(outcomes->find("uid 65534 has too many connections"), outcomes->npos) << *outcomes;
  EXPECT_TRUE(ask_who());
}

TEST_F(Listening, NobodyThere) {
  listen();
  const uint16_t port = listener_->port();
  listener_.reset();
  const auto refused = run(io_, call("127.0.0.1", port, {}, Deadline::in(20s)));
  ASSERT_FALSE(refused);
  EXPECT_TRUE(contains(refused.error(), "127.0.0.1: no stillpointd listens there"))
      << refused.error().line();
  const auto nowhere = run(io_, call("no-such-host.invalid", port, {}, Deadline::in(20s)));
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().kind(), ErrorKind::kNotFound) << nowhere.error().line();
}

#ifdef __SANITIZE_ADDRESS__
constexpr size_t kMayGrow = 512 << 20;  // it keeps what was freed for a while
#else
constexpr size_t kMayGrow = 8 << 20;
#endif

size_t resident_bytes() {
  size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

// A million random bytes, in random pieces: some bare, some as frames, some behind a genuine start.
TEST_F(Listening, RandomBytesDoNoHarm) {
  listen({.most_unknown = 16});
  log::set_level(log::Level::kError);
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  Message start;
  start.mutable_hello()->set_nonce(std::string(32, 'n'));
  start.mutable_hello()->mutable_versions()->set_least(1);
  start.mutable_hello()->mutable_versions()->set_most(1);
  const std::string genuine = start.SerializeAsString();
  ASSERT_TRUE(ask_who());
  const size_t before = resident_bytes();
  std::vector<Fd> open;
  for (size_t sent = 0; sent < 1'000'000;) {
    std::string bytes(1 + random() % 6000, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    const auto kind = random() % 3;
    if (kind == 1) bytes = wire::frame(bytes);
    if (kind == 2) bytes = wire::frame(genuine + bytes.substr(0, 1 + random() % 40));
    open.push_back(raw());
    (void)::send(open.back().get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    sent += bytes.size();
    io_.restart();
    io_.poll();
    ASSERT_LE(listener_->unknown(), 16u);
    if (random() % 2) open.erase(open.begin() + static_cast<long>(random() % open.size()));
  }
  EXPECT_TRUE(until([&] {
    return std::ranges::all_of(open, [](const Fd& fd) { return closed(fd); });
  })) << "some were not dropped";
  EXPECT_EQ(listener_->unknown(), 0u);
  EXPECT_LT(resident_bytes(), before + kMayGrow);
  EXPECT_TRUE(ask_who());
}

}  // namespace
}  // namespace stillpoint::peer
