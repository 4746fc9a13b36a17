// The built supervisor as pid 1 of its own namespaces, with this test as its agent and real MPI
// programs as ranks. Needs root, to make the namespaces.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "common/wire/versions.h"
#include "launcher/supervisor/testing/fake_agent.h"

namespace stillpoint::supervisor {
namespace {

using namespace std::chrono_literals;
using testing::FakeAgent;
using testing::gather;
using testing::Gathered;
using ::testing::HasSubstr;
using testing::TestSupervisor;

std::string program(const std::string& name) {
  return std::string(TEST_PROGRAMS "/") + name;
}

std::vector<std::string> shell(const std::string& script) {
  return {"sh", "-c", script};
}

void put_file(const std::string& path, const std::string& content, mode_t mode) {
  std::ofstream(path) << content;
  ASSERT_EQ(::chmod(path.c_str(), mode), 0);
}

// Polls a condition about another process that nothing announces.
template <typename Condition>
bool eventually(Condition condition) {
  for (const auto deadline = Deadline::in(20s); !deadline.passed();
       std::this_thread::sleep_for(5ms))
    if (condition()) return true;
  return false;
}

class Ranks : public ::testing::TestWithParam<uint32_t> {};

TEST_P(Ranks, HelloWorld) {
  const uint32_t n = GetParam();
  TestSupervisor supervisor;
  const Gathered all = supervisor.run(n, {program("hello")});
  EXPECT_EQ(all.ended->status(), 0) << all.ended->reason() << all.err;
  EXPECT_EQ(all.ended->reason(), "");
  EXPECT_EQ(all.err, "");
  EXPECT_EQ(all.pids.size(), n);
  for (uint32_t rank = 0; rank < n; rank++)
    EXPECT_EQ(all.by_rank.at(rank), "rank " + std::to_string(rank) + " of " + std::to_string(n) +
                                        ", sum " + std::to_string(n * (n - 1) / 2) + "\n");
}

INSTANTIATE_TEST_SUITE_P(Supervisor, Ranks, ::testing::Values(1, 2, 3, 4, 8));

TEST(Supervisor, CommunicatorsOfEveryOrigin) {
  TestSupervisor supervisor;
  const Gathered all = supervisor.run(4, {program("comms")});
  EXPECT_EQ(all.ended->status(), 0) << all.ended->reason() << all.err;
  // 15 of all ranks (0+1+2+3), 15 of the even ones (0+2), 5 of the even ones, 5 of all.
  EXPECT_EQ(all.out, "total " + std::to_string(15 * 6 + 15 * 2 + 5 * 2 + 5 * 6) + "\n");
}

TEST(Supervisor, PublishedNamesAreFound) {
  TestSupervisor supervisor;
  const Gathered all = supervisor.run(3, {program("names")});
  EXPECT_EQ(all.ended->status(), 0) << all.ended->reason() << all.err;
  for (uint32_t rank = 0; rank < 3; rank++)
    EXPECT_EQ(all.by_rank.at(rank), "rank " + std::to_string(rank) + ": found\n");
}

TEST(Supervisor, SpawningIsRefusedWithAWord) {
  TestSupervisor supervisor;
  const Gathered all = supervisor.run(1, {program("spawn")});
  EXPECT_EQ(all.out, "refused\n");
  EXPECT_THAT(all.err, HasSubstr("MPI_Comm_spawn is not supported"));
}

TEST(Supervisor, ProgramsWithoutMpi) {
  TestSupervisor supervisor;
  const Gathered all = supervisor.run(
      3, shell("echo $OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE; hostname | cat"));
  EXPECT_EQ(all.ended->status(), 0);
  EXPECT_EQ(all.by_rank.at(2), "2 of 3\nnode0\n");
}

// A supervisor started from within another launcher's rank.
TEST(Supervisor, WhatAnOuterLauncherLeftDoesNotConfuse) {
  TestSupervisor supervisor;
  const Gathered all = supervisor.run(
      2, {program("hello")},
      {"PMIX_RANK=7", "PMIX_NAMESPACE=outer", "PMIX_SERVER_URI41=outer.0;tcp4://127.0.0.1:9",
       "PMIX_SERVER_TMPDIR=/nonexistent", "OMPI_COMM_WORLD_RANK=7", "OMPI_COMM_WORLD_SIZE=9",
       "PMI_FD=5", "SLURM_PROCID=7"});
  EXPECT_EQ(all.ended->status(), 0) << all.ended->reason() << all.err;
  EXPECT_EQ(all.by_rank.at(1), "rank 1 of 2, sum 1\n");
}

struct Bad {
  std::vector<std::string> arguments;
  int status;
  std::string reason;
};

TEST(Supervisor, TheFirstFailureDecides) {
  const std::vector<Bad> cases = {
      {{"2", "abort", "5"}, 5, "rank 2 called MPI_Abort(5)"},
      {{"1", "abort", "0"}, 1, "rank 1 called MPI_Abort(0)"},
      {{"3", "exit", "6"}, 6, "rank 3 ended with exit status 6"},
      {{"1", "exit", "0"}, 1, "rank 1 ended without calling MPI_Finalize"},
      {{"2", "signal", "11"}, 139, "rank 2 was killed by signal 11 (Segmentation fault)"},
      {{"0", "signal", "9"}, 137, "rank 0 was killed by signal 9 (Killed)"},
      {{"2", "late", "4"}, 4, "rank 2 ended with exit status 4"},
      {{"3", "never", "0"}, 1, "rank 3 ended without calling MPI_Init, which rank "},
  };
  for (const Bad& bad : cases) {
    TestSupervisor supervisor;
    std::vector<std::string> argv = {program("ends")};
    argv.insert(argv.end(), bad.arguments.begin(), bad.arguments.end());
    const Gathered all = supervisor.run(4, argv);
    EXPECT_EQ(all.ended->status(), bad.status) << bad.reason << "\n" << all.err;
    EXPECT_THAT(all.ended->reason(), ::testing::StartsWith(bad.reason));
  }
}

TEST(Supervisor, ProgramsThatCannotBeStarted) {
  struct Case {
    std::string program;
    int status;
    std::string reason;
  };
  const std::vector<Case> cases = {
      {"./nosuch", 127, ": No such file or directory"},
      {"nosuch-program", 127, ": no program of that name on PATH"},
      {"./folder", 126, ": it is a directory"},
      {"./plain", 126, ": Permission denied"},
      {"./script", 127, ": the interpreter that it names does not exist"},
  };
  for (const Case& c : cases) {
    TestSupervisor supervisor;
    const std::string& directory = supervisor.directory();
    ::mkdir((directory + "/folder").c_str(), 0755);
    put_file(directory + "/plain", "x", 0644);
    put_file(directory + "/script", "#!/no/such/shell\n", 0755);
    const Gathered all = supervisor.run(2, {c.program});
    ASSERT_TRUE(all.start_failed) << c.program;
    EXPECT_EQ(all.start_failed->status(), c.status);
    EXPECT_EQ(all.start_failed->reason(),
              "cannot run " + c.program + " in " + directory + c.reason);
    EXPECT_EQ(all.ended->status(), c.status);
    EXPECT_EQ(all.ended->reason(), all.start_failed->reason());
  }
}

TEST(Supervisor, AStartThatMakesNoSenseIsRefused) {
  TestSupervisor supervisor;
  FakeAgent agent = supervisor.call();
  auto message = supervisor.start_message(0, {"true"});
  agent.send(message);
  Gathered all;
  gather(agent, all, [&] { return all.ended.has_value(); });
  ASSERT_TRUE(all.start_failed);
  EXPECT_THAT(all.start_failed->reason(), HasSubstr("0 ranks"));
}

TEST(Supervisor, UmaskAndDirectoryAreTheUsers) {
  TestSupervisor supervisor;
  FakeAgent agent = supervisor.call();
  auto message =
      supervisor.start_message(1, shell("umask; pwd; cat /proc/self/status | grep SigBlk"));
  message.mutable_start()->set_umask(027);
  agent.send(message);
  Gathered all;
  gather(agent, all, [&] { return all.ended.has_value(); });
  EXPECT_EQ(all.out, "0027\n" + supervisor.directory() + "\nSigBlk:\t0000000000000000\n");
}

TEST(Supervisor, StandardInputGoesToRankZero) {
  TestSupervisor supervisor;
  FakeAgent agent = supervisor.call();
  Gathered all;
  agent.send(supervisor.start_message(2, shell("wc -c")));
  std::string data(4 << 20, 'x');
  uint64_t sent = 0;
  while (sent < data.size()) {
    const uint64_t most = std::min<uint64_t>(data.size(), all.stdin_taken + wire::kStdinWindow);
    for (; sent < most; sent += std::min<uint64_t>(most - sent, 65536))
      agent.feed(sent, data.substr(sent, std::min<uint64_t>(most - sent, 65536)), false);
    gather(agent, all, [&] { return all.stdin_taken + wire::kStdinWindow > sent; });
  }
  agent.feed(sent, "", true);
  gather(agent, all, [&] { return all.ended.has_value(); });
  EXPECT_EQ(all.by_rank.at(0), std::to_string(data.size()) + "\n");
  EXPECT_EQ(all.by_rank.at(1), "0\n");  // /dev/null
  EXPECT_TRUE(all.stdin_closed);
}

TEST(Supervisor, InputThatNobodyReadsIsDiscarded) {
  TestSupervisor supervisor;
  FakeAgent agent = supervisor.call();
  Gathered all;
  agent.send(supervisor.start_message(
      1, shell("exec <&-; echo closed; while ! [ -e go ]; do sleep 0.01; done")));
  gather(agent, all, [&] { return all.out == "closed\n"; });
  agent.feed(0, std::string(100'000, 'x'), false);
  gather(agent, all, [&] { return all.stdin_closed; });
  put_file(supervisor.directory() + "/go", "", 0644);
  gather(agent, all, [&] { return all.ended.has_value(); });
  EXPECT_EQ(all.ended->status(), 0);
}

// A million numbered lines over links that are lost again and again: none is lost, none comes
// twice.
TEST(Supervisor, OutputSurvivesLostLinks) {
  constexpr int kLines = 1'000'000;
  TestSupervisor supervisor;
  Gathered all;
  int links = 0;
  bool started = false;
  while (!all.ended) {
    FakeAgent agent = supervisor.call(all.next);
    EXPECT_EQ(agent.hello().started(), started);
    if (!started) agent.send(supervisor.start_message(1, {"seq", std::to_string(kLines)}));
    started = true;
    const uint64_t until = all.next + 7;
    gather(agent, all, [&] { return all.ended || all.next >= until; });
    links++;
  }
  std::string expected;
  for (int i = 1; i <= kLines; i++) expected += std::to_string(i) + "\n";
  EXPECT_TRUE(all.out == expected) << all.out.size() << " bytes, expected " << expected.size();
  EXPECT_EQ(all.repeated, 0U);
  EXPECT_GT(links, 5);
  EXPECT_EQ(all.ended->status(), 0);
}

// What a restart sees: the supervisor is the dumped one, the agent is new and knows nothing.
TEST(Supervisor, ANewAgentGetsAllThatWasNotAcknowledged) {
  TestSupervisor supervisor;
  uint64_t first_kept = 0;
  {
    FakeAgent agent = supervisor.call();
    agent.send(supervisor.start_message(
        1, shell("echo one; while ! [ -e go ]; do sleep 0.01; done; echo two; cat; echo end")));
    Gathered all;
    gather(agent, all, [&] { return all.out == "one\n"; });  // and acknowledged
    first_kept = all.next;
    put_file(supervisor.directory() + "/go", "", 0644);
    while (all.out != "one\ntwo\n") all.take(*agent.receive());  // taken, not acknowledged
    agent.feed(0, "three\n", false);
    while (all.out != "one\ntwo\nthree\n") all.take(*agent.receive());
    agent.park();
  }
  FakeAgent agent = supervisor.call(0);
  EXPECT_TRUE(agent.hello().started());
  EXPECT_EQ(agent.hello().stdin_taken(), 6U);
  EXPECT_FALSE(agent.hello().stdin_closed());
  agent.feed(6, "four\n", true);
  Gathered all;
  gather(agent, all, [&] { return all.ended.has_value(); });
  EXPECT_EQ(all.out, "two\nthree\nfour\nend\n");
  EXPECT_GE(all.next, first_kept + 3);
}

TEST(Supervisor, ParkLeavesNothingOpenAndTheJobGoesOn) {
  TestSupervisor supervisor;
  Gathered all;
  const auto waiting = shell("while ! [ -e go ]; do sleep 0.01; done; echo gone on");
  {
    FakeAgent agent = supervisor.call();
    agent.send(supervisor.start_message(2, waiting));
    gather(agent, all, [&] { return all.pids.size() == 2; });
    const auto sockets = [&] {
      return std::ranges::count_if(supervisor.descriptors(),
                                   [](auto& d) { return d.starts_with("socket:"); });
    };
    const auto linked = sockets();
    agent.park();
    EXPECT_EQ(sockets(), linked - 1);
    for (const std::string& one : supervisor.descriptors())
      EXPECT_EQ(one.find("io_uring"), std::string::npos);
  }
  put_file(supervisor.directory() + "/go", "", 0644);
  FakeAgent agent = supervisor.call(all.next);
  gather(agent, all, [&] { return all.ended.has_value(); });
  EXPECT_EQ(all.ended->status(), 0);
  EXPECT_EQ(all.out, "gone on\ngone on\n");
}

// All ranks end while no agent is there: the next one hears of it.
TEST(Supervisor, TheEndIsToldToTheNextAgent) {
  TestSupervisor supervisor;
  {
    FakeAgent agent = supervisor.call();
    Gathered all;
    agent.send(supervisor.start_message(
        1, shell("while ! [ -e go ]; do sleep 0.01; done; echo bye; exit 3")));
    gather(agent, all, [&] { return all.pids.size() == 1; });
    agent.park();
    put_file(supervisor.directory() + "/go", "", 0644);
  }
  for (int i = 0; i < 2; i++) {  // told on every link, until Bye
    FakeAgent agent = supervisor.call();
    Gathered all;
    while (!all.ended) all.take(*agent.receive());
    EXPECT_EQ(all.out, "bye\n");
    EXPECT_EQ(all.ended->status(), 3);
  }
}

TEST(Supervisor, AnAgentThatDoesNotReadBoundsOurMemory) {
  TestSupervisor supervisor;
  FakeAgent agent = supervisor.call();
  agent.send(supervisor.start_message(
      4, shell("head -c 30000000 /dev/zero; echo written > done.$OMPI_COMM_WORLD_RANK")));
  Gathered all;
  gather(agent, all, [&] { return !all.pids.empty(); });
  // Time enough to read all of it, if it did not stop: what it has written shows that it rests.
  std::this_thread::sleep_for(500ms);
  EXPECT_LT(supervisor.memory(), 48U << 20);
  EXPECT_FALSE(std::filesystem::exists(supervisor.directory() + "/done.0"));
  gather(agent, all, [&] { return all.ended.has_value(); });
  EXPECT_EQ(all.out.size(), 120'000'000U);
  EXPECT_LT(supervisor.memory(), 48U << 20);
}

TEST(Supervisor, SignalsReachTheWholeGroupOfEachRank) {
  TestSupervisor supervisor;
  FakeAgent agent = supervisor.call();
  Gathered all;
  // The child of the shell gets it, too.
  agent.send(supervisor.start_message(
      2, shell("trap 'echo outer' USR1; sh -c 'trap \"echo inner; exit 0\" USR1; echo ready; "
               "while :; do sleep 0.01; done' & wait; wait; exit 0")));
  gather(agent, all, [&] { return std::ranges::count(all.out, '\n') == 2; });
  agent.signal(SIGUSR1);
  gather(agent, all, [&] { return all.ended.has_value(); });
  EXPECT_EQ(all.ended->status(), 0) << all.ended->reason();
  for (uint32_t rank = 0; rank < 2; rank++) {
    EXPECT_THAT(all.by_rank[rank], HasSubstr("outer"));
    EXPECT_THAT(all.by_rank[rank], HasSubstr("inner"));
  }
}

TEST(Supervisor, AStoppedRankHasNotEnded) {
  TestSupervisor supervisor;
  FakeAgent agent = supervisor.call();
  Gathered all;
  agent.send(supervisor.start_message(1, {"cat"}));
  agent.feed(0, "one\n", false);
  gather(agent, all, [&] { return all.out == "one\n"; });
  agent.signal(SIGTSTP);
  const std::string stat = "/proc/" + std::to_string(supervisor.pid()) + "/root/proc/" +
                           std::to_string(all.pids[0]) + "/stat";
  ASSERT_TRUE(eventually([&] { return read_file(stat)->find(" T ") != std::string::npos; }));
  agent.feed(4, "two\n", true);
  agent.signal(SIGCONT);
  gather(agent, all, [&] { return all.ended.has_value(); });
  EXPECT_EQ(all.out, "one\ntwo\n");
  EXPECT_EQ(all.ended->status(), 0) << all.ended->reason();
}

TEST(Supervisor, KillEndsEvenWhatIgnoresSigterm) {
  TestSupervisor supervisor("50");
  FakeAgent agent = supervisor.call();
  Gathered all;
  agent.send(
      supervisor.start_message(2, shell("trap '' TERM; echo ready; while :; do sleep 0.01; done")));
  gather(agent, all, [&] { return all.out == "ready\nready\n"; });
  link::ToSupervisor kill;
  kill.mutable_kill()->set_reason("the time limit is reached");
  kill.mutable_kill()->set_status(143);
  agent.send(kill);
  gather(agent, all, [&] { return all.ended.has_value(); });
  EXPECT_EQ(all.ended->status(), 143);
  EXPECT_EQ(all.ended->reason(), "the time limit is reached");
}

TEST(Supervisor, BackgroundProcessesMayFinishButNotStay) {
  TestSupervisor supervisor("100");
  // One writes what the rank has given it (a `tee`), another would stay for ever, in a session of
  // its own.
  const Gathered all =
      supervisor.run(1, shell("(sleep 0.1; echo late) & setsid sleep 1000 & echo rank; exit 0"));
  EXPECT_EQ(all.ended->status(), 0);
  EXPECT_EQ(all.out, "rank\nlate\n");
}

TEST(Supervisor, StateOfTheRanks) {
  TestSupervisor supervisor;
  FakeAgent agent = supervisor.call();
  Gathered all;
  agent.send(supervisor.start_message(2, {"sleep", "1000"}));
  gather(agent, all, [&] { return all.pids.size() == 2; });
  link::ToSupervisor request;
  request.mutable_state();
  agent.send(request);
  gather(agent, all, [&] { return all.state_came; });
  ASSERT_EQ(all.state.ranks_size(), 2);
  EXPECT_EQ(all.state.ranks(1).rank(), 1U);
  EXPECT_EQ(all.state.ranks(1).pid(), all.pids[1]);
  EXPECT_EQ(all.state.ranks(1).program(), "sleep");
  EXPECT_FALSE(all.state.ranks(1).mpi());
}

TEST(Supervisor, NonsenseFromAnAgentCostsItsLinkOnly) {
  TestSupervisor supervisor("20");
  Gathered all;
  {
    FakeAgent agent = supervisor.call();
    agent.send(
        supervisor.start_message(1, shell("while ! [ -e go ]; do sleep 0.01; done; echo fine")));
    gather(agent, all, [&] { return all.pids.size() == 1; });
  }
  link::ToSupervisor early, far, again, hello, number;
  early.mutable_output_taken()->set_next(1000);
  far.mutable_stdin()->set_offset(1 << 30);
  again = supervisor.start_message(1, {"true"});
  hello.mutable_hello()->set_version(1);
  number.mutable_signal()->set_number(1000);
  std::vector<std::string> nonsense = {std::string(100, '\xff'), wire::frame("\xff\xff\xff\xff"),
                                       wire::frame("")};
  for (const auto& m : {early, far, again, hello, number})
    nonsense.push_back(wire::frame(m.SerializeAsString()));
  for (const std::string& bytes : nonsense) {
    FakeAgent agent = supervisor.call();
    agent.send_raw(bytes);
    while (agent.receive()) {
    }
  }
  EXPECT_THAT(supervisor.complaints(), HasSubstr("a frame of 4294967295 bytes"));
  EXPECT_THAT(supervisor.complaints(), HasSubstr("a second Start"));
  put_file(supervisor.directory() + "/go", "", 0644);
  FakeAgent agent = supervisor.call();
  gather(agent, all, [&] { return all.ended.has_value(); });
  EXPECT_EQ(all.out, "fine\n");
}

TEST(Supervisor, WithoutAnAgentTheJobEnds) {
  TestSupervisor supervisor("20");  // 60 ticks are 1.2 s
  {
    FakeAgent agent = supervisor.call();
    Gathered all;
    agent.send(supervisor.start_message(
        1, shell("trap 'echo ended > ended; exit' TERM; echo; while :; do sleep 0.01; done")));
    gather(agent, all, [&] { return !all.out.empty(); });
  }
  EXPECT_TRUE(supervisor.wait().ok());
  EXPECT_EQ(read_file(supervisor.directory() + "/ended").value_or(""), "ended\n");
}

TEST(Supervisor, FrozenTimeDoesNotCount) {
  TestSupervisor supervisor("20");
  {
    FakeAgent agent = supervisor.call();
    Gathered all;
    agent.send(supervisor.start_message(1, {"sleep", "1000"}));
    gather(agent, all, [&] { return all.pids.size() == 1; });
    agent.park();
  }
  ASSERT_EQ(::kill(supervisor.pid(), SIGSTOP), 0);
  std::this_thread::sleep_for(2s);  // 100 ticks
  ASSERT_EQ(::kill(supervisor.pid(), SIGCONT), 0);
  FakeAgent agent = supervisor.call();
  EXPECT_TRUE(agent.hello().started());
}

}  // namespace
}  // namespace stillpoint::supervisor
