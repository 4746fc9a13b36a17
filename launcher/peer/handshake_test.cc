#include "launcher/peer/handshake.h"

#include <gtest/gtest.h>

#include <boost/asio/detached.hpp>

#include "common/units.h"
#include "common/wire/frame.h"
#include "launcher/peer/testing/fixture.h"
#include "launcher/peer/transcript.h"

namespace stillpoint::peer {
namespace {

using namespace testing;

class Handshake : public ::testing::Test {
 protected:
  // One munged for all: each takes a moment to start.
  static void SetUpTestSuite() { munged_ = new Munged; }
  static void TearDownTestSuite() {
    delete munged_;
    munged_ = nullptr;
  }
  Munge munge() const { return Munge(munged_->socket()); }

  // The server's side of a connection; one that a test has lost interest in may go on.
  struct Served {
    explicit Served(Socket taken) : socket(std::move(taken)) {}
    Socket socket;
    std::optional<Result<Party>> admitted;
    Event done{socket.get_executor()};
  };
  Socket begin(Pair pair, Speaks speaks = {}, Milliseconds time = 20s) {
    server_ = std::make_shared<Served>(socket_of(io_, std::move(pair.server)));
    asio::co_spawn(io_, serve(server_, munge(), Deadline::in(time), speaks), asio::detached);
    return socket_of(io_, std::move(pair.client));
  }
  static Task<> serve(std::shared_ptr<Served> server, Munge munge, Deadline deadline,
                      Speaks speaks) {
    server->admitted = co_await admit(server->socket, munge, deadline, speaks);
    server->done.set();
  }
  const Result<Party>& admitted() {
    run(io_, server_->done.wait(Deadline::in(20s)));
    if (!server_->admitted) throw std::runtime_error("the server does not end");
    return *server_->admitted;
  }
  const Error& refused() {
    if (admitted()) throw std::runtime_error("it was let in");
    return admitted().error();
  }

  Result<Party> introduce_to(Socket& socket, Speaks speaks = {}) {
    const Munge own = munge();
    return run(io_, introduce(socket, own, "n2", Deadline::in(20s), speaks));
  }

  // A client by hand: `change` may spoil what it would say; the server's answer.
  using Change = std::function<void(Transcript&)>;
  Result<Message> answer_to(Socket& socket, const Change& before, const Change& after,
                            bool replay = false) {
    auto challenge = run(io_, read_message(socket, 4096, Deadline::in(20s)));
    Transcript t{.challenge = challenge->challenge(), .version = 1, .server = far_end(socket)};
    t.hello.mutable_versions()->set_least(1);
    t.hello.mutable_versions()->set_most(1);
    t.hello.set_nonce(random_nonce());
    if (before) before(t);
    t.hello.set_credential(*munge().encode_now(t.of_client(), 0));
    if (replay) (void)munge().decode_now(t.hello.credential());
    if (after) after(t);
    Message message;
    *message.mutable_hello() = t.hello;
    (void)run(io_, write_message(socket, message, Deadline::in(20s)));
    return run(io_, read_message(socket, 4096, Deadline::in(20s)));
  }
  std::string refusal_of(const Change& before, const Change& after, bool replay = false) {
    auto socket = begin(tcp_pair());
    const auto answer = answer_to(socket, before, after, replay);
    if (!answer) return answer.error().line();
    return answer->has_refusal() ? error_of(answer->refusal()).line() : "not refused";
  }

