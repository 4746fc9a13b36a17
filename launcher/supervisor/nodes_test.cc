// A job over several nodes: a built supervisor on each, real MPI programs over them, and this test
// as all the agents.  Needs root, to make the namespaces.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <random>
#include <thread>

#include "common/wire/frame.h"
#include "common/wire/mesh.pb.h"
#include "common/wire/versions.h"
#include "launcher/supervisor/testing/test_nodes.h"

namespace stillpoint::supervisor {
namespace {

using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::FakeAgent;
using testing::gather;
using testing::Gathered;
using ::testing::HasSubstr;
using testing::Spread;
using ::testing::StartsWith;
using testing::TestNetwork;
using testing::TestNodes;
using testing::TestSupervisor;

std::string program(const std::string& name) {
  return std::string(TEST_PROGRAMS "/") + name;
}

std::vector<std::string> shell(const std::string& script) {
  return {"sh", "-c", script};
}

uint32_t ranks_of(const Spread& spread) {
  uint32_t ranks = 0;
  for (const auto& here : spread) ranks += static_cast<uint32_t>(here.size());
  return ranks;
}

const Spread kBlock = {{0, 1}, {2, 3}}, kCyclic = {{0, 2}, {1, 3}}, kUneven = {{0, 1, 2}, {3}};

class Spreads : public ::testing::TestWithParam<Spread> {};

TEST_P(Spreads, HelloWorld) {
  TestNodes nodes(GetParam());
  const uint32_t n = ranks_of(GetParam());
  const auto said = nodes.run({program("hello")});
  EXPECT_THAT(nodes.endings(), Each("0"));
  EXPECT_EQ(nodes.errors(), "");
  ASSERT_EQ(said.size(), n);
  for (uint32_t rank = 0; rank < n; rank++)
    EXPECT_EQ(said.at(rank), "rank " + std::to_string(rank) + " of " + std::to_string(n) +
                                 ", sum " + std::to_string(n * (n - 1) / 2) + "\n");
}

TEST_P(Spreads, EveryRankKnowsItsPlace) {
  TestNodes nodes(GetParam());
  const auto said = nodes.run({program("place")});
  const std::string n = std::to_string(ranks_of(GetParam()));
  for (size_t node = 0; node < GetParam().size(); node++) {
    const auto& here = GetParam()[node];
    for (size_t local = 0; local < here.size(); local++) {
      const std::string mine = std::to_string(here[local]) + "/" + n;
      const std::string near = std::to_string(local) + "/" + std::to_string(here.size());
      EXPECT_EQ(said.at(here[local]), mine + " " + near + " on " + TestNodes::name(node) +
                                          ", told " + mine + " " + near + ", universe " + n + "\n");
    }
  }
}

TEST_P(Spreads, CommunicatorsOfEveryOrigin) {
  const int64_t n = ranks_of(GetParam());
  TestNodes nodes(GetParam());
  const auto said = nodes.run({program("comms")});
  EXPECT_THAT(nodes.endings(), Each("0"));
  int64_t all = n * (n - 1) / 2, even = 0;
  for (int64_t rank = 0; rank < n; rank += 2) even += rank;
  EXPECT_EQ(said.at(0), "total " + std::to_string(15 * all + 15 * even + 5 * even + 5 * all) + "\n")
      << nodes.errors();
}

INSTANTIATE_TEST_SUITE_P(Nodes, Spreads,
                         ::testing::Values(kBlock, kCyclic, kUneven, Spread{{1, 2}, {0}, {3}},
                                           Spread{{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}}));

// The same as on one node, to the last bit.
TEST(Nodes, ExamplesGiveTheSameResult) {
  const std::vector<std::vector<std::string>> programs = {
      {EXAMPLES "/ring", "--iterations", "20"},
      {EXAMPLES "/heat2d", "--iterations", "200"},
      {"python3", "-c",
       "from mpi4py import MPI; w = MPI.COMM_WORLD; "
       "x = w.allgather({'rank': w.rank, 'half': list(range(w.rank * 1000))}); "
       "print(sum(len(one['half']) for one in x), w.reduce(w.rank))"}};
  for (const auto& argv : programs) {
    TestSupervisor one;
    const Gathered alone = one.run(4, argv);
    ASSERT_EQ(alone.ended->status(), 0) << alone.err;
    TestNodes nodes(kCyclic);
    const auto said = nodes.run(argv);
    EXPECT_THAT(nodes.endings(), Each("0")) << nodes.errors();
    EXPECT_EQ(said.at(0), alone.by_rank.at(0));
  }
}

TEST(Nodes, RanksUseMpi0AndNothingElse) {
  TestNodes nodes(kBlock);
  const auto said = nodes.run(
      {"python3", "-c",
       "from mpi4py import MPI; import os; w = MPI.COMM_WORLD; w.allgather(b'x' * 100000); "
       "print(os.environ['OMPI_MCA_btl_tcp_if_include']); "
       "t = [l.split() for l in open('/proc/self/net/tcp').readlines()[1:]]; "
       "mine = {os.readlink('/proc/self/fd/' + f)[8:-1] for f in os.listdir('/proc/self/fd') "
       "        if os.path.islink('/proc/self/fd/' + f) and "
       "           os.readlink('/proc/self/fd/' + f).startswith('socket:')}; "
       "far = {l[2][:8] for l in t if l[9] in mine and l[3] == '01'}; "
       "print(sorted(far)); w.barrier()"});
  EXPECT_THAT(nodes.endings(), Each("0")) << nodes.errors();
  // To the far node's mpi0 (100.64.0.2 and .1), and to PMIx's server here by loopback.
  EXPECT_EQ(said.at(0), "mpi0\n['0100007F', '02004064']\n");
  EXPECT_EQ(said.at(3), "mpi0\n['0100007F', '01004064']\n");
}

TEST(Nodes, AUserWhoseSettingsMissMpi0IsWarned) {
  TestNodes nodes({{0}, {1}});
  nodes.run({"true"}, {"OMPI_MCA_btl_tcp_if_include=eth7"});
  EXPECT_THAT(nodes.gathered(0).err, HasSubstr("OMPI_MCA_btl_tcp_if_include=eth7 keeps"));
  EXPECT_EQ(nodes.gathered(1).err, "");
}

TEST(Nodes, WhatPmixIsAskedOfOtherNodes) {
  const std::vector<std::vector<std::string>> calls = {
      {"modex", "1000"}, {"modex", "3000000"}, {"event"}, {"publish"}, {"connect"}};
  for (const Spread& spread : {kCyclic, Spread{{3}, {0, 4}, {1, 2}}})
    for (const auto& call : calls) {
      std::vector<std::string> argv = {program("pmix_calls")};
      argv.insert(argv.end(), call.begin(), call.end());
      TestNodes nodes(spread);
      const auto said = nodes.run(argv);
      EXPECT_THAT(nodes.endings(), Each("0")) << call[0] << nodes.errors();
      for (uint32_t rank = 0; rank < ranks_of(spread); rank++)
        EXPECT_EQ(said.contains(rank) ? said.at(rank) : "", call[0] + ": right\n");
    }
}

TEST(Nodes, WhatPmixSaysOfThem) {
  TestNodes nodes(kUneven);
  const auto said = nodes.run({program("pmix_calls"), "place"});
  const std::string ranks = " 0=n0/0/0 1=n0/0/1 2=n0/0/2 3=n1/1/0\n";
  EXPECT_EQ(said.at(1), "nodes 2 n0,n1 peers 0,1,2 of 3;" + ranks);
  EXPECT_EQ(said.at(3), "nodes 2 n0,n1 peers 3 of 1;" + ranks);
}

TEST(Nodes, PublishedNamesAreFound) {
  TestNodes nodes(Spread{{1}, {0}, {2}});  // the publisher is not where the names are kept
  const auto said = nodes.run({program("names")});
  EXPECT_THAT(nodes.endings(), Each("0")) << nodes.errors();
  for (uint32_t rank = 0; rank < 3; rank++)
    EXPECT_EQ(said.at(rank), "rank " + std::to_string(rank) + ": found\n");
}

TEST(Nodes, StandardInputGoesToRankZeroOnly) {
  TestNodes nodes(Spread{{1}, {0}});
  for (size_t i = 0; i < 2; i++) nodes.agent(i).send(nodes.start_message(i, shell("wc -c")));
  gather(nodes.agent(0), nodes.gathered(0), [&] { return nodes.gathered(0).stdin_closed; });
  nodes.agent(1).feed(0, "hello", true);
  for (size_t i = 0; i < 2; i++) nodes.await_end(i);
  EXPECT_EQ(nodes.gathered(1).by_rank.at(0), "5\n");
  EXPECT_EQ(nodes.gathered(0).by_rank.at(1), "0\n");
}

TEST(Nodes, StartedAndStateNameTheRanks) {
  TestNodes nodes(kCyclic);
  nodes.start({"sleep", "1000"});
  FakeAgent& agent = nodes.agent(1);
  std::vector<uint32_t> ranks;
  while (ranks.empty()) {
    const auto message = agent.receive();
    ASSERT_TRUE(message);
    ranks.assign(message->started().ranks().begin(), message->started().ranks().end());
    EXPECT_EQ(message->started().pids_size(), static_cast<int>(ranks.size()));
  }
  EXPECT_THAT(ranks, ElementsAre(1, 3));
  link::ToSupervisor request;
  request.mutable_state();
  agent.send(request);
  Gathered& all = nodes.gathered(1);
  gather(agent, all, [&] { return all.state_came; });
  ASSERT_EQ(all.state.ranks_size(), 2);
  EXPECT_EQ(all.state.ranks(1).rank(), 3U);
}

// ---- failures

struct Bad {
  std::vector<std::string> arguments;
  std::string ending;
};

TEST(Nodes, TheFirstFailureDecidesEverywhere) {
  const std::vector<Bad> cases = {
      {{"2", "abort", "5"}, "5 rank 2 called MPI_Abort(5)"},
      {{"3", "exit", "6"}, "6 rank 3 ended with exit status 6"},
      {{"1", "signal", "11"}, "139 rank 1 was killed by signal 11 (Segmentation fault)"},
      {{"2", "never", "0"}, "1 rank 2 ended without calling MPI_Init, which rank "},
  };
  for (const Bad& bad : cases)
    for (const Spread& spread : {kBlock, Spread{{0}, {1}, {2}, {3}}}) {
      TestNodes nodes(spread);
      std::vector<std::string> argv = {program("ends")};
      argv.insert(argv.end(), bad.arguments.begin(), bad.arguments.end());
      nodes.run(argv);
      // A node whose ranks are through by then has ended well.
      const bool may_be_through = bad.arguments[1] == "never";
      for (const std::string& ending : nodes.endings())
        if (!may_be_through || ending != "0") {
          EXPECT_THAT(ending, StartsWith(bad.ending)) << nodes.errors();
        }
      EXPECT_THAT(nodes.endings(), Contains(StartsWith(bad.ending)));
    }
}

TEST(Nodes, AProgramThatCannotBeStartedOnOneNode) {
  TestNodes nodes(kBlock);
  nodes.agent(0).send(nodes.start_message(0, {"sleep", "1000"}));
  nodes.agent(1).send(nodes.start_message(1, {"nosuch-program"}));
  nodes.await_end(0);
  nodes.await_end(1);
  EXPECT_THAT(nodes.endings(), Each(StartsWith("127 cannot run nosuch-program in ")));
  EXPECT_TRUE(nodes.gathered(1).start_failed);
}

TEST(Nodes, TheAgentsKillReachesAll) {
  TestNodes nodes(kBlock);
  nodes.start({"sleep", "1000"});
  gather(nodes.agent(1), nodes.gathered(1), [&] { return nodes.gathered(1).pids.size() == 2; });
  link::ToSupervisor kill;
  kill.mutable_kill()->set_reason("the time limit is reached");
  kill.mutable_kill()->set_status(143);
  nodes.agent(1).send(kill);
  nodes.await_end(0);
  nodes.await_end(1);
  EXPECT_THAT(nodes.endings(), Each("143 the time limit is reached"));
}

TEST(Nodes, NodesMayEndAtDifferentTimes) {
  TestNodes nodes(Spread{{0}, {1}, {2}}, "100");
  nodes.start(shell("[ $OMPI_COMM_WORLD_RANK = 0 ] || sleep 0.$OMPI_COMM_WORLD_RANK; echo done"));
  nodes.await_end(0);
  link::ToSupervisor bye;  // too early, but its ranks are through: nobody minds
  bye.mutable_bye();
  std::this_thread::sleep_for(100ms);
  nodes.agent(0).send(bye);
  nodes.await_end(1);
  nodes.await_end(2);
  EXPECT_THAT(nodes.endings(), Each("0")) << nodes.errors();
}

class Killed : public ::testing::TestWithParam<size_t> {};

TEST_P(Killed, ASupervisorThatIsLostEndsTheJobOfTheOthers) {
  TestNodes nodes(Spread{{0, 1}, {2}, {3}});
  nodes.start({EXAMPLES "/ring", "--iterations", "100000", "--every", "1", "--delay", "1"});
  gather(nodes.agent(0), nodes.gathered(0), [&] { return nodes.gathered(0).out.size() > 100; });
  const auto begin = std::chrono::steady_clock::now();
  nodes.supervisor(GetParam()).kill();
  for (size_t i = 0; i < 3; i++)
    if (i != GetParam()) nodes.await_end(i);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
  const std::string lost =
      "74 the connection to node " + TestNodes::name(GetParam()) + "'s supervisor was lost";
  auto endings = nodes.endings();
  endings.erase(endings.begin() + static_cast<long>(GetParam()));
  EXPECT_THAT(endings, Each(StartsWith(lost)));
}

INSTANTIATE_TEST_SUITE_P(Nodes, Killed, ::testing::Values(0, 1, 2));

TEST(Nodes, ANodeThatNeverBeginsIsNamed) {
  TestNodes nodes(kBlock, "20");  // 60 ticks are 1.2 s
  nodes.agent(1).send(nodes.start_message(1, {"sleep", "1000"}));
  nodes.await_end(1);
  EXPECT_THAT(nodes.endings()[1],
              StartsWith("74 the connection to node n0's supervisor was lost (no connection within "
                         "60 s: Connection refused"));
}

TEST(Nodes, ALateNodeIsWaitedFor) {
  TestNodes nodes(kBlock, "100");
  nodes.agent(1).send(nodes.start_message(1, {program("hello")}));
  std::this_thread::sleep_for(1s);  // ten ticks
  nodes.agent(0).send(nodes.start_message(0, {program("hello")}));
  nodes.await_end(0);
  nodes.await_end(1);
  EXPECT_THAT(nodes.endings(), Each("0")) << nodes.errors();
}

// Its kernel takes calls while it does nothing: they are given up and made anew, and the dead ones
// among them are no losses.
TEST(Nodes, ASlowNodeIsCalledAgain) {
  TestNodes nodes(Spread{{0}, {1}, {2}}, "20");
  nodes.agent(0).send(nodes.start_message(0, {program("hello")}));
  gather(nodes.agent(0), nodes.gathered(0), [&] { return nodes.gathered(0).pids.size() == 1; });
  ASSERT_EQ(::kill(nodes.supervisor(0).pid(), SIGSTOP), 0);
  for (size_t i = 1; i < 3; i++) nodes.agent(i).send(nodes.start_message(i, {program("hello")}));
  std::this_thread::sleep_for(700ms);  // 35 ticks: seven calls each
  ASSERT_EQ(::kill(nodes.supervisor(0).pid(), SIGCONT), 0);
  for (size_t i = 0; i < 3; i++) nodes.await_end(i);
  EXPECT_THAT(nodes.endings(), Each("0")) << nodes.errors();
}

// As for a dump: nothing expires, however long it takes.
TEST(Nodes, ANodeThatStandsStillIsNotLost) {
  TestNodes nodes(kBlock, "20");
  nodes.start({program("ends"), "9", "none", "0"});  // all call MPI_Barrier and end
  ASSERT_EQ(::kill(nodes.supervisor(1).pid(), SIGSTOP), 0);
  std::this_thread::sleep_for(2s);  // 100 ticks
  ASSERT_EQ(::kill(nodes.supervisor(1).pid(), SIGCONT), 0);
  nodes.await_end(0);
  nodes.await_end(1);
  EXPECT_THAT(nodes.endings(), Each("0")) << nodes.errors();
}

// ---- hostile peers

class Caller {
 public:
  // A rank of node 1 calls the supervisor of node 0.
  explicit Caller(const TestNodes& nodes) {
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) throw std::runtime_error("socketpair");
    near_.reset(pair[0]);
    const Fd far(pair[1]);
    // The socket belongs to the namespace it was made in, wherever it is used.
    nodes.network().in_node(1, [&] {
      const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = htons(wire::kMeshPort);
      ::inet_pton(AF_INET, TestNetwork::address(0).c_str(), &to.sin_addr);
      if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) ::_exit(9);
      char byte = 0, control[CMSG_SPACE(sizeof fd)] = {};
      iovec part{&byte, 1};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* head = CMSG_FIRSTHDR(&message);
      head->cmsg_level = SOL_SOCKET;
      head->cmsg_type = SCM_RIGHTS;
      head->cmsg_len = CMSG_LEN(sizeof fd);
      std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
      if (::sendmsg(far.get(), &message, 0) != 1) ::_exit(10);
    });
    take();
  }

