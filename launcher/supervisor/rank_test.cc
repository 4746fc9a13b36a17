#include "launcher/supervisor/rank.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/process.h"

namespace stillpoint::supervisor {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RankTest : public ::testing::Test {
 protected:
  RankTest() {
    char name[] = "/tmp/stillpoint-rank-XXXXXX";
    directory = ::mkdtemp(name);
  }
  ~RankTest() override { std::filesystem::remove_all(directory); }

  RankSpec spec(std::vector<std::string> argv) const {
    return {.argv = std::move(argv),
            .env = {"PATH=/usr/bin:/bin"},
            .directory = directory,
            .umask = {},
            .descriptors = {}};
  }
  void put(const std::string& name, const std::string& content, mode_t mode) const {
    std::ofstream(directory + "/" + name) << content;
    ASSERT_EQ(::chmod((directory + "/" + name).c_str(), mode), 0);
  }
  // Runs it to its end; what it wrote.
  static std::string output_of(const RankSpec& spec) {
    auto process = start_rank(spec, Deadline::in(20s));
    if (!process) return process.error().line();
    auto child = Child::adopt(process->pid);
    EXPECT_TRUE(set_nonblocking(process->out.get(), false));
    auto text = read_to_end(process->out.get(), 1 << 20);
    EXPECT_TRUE(child->wait(Deadline::in(20s), "the rank"));
    return text.value_or("");
  }
  static Error error_of(const RankSpec& spec) {
    auto process = start_rank(spec, Deadline::in(20s));
    return process ? Error(ErrorKind::kInternal, "it was started") : process.error();
  }

  std::string directory;
};

TEST(ProgramCandidates, AsAShellLooks) {
  EXPECT_THAT(program_candidates("a/b", {"PATH=/x"}), ElementsAre("a/b"));
  EXPECT_THAT(program_candidates("p", {"PATH=/x::/y/:rel"}),
              ElementsAre("/x/p", "./p", "/y/p", "rel/p"));
  EXPECT_THAT(program_candidates("p", {}), ElementsAre("/usr/local/bin/p", "/usr/bin/p", "/bin/p"));
}

TEST_F(RankTest, RunsInItsDirectoryWithItsEnvironment) {
  auto s = spec({"sh", "-c", "pwd; echo $VALUE; umask; ulimit -n; cat"});
  s.descriptors = rlimit{100, 200};
  s.env.push_back("VALUE=17");
  s.umask = 0077;
  EXPECT_EQ(output_of(s), directory + "\n17\n0077\n100\n");
}

TEST_F(RankTest, LeadsAProcessGroupAndHasNothingElseOpen) {
  const Fd leaked = *open_file("/dev/zero", O_RDONLY);
  const int inheritable = ::dup(leaked.get());
  const std::string open = output_of(spec({"ls", "/proc/self/fd"}));
  ::close(inheritable);
  EXPECT_EQ(open, "0\n1\n2\n3\n");  // 3: the directory that it lists
  EXPECT_EQ(output_of(spec({"sh", "-c", "[ $(ps -o pgid= $$) = $$ ] && echo leads"})), "leads\n");
}

TEST_F(RankTest, SignalsAreAsUsual) {
  ::signal(SIGPIPE, SIG_IGN);
  const std::string text = output_of(spec({"grep", "-E", "SigBlk|SigIgn", "/proc/self/status"}));
  ::signal(SIGPIPE, SIG_DFL);
  EXPECT_EQ(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST_F(RankTest, AFileThatIsNoProgramIsNotGivenToAShell) {
  put("noise", "echo from $1\n", 0755);
  const Error e = error_of(spec({"./noise"}));
  EXPECT_EQ(e.exit_status(), 126);
  EXPECT_EQ(e.line(), "cannot run ./noise in " + directory + ": Exec format error");
}

TEST_F(RankTest, WhatCannotBeRunIsExplained) {
  const std::string in = " in " + directory + ": ";
  Error e = error_of(spec({"./nosuch"}));
  EXPECT_EQ(e.exit_status(), 127);
  EXPECT_EQ(e.line(), "cannot run ./nosuch" + in + "No such file or directory");
  e = error_of(spec({"no-such-program"}));
  EXPECT_EQ(e.exit_status(), 127);
  EXPECT_EQ(e.line(), "cannot run no-such-program" + in + "no program of that name on PATH");
  e = error_of(spec({"/etc"}));
  EXPECT_EQ(e.exit_status(), 126);
  EXPECT_EQ(e.line(), "cannot run /etc" + in + "it is a directory");
  put("plain", "x", 0644);
  e = error_of(spec({"./plain"}));
  EXPECT_EQ(e.exit_status(), 126);
  EXPECT_EQ(e.line(), "cannot run ./plain" + in + "Permission denied");
  put("script", "#!/no/such/shell\n", 0755);
  EXPECT_THAT(error_of(spec({"./script"})).line(), HasSubstr("the interpreter that it names"));
}

TEST_F(RankTest, ADirectoryThatIsNotThereIsNamed) {
  auto s = spec({"true"});
  s.directory = "/no/such/place";
  const Error e = error_of(s);
  EXPECT_EQ(e.exit_status(), 126);
  EXPECT_EQ(e.line(),
            "cannot run true in /no/such/place: entering the directory: No such file or directory");
}

TEST_F(RankTest, AForbiddenFileDoesNotHideALaterOne) {
  std::filesystem::create_directory(directory + "/first");
  put("first/true", "not executable", 0644);
  auto s = spec({"true"});
  s.env = {"PATH=" + directory + "/first:/usr/bin:/bin"};
  EXPECT_EQ(output_of(s), "");
  s.env = {"PATH=" + directory + "/first"};
  EXPECT_EQ(error_of(s).exit_status(), 126);
}

}  // namespace
}  // namespace stillpoint::supervisor
