#include "launcher/daemon/dispatcher.h"

#include <gtest/gtest.h>

#include <boost/asio/detached.hpp>

#include "launcher/daemon/node_query.h"
#include "launcher/peer/client.h"
#include "launcher/peer/testing/fixture.h"

namespace stillpoint::daemon {
namespace {

using namespace peer::testing;

class Dispatch : public ::testing::Test {
 protected:
  Dispatch() {
    auto pair = unix_pair();
    client_ = make(std::move(pair.client));
    asio::co_spawn(io_, dispatcher_.serve(make(std::move(pair.server))), asio::detached);
  }
  std::unique_ptr<peer::Connection> make(Fd fd) {
    return std::make_unique<peer::Connection>(socket_of(io_, std::move(fd)),
                                              peer::Party{.uid = 4711}, peer::ConnectionLimits());
  }
  Result<peer::Reply> ask_for_node() {
    peer::Request request;
    request.mutable_node();
    return run(io_, peer::ask(*client_, std::move(request), Deadline::in(20s)));
  }

  asio::io_context io_;
  Dispatcher dispatcher_;
  std::unique_ptr<peer::Connection> client_;
};

TEST_F(Dispatch, HandlerGetsConnectionAndRequest) {
  dispatcher_.on(peer::Request::kNode,
                 [](std::unique_ptr<peer::Connection> c, peer::Request request) -> Task<> {
                   peer::Reply reply;
                   reply.mutable_node()->set_host(std::to_string(c->party().uid));
                   reply.mutable_node()->set_uptime(request.has_node());
                   co_await answer(*c, std::move(reply));
                 });
  const auto reply = ask_for_node();
  ASSERT_TRUE(reply) << reply.error().line();
  EXPECT_EQ(reply->node().host(), "4711");
  EXPECT_EQ(reply->node().uptime(), 1u);
  const auto after = run(io_, client_->receive(Deadline::in(20s)));
  ASSERT_TRUE(after);
  EXPECT_FALSE(*after);  // closed in order
}

TEST_F(Dispatch, UnknownRequestIsRefusedInWords) {
  const auto reply = ask_for_node();
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind(), ErrorKind::kProtocol);
  EXPECT_TRUE(contains(reply.error(), "does not know what is asked")) << reply.error().line();
  EXPECT_TRUE(contains(reply.error(), STILLPOINT_VERSION)) << reply.error().line();
}

TEST_F(Dispatch, ErrorsReachTheCaller) {
  dispatcher_.on(peer::Request::kNode,
                 [](std::unique_ptr<peer::Connection> c, peer::Request) -> Task<> {
                   co_await answer(*c, fail(ErrorKind::kNoSpace, "no room", "make some"));
                 });
  const auto reply = ask_for_node();
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind(), ErrorKind::kNoSpace);
  EXPECT_EQ(reply.error().remedy(), "make some");
}

TEST(Node, TellsOfItself) {
  asio::io_context io;
  NodeQuery query(io.get_executor());
  const auto node = run(io, query.answer(0, Deadline::in(60s)));
  ASSERT_TRUE(node) << node.error().line();
  EXPECT_EQ(node->stillpoint(), STILLPOINT_VERSION);
  EXPECT_FALSE(node->host().empty());
  EXPECT_FALSE(node->kernel().empty());
  EXPECT_GT(node->uptime(), 0u);
  // Asked again at once, by several, it does not look again.
  const auto start = Deadline::Clock::now();
  for (int i = 0; i < 20; i++) EXPECT_TRUE(run(io, query.answer(1000, Deadline::in(60s))));
  EXPECT_LT(Deadline::Clock::now() - start, 2s);
}

}  // namespace
}  // namespace stillpoint::daemon