  void say(const std::string& bytes) const {
    (void)::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  // All that comes until the other side hangs up.
  std::string hear() const {
    std::string all;
    char buffer[4096];
    const timeval patience{20, 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (;;) {
      const ssize_t n = ::recv(socket_.get(), buffer, sizeof buffer, 0);
      if (n < 0 && errno == EAGAIN) throw std::runtime_error("not hung up");
      if (n <= 0) return all;
      all.append(buffer, static_cast<size_t>(n));
    }
  }

 private:
  void take() {
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = {};
    iovec part{&byte, 1};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    int fd = -1;
    if (::recvmsg(near_.get(), &message, 0) == 1)
      std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    socket_.reset(fd);
  }
  Fd near_, socket_;
};

std::string hello(uint32_t version, uint32_t node, const std::string& token) {
  mesh::Frame frame;
  frame.mutable_hello()->set_version(version);
  frame.mutable_hello()->set_job("test-job");
  frame.mutable_hello()->set_node(node);
  frame.mutable_hello()->set_nodes(2);
  frame.mutable_hello()->set_token(token);
  return wire::frame(frame.SerializeAsString());
}

TEST(Nodes, CallersThatTalkNonsenseAreDropped) {
  TestNodes nodes(kBlock, "50");
  nodes.start(shell("while ! [ -e go ]; do sleep 0.01; done; exec " + program("hello")));
  for (size_t i = 0; i < 2; i++)
    gather(nodes.agent(i), nodes.gathered(i), [&] { return nodes.gathered(i).pids.size() == 2; });
  std::this_thread::sleep_for(500ms);  // until the two are connected
  std::string noise(2 << 20, '\0');
  std::mt19937 random(7);
  for (char& c : noise) c = static_cast<char>(random());
  const std::vector<std::string> nonsense = {
      noise,
      std::string(100, '\0'),
      std::string(100, '\xff'),
      wire::frame("\xff\xff\xff"),
      wire::frame(std::string(5000, 'x')),
      hello(wire::kMeshVersion, 1, "another token, as long"),
      hello(wire::kMeshVersion, 1, "0123456789abcdef"),  // node 1 has called already
      hello(wire::kMeshVersion, 0, "0123456789abcdef"),
      hello(wire::kMeshVersion, 7, "0123456789abcdef"),
      "",  // says nothing
  };
  for (const std::string& bytes : nonsense) {
    const Caller caller(nodes);
    caller.say(bytes);
    caller.hear();
  }
  {
    const Caller caller(nodes);
    caller.say(hello(wire::kMeshVersion + 1, 1, "0123456789abcdef"));
    EXPECT_THAT(caller.hear(), HasSubstr("it speaks version 1 of the protocol, we version 2"));
  }
  const std::string complaints = nodes.supervisor(0).complaints();
  EXPECT_THAT(complaints, HasSubstr("its token is not that of this job"));
  EXPECT_THAT(complaints, HasSubstr("node 1 calls a second time"));
  EXPECT_THAT(complaints, HasSubstr("does not say who it is"));
  EXPECT_THAT(complaints, HasSubstr("sends too much"));
  EXPECT_LT(nodes.supervisor(0).memory(), 48U << 20);
  Fd(::creat((nodes.directory() + "/go").c_str(), 0644));
  nodes.await_end(0);
  nodes.await_end(1);
  EXPECT_THAT(nodes.endings(), Each("0")) << nodes.errors();
}

TEST(Nodes, AStartThatMakesNoSenseIsRefused) {
  const auto refused = [](const std::function<void(link::Start&)>& spoil) {
    TestNodes nodes(kBlock);
    auto message = nodes.start_message(0, {"true"});
    spoil(*message.mutable_start());
    nodes.agent(0).send(message);
    nodes.await_end(0);
    return nodes.endings()[0];
  };
  EXPECT_THAT(refused([](auto& s) { s.set_token("short"); }), HasSubstr("have no token"));
  EXPECT_THAT(refused([](auto& s) { s.set_node(2); }), HasSubstr("none of the job's"));
  EXPECT_THAT(refused([](auto& s) { s.mutable_nodes(1)->set_hostname("n0"); }),
              HasSubstr("two of its nodes are called n0"));
  EXPECT_THAT(refused([](auto& s) { s.mutable_nodes(0)->set_address("192.0.2.1"); }),
              HasSubstr("listening for the job's other supervisors at 192.0.2.1"));
}

// PMIx writes its maps of so many nodes in another form.
TEST(Nodes, TwoThousandNodesCanBeDescribed) {
  TestNodes nodes(Spread{{0}}, "50");
  auto message = nodes.start_message(0, {program("pmix_calls"), "place"});
  auto* start = message.mutable_start();
  start->set_ranks(2000);
  for (uint32_t i = 1; i < 2000; i++) {
    auto* node = start->add_nodes();
    node->set_hostname("node-of-no-regular-name-" + std::to_string(i * 7919 % 10007));
    node->set_address("100." + std::to_string(65 + i / 250) + ".8." + std::to_string(i % 250 + 1));
    node->add_ranks(i);
  }
  start->mutable_argv(1)->assign("place-only");
  nodes.agent(0).send(message);
  gather(nodes.agent(0), nodes.gathered(0), [&] { return !nodes.gathered(0).out.empty(); });
  EXPECT_EQ(nodes.gathered(0).out, "place-only: right\n");
}

}  // namespace
}  // namespace stillpoint::supervisor