  static Munged* munged_;
  asio::io_context io_;
  std::shared_ptr<Served> server_;
};
Munged* Handshake::munged_ = nullptr;

TEST_F(Handshake, BothKnowTheOther) {
  for (const bool tcp : {true, false}) {
    auto socket = begin(tcp ? tcp_pair() : unix_pair());
    const auto server = introduce_to(socket);
    ASSERT_TRUE(server) << server.error().line();
    EXPECT_EQ(server->uid, 0u);
    EXPECT_EQ(server->version, wire::kMostPeerVersion);
    ASSERT_TRUE(admitted()) << admitted().error().line();
    EXPECT_EQ(admitted()->uid, ::geteuid());
    EXPECT_EQ(admitted()->where.starts_with("127.0.0.1:"), tcp);
    EXPECT_EQ(admitted()->stillpoint, STILLPOINT_VERSION);
  }
}

TEST_F(Handshake, HighestVersionInCommon) {
  auto socket = begin(tcp_pair(), {.least = 2, .most = 5});
  const auto server = introduce_to(socket, {.least = 1, .most = 3});
  ASSERT_TRUE(server) << server.error().line();
  EXPECT_EQ(server->version, 3u);
}

TEST_F(Handshake, NoVersionInCommonIsSaidInWords) {
  auto socket = begin(tcp_pair(), {.least = 1, .most = 2});
  const auto server = introduce_to(socket, {.least = 3, .most = 4});
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().kind(), ErrorKind::kProtocol);
  EXPECT_TRUE(contains(server.error(), "versions 1 to 2")) << server.error().line();
  EXPECT_TRUE(contains(server.error(), "versions 3 to 4")) << server.error().line();
  EXPECT_TRUE(contains(server.error(), "same release")) << server.error().line();
  // And by the server, to a client that leaves it to it.
  const auto said = refusal_of(
      [](Transcript& t) {
        t.hello.mutable_versions()->set_least(7);
        t.hello.mutable_versions()->set_most(9);
      },
      {});
  EXPECT_NE(said.find("version 1 "), said.npos) << said;
  EXPECT_NE(said.find("versions 7 to 9"), said.npos) << said;
}

TEST_F(Handshake, CredentialIsGoodForThisConnectionAlone) {
  EXPECT_EQ(refusal_of({}, {}), "not refused");
  const std::string other = "another connection or another server";
  const auto refused_as_other = [&](const Change& before, const Change& after) {
    const auto said = refusal_of(before, after);
    EXPECT_NE(said.find(other), said.npos) << said;
  };
  refused_as_other([](Transcript& t) { t.server = "127.0.0.1:1"; }, {});
  refused_as_other([](Transcript& t) { t.challenge.set_nonce(random_nonce()); }, {});
  refused_as_other({}, [](Transcript& t) { t.hello.set_nonce(random_nonce()); });
  refused_as_other({}, [](Transcript& t) { t.hello.mutable_versions()->set_most(2); });
  refused_as_other([](Transcript& t) { t.challenge.mutable_versions()->set_most(9); }, {});
  refused_as_other([](Transcript& t) { t.version = 2; }, {});
}

TEST_F(Handshake, ReplayedOrMissingOrForeignCredential) {
  EXPECT_NE(refusal_of({}, {}, true).find("used before"), std::string::npos);
  const auto none = refusal_of({}, [](Transcript& t) { t.hello.clear_credential(); });
  EXPECT_NE(none.find("no MUNGE credential"), none.npos) << none;
  const Munged foreign(std::string(64, 'z'));
  const auto other = refusal_of({}, [&](Transcript& t) {
    t.hello.set_credential(*Munge(foreign.socket()).encode_now(t.of_client(), 0));
  });
  EXPECT_NE(other.find("another key"), other.npos) << other;
  const auto turned = refusal_of({}, [&](Transcript& t) {  // the server's own words sent back
    t.hello.set_credential(*munge().encode_now(t.of_server(), 0));
  });
  EXPECT_NE(turned.find("another connection"), turned.npos) << turned;
  const auto short_nonce = refusal_of([](Transcript& t) { t.hello.set_nonce("x"); }, {});
  EXPECT_NE(short_nonce.find("nonce"), short_nonce.npos) << short_nonce;
}

// A server by hand: what it answers the client is made by `credential`.
Task<> pose(std::shared_ptr<Socket> owned,
            std::function<std::string(const Transcript&)> credential) {
  Socket& socket = *owned;
  Transcript t{.version = 1, .server = near_end(socket)};
  t.challenge.mutable_versions()->set_least(1);
  t.challenge.mutable_versions()->set_most(1);
  t.challenge.set_nonce(random_nonce());
  Message message;
  *message.mutable_challenge() = t.challenge;
  (void)co_await write_message(socket, message, Deadline::in(20s));
  const auto hello = co_await read_message(socket, 4096, Deadline::in(20s));
  t.hello = hello->hello();
  message.mutable_welcome()->set_version(1);
  message.mutable_welcome()->set_credential(credential(t));
  (void)co_await write_message(socket, message, Deadline::in(20s));
}

TEST_F(Handshake, ServerMustBeRootAndSpeakToThisClient) {
  const auto told_by = [&](std::function<std::string(const Transcript&)> credential) {
    auto pair = tcp_pair();
    auto poser = std::make_shared<Socket>(socket_of(io_, std::move(pair.server)));
    auto socket = socket_of(io_, std::move(pair.client));
    asio::co_spawn(io_, pose(poser, std::move(credential)), asio::detached);
    const auto server = introduce_to(socket);
    return server ? "let in" : server.error().line();
  };
  EXPECT_EQ(told_by([&](const Transcript& t) { return *munge().encode_now(t.of_server(), 0); }),
            "let in");
  const auto as_user = told_by([&](const Transcript& t) {
    Identity nobody{.uid = 65534, .gid = 65534, .groups = {65534}};
    auto worker = Worker::start("poser", &nobody,
                                [&](Progress&) { return munge().encode_now(t.of_server(), 0); });
    return *worker->finish(Deadline::in(20s));
  });
  EXPECT_NE(as_user.find("uid 65534, not by root"), as_user.npos) << as_user;
  const auto sent_back = told_by([](const Transcript& t) { return t.hello.credential(); });
  EXPECT_NE(sent_back.find("another connection"), sent_back.npos) << sent_back;
  const auto none = told_by([](const Transcript&) { return std::string(); });
  EXPECT_NE(none.find("credential"), none.npos) << none;
}

TEST_F(Handshake, DropsNonsense) {
  const auto framed = [](const std::string& payload) { return wire::frame(payload); };
  Message other;
  other.mutable_heartbeat();
  Message empty_hello;
  empty_hello.mutable_hello();
  const struct {
    std::string bytes, says;
  } cases[] = {{"GET / HTTP/1.1\r\n\r\n", "at most 4096 are allowed"},
               {std::string("\xff\xff\xff\xff", 4), "at most 4096 are allowed"},
               {std::string("\x01\x10\0\0", 4), "a message of 4097 bytes"},
               {framed(std::string(100, '\xff')), "cannot be understood"},
               {framed(""), "cannot be understood"},
               {framed(other.SerializeAsString()), "unexpected message"},
               {framed(empty_hello.SerializeAsString()), "speaks version"},
               {framed(std::string(4096, 'x')).substr(0, 500), "in the middle"},
               {std::string("\x05", 1), "in the middle"},
               {"", "has closed"}};
  for (const auto& [bytes, says] : cases) {
    auto pair = tcp_pair();
    ASSERT_TRUE(write_all(pair.client.get(), bytes));
    ::shutdown(pair.client.get(), SHUT_WR);
    auto socket = begin(std::move(pair));
    EXPECT_EQ(refused().kind(), bytes.empty() ? ErrorKind::kIo : ErrorKind::kProtocol);
    EXPECT_TRUE(contains(refused(), says)) << bytes.substr(0, 20) << ": " << refused().line();
  }
}

TEST_F(Handshake, SlowPeerIsGivenUp) {
  auto pair = tcp_pair();
  ASSERT_TRUE(write_all(pair.client.get(), std::string("\x20\0\0\0abc", 7)));
  const auto start = Deadline::Clock::now();
  auto socket = begin(std::move(pair), {}, 100ms);
  EXPECT_EQ(refused().kind(), ErrorKind::kTimeout);
  EXPECT_LT(Deadline::Clock::now() - start, 5s);
}

TEST_F(Handshake, ClientIsBoundedToo) {
  for (const std::string& bytes : {std::string("\xff\xff\xff\x7f", 4), wire::frame("\xff\xff")}) {
    auto pair = tcp_pair();
    ASSERT_TRUE(write_all(pair.server.get(), bytes));
    auto socket = socket_of(io_, std::move(pair.client));
    const auto server = introduce_to(socket);
    ASSERT_FALSE(server);
    EXPECT_EQ(server.error().kind(), ErrorKind::kProtocol);
    EXPECT_TRUE(server.error().what().starts_with("n2: ")) << server.error().line();
  }
  auto pair = tcp_pair();
  auto socket = socket_of(io_, std::move(pair.client));
  const Munge own = munge();
  const auto silent = run(io_, introduce(socket, own, "n2", Deadline::in(100ms)));
  EXPECT_EQ(silent.error().kind(), ErrorKind::kTimeout);
}

}  // namespace
}  // namespace stillpoint::peer
