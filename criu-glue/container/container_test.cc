// Needs root: containers are made for real, with small shell scripts as pid 1.
#include "criu-glue/container/container.h"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <optional>

#include "common/paths.h"

namespace stillpoint::container {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

constexpr uid_t kUser = 4242;

class ContainerTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/stillpoint-container-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    ASSERT_EQ(::chown(name, kUser, kUser), 0) << "this test needs root";
    auto group = Cgroup::create("stillpoint-container-test-" + std::to_string(::getpid()));
    ASSERT_TRUE(group) << group.error().line();
    group_ = *group;
    auto mounts = real_mounts();
    ASSERT_TRUE(mounts) << mounts.error().line();
    mounts_ = *mounts;
  }
  void TearDown() override {
    if (group_) {
      EXPECT_TRUE(group_->destroy(Deadline::in(10s)));
    }
    std::filesystem::remove_all(directory_);
  }

  ContainerSpec spec(const std::string& script) const {
    return {.user = {.uid = kUser,
                     .gid = kUser,
                     .groups = {kUser, 4343},
                     .name = "4242",
                     .home = "/",
                     .shell = ""},
            .hostname = "inside",
            .mounts = mounts_,
            .program = {"/bin/sh", "-c", script},
            .env = {"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HERE=" + directory_}};
  }
  // What the script prints, run as pid 1.
  std::string output_of(const ContainerSpec& s) {
    auto container = create(s, *group_, Deadline::in(20s));
    EXPECT_TRUE(container) << (container ? "" : container.error().line());
    if (!container) return "";
    auto exit = container->init.wait(Deadline::in(20s), "pid 1");
    EXPECT_TRUE(exit && exit->ok()) << (exit ? exit->describe() : exit.error().line());
    auto text = read_file(directory_ + "/out");
    return text ? *text : "";
  }
  std::string output_of(const std::string& script) {
    return output_of(spec("exec > $HERE/out 2>&1; " + script));
  }

  std::string directory_;
  std::optional<Cgroup> group_;
  std::vector<Mount> mounts_;
};

TEST_F(ContainerTest, IsTheUserInNamespacesOfItsOwn) {
  const std::string out = output_of(
      "id -u; id -g; id -G; echo pid $$; hostname; umask; ls -1 /proc/self/ns | wc -l;"
      "for n in pid ipc uts mnt net; do readlink /proc/self/ns/$n; done; grep -E "
      "'Cap(Eff|Prm|Amb)|NoNewPrivs' /proc/self/status");
  EXPECT_THAT(out, HasSubstr("4242\n4242\n4242 4343\npid 1\ninside\n0022\n"));
  for (const char* name : {"pid", "ipc", "uts", "mnt", "net"}) {
    const std::string ours = std::filesystem::read_symlink("/proc/self/ns/" + std::string(name));
    EXPECT_THAT(out, HasSubstr(std::string(name) + ":["));
    EXPECT_THAT(out, Not(HasSubstr(ours)));
  }
  EXPECT_THAT(out, HasSubstr("CapPrm:\t0000000000000000"));
  EXPECT_THAT(out, HasSubstr("CapEff:\t0000000000000000"));
  EXPECT_THAT(out, HasSubstr("NoNewPrivs:\t0"));
}

TEST_F(ContainerTest, HasItsOwnProcDevRunAndLoopback) {
  const std::string out = output_of(
      "ls /proc | grep -c '^[1-9]'; cat /proc/self/mountinfo; find /run; cat /proc/net/dev;"
      "echo x > /dev/null && echo null works; ls -l /dev/ptmx /dev/fd /dev/stdin /dev/stdout "
      "/dev/stderr;"
      "stat -c '%a %u %t:%T %n' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty "
      "/dev/shm /run;"
      "cat /sys/class/net/lo/flags; touch /sys/x; true");
  EXPECT_THAT(out, HasSubstr("lo:"));
  EXPECT_THAT(out, HasSubstr("null works"));
  EXPECT_THAT(out, HasSubstr("/dev/ptmx -> pts/ptmx"));
  EXPECT_THAT(out, HasSubstr("/dev/stderr -> /proc/self/fd/2"));
  EXPECT_THAT(out, HasSubstr("666 0 1:3 /dev/null"));
  EXPECT_THAT(out, HasSubstr("666 0 5:0 /dev/tty"));
  EXPECT_THAT(out, HasSubstr("1777 0 0:0 /dev/shm"));
  EXPECT_THAT(out, HasSubstr("755 0 0:0 /run"));
  EXPECT_THAT(out, HasSubstr("/run\n/run/stillpoint\n/run/stillpoint/supervisor.sock\n"));
  EXPECT_THAT(out, HasSubstr("0x9\n")) << "lo is not up";
  EXPECT_THAT(out, HasSubstr("Read-only file system"));
  EXPECT_THAT(out, Not(HasSubstr("cgroup")));
  EXPECT_THAT(out, Not(HasSubstr("devtmpfs")));
}

TEST_F(ContainerTest, HasNothingOpenButNullAndTheSocket) {
  const std::string out =
      output_of(spec("(cd /proc/1/fd; echo *; readlink 0 1 2 3; readlink /proc/1/cwd; grep -E "
                     "'Sig(Ign|Blk)' /proc/1/status;"
                     "cut -d' ' -f 6,7 /proc/1/stat) > $HERE/out; true"));
  EXPECT_THAT(out, testing::StartsWith("0 1 2 3\n/dev/null\n/dev/null\n/dev/null\nsocket:["));
  EXPECT_THAT(out, HasSubstr("]\n/\n"));
  EXPECT_THAT(out, HasSubstr("SigBlk:\t0000000000000000"));
  EXPECT_THAT(out, HasSubstr("SigIgn:\t0000000000000000"));
  EXPECT_THAT(out, HasSubstr("\n1 0\n")) << "session 1, no terminal";
}

TEST_F(ContainerTest, RealMountsAreShownWithTheirFlags) {
  // In a namespace of our own, so that nothing stays behind.
  auto child = fork_child([&] {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      return 2;
    const std::string one = directory_ + "/one two", two = one + "/inner";
    std::filesystem::create_directory(one);
    if (::mount("x", one.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "") != 0) return 3;
    std::filesystem::create_directory(two);
    if (::mount("x", two.c_str(), "tmpfs", MS_RDONLY | MS_NOEXEC, "") != 0) return 4;
    auto mounts = real_mounts();
    if (!mounts) return 5;
    auto s = spec("cat /proc/self/mountinfo > $HERE/out");
    s.mounts = *mounts;
    output_of(s);
    return testing::Test::HasFailure() ? 6 : 0;
  });
  auto exit = child->wait(Deadline::in(30s), "the child");
  ASSERT_TRUE(exit && exit->ok()) << (exit ? exit->describe() : exit.error().line());
  const std::string out = *read_file(directory_ + "/out");
  EXPECT_THAT(out, HasSubstr(directory_ + "/one\\040two rw,nosuid,nodev,"));
  EXPECT_THAT(out, HasSubstr(directory_ + "/one\\040two/inner ro,noexec,"));
}

TEST_F(ContainerTest, NamesTheMountThatCannotBeShown) {
  auto s = spec("true");
  s.mounts.push_back({.destination = "/no/such/mount", .type = "ext4", .read_only = false});
  auto container = create(s, *group_, Deadline::in(20s));
  ASSERT_FALSE(container);
  EXPECT_THAT(container.error().what(), HasSubstr("/no/such/mount"));
  s.mounts.back().destination = directory_;  // there, but no mount
  container = create(s, *group_, Deadline::in(20s));
  ASSERT_FALSE(container);
  EXPECT_THAT(container.error().what(), HasSubstr(directory_ + " is no longer a mount"));
  EXPECT_THAT(*group_->processes(), testing::IsEmpty());
}

TEST_F(ContainerTest, FollowsNoLinksToMounts) {
  auto s = spec("true");
  std::filesystem::create_directory_symlink("/proc", directory_ + "/link");
  s.mounts.push_back({.destination = directory_ + "/link", .type = "ext4", .read_only = false});
  EXPECT_FALSE(create(s, *group_, Deadline::in(20s)));
}

TEST_F(ContainerTest, SaysThatTheProgramIsMissing) {
  auto s = spec("");
  s.program = {"/no/such/program"};
  auto container = create(s, *group_, Deadline::in(20s));
  ASSERT_FALSE(container);
  EXPECT_EQ(container.error().kind(), ErrorKind::kNoSuchProgram);
  EXPECT_THAT(container.error().what(), HasSubstr("/no/such/program"));
  s.program = {"/etc/passwd"};
  container = create(s, *group_, Deadline::in(20s));
  ASSERT_FALSE(container);
  EXPECT_EQ(container.error().kind(), ErrorKind::kNotExecutable);
}

TEST_F(ContainerTest, DestroyingItEndsAllItsProcesses) {
  auto container =
      create(spec("sleep 1000 & sleep 1000 & touch $HERE/ready; wait"), *group_, Deadline::in(20s));
  ASSERT_TRUE(container) << container.error().line();
  for (const auto deadline = Deadline::in(10s);
       ::access((directory_ + "/ready").c_str(), F_OK) != 0;) {
    ASSERT_FALSE(deadline.passed());
    ::poll(nullptr, 0, 5);
  }
  EXPECT_GE(group_->processes()->size(), 3u);
  struct stat about{};
  ASSERT_EQ(::fstat(container->network.get(), &about), 0);
  EXPECT_EQ(about.st_ino, container->network_inode);
  container->init.kill();
  EXPECT_THAT(*group_->processes(), testing::IsEmpty());
}

TEST_F(ContainerTest, RootCanConnectToTheSupervisorAndItsUserCannot) {
  auto container = create(spec("exec sleep 1000"), *group_, Deadline::in(20s));
  ASSERT_TRUE(container) << container.error().line();
  auto connected = connect_supervisor(container->init.pid(), Deadline::in(10s));
  EXPECT_TRUE(connected) << connected.error().line();
  const std::string socket =
      "/proc/" + std::to_string(container->init.pid()) + "/root" + paths::kSupervisorSocket;
  struct stat about{};
  ASSERT_EQ(::stat(socket.c_str(), &about), 0);
  EXPECT_EQ(about.st_uid, 0u);
  EXPECT_EQ(about.st_mode & 07777, 0600u);
  EXPECT_EQ((std::filesystem::status(std::filesystem::path(socket).parent_path()).permissions()),
            std::filesystem::perms(0755));

  auto other = fork_child([&] {
    Identity user = spec("").user;
    if (!become(user)) return 2;
    auto refused = connect_supervisor(container->init.pid(), Deadline::in(50ms));
    return refused ? 3 : 0;
  });
  auto exit = other->wait(Deadline::in(10s), "the other");
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->status(), 0);

  const pid_t pid = container->init.pid();
  container->init.kill();
  auto late = connect_supervisor(pid, Deadline::in(10s));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind(), ErrorKind::kNotFound);
}

TEST_F(ContainerTest, NothingIsInheritedThatWasOpenOrSet) {
  const int leaked = ::open("/etc/passwd", O_RDONLY);  // on purpose without O_CLOEXEC
  ::fcntl(leaked, F_DUPFD, 60);
  ::signal(SIGUSR1, SIG_IGN);
  const std::string out = output_of("ls -l /proc/$$/fd; env; grep SigIgn /proc/$$/status");
  ::signal(SIGUSR1, SIG_DFL);
  ::close(leaked);
  ::close(60);
  EXPECT_THAT(out, Not(HasSubstr("passwd")));
  EXPECT_THAT(out, Not(HasSubstr("HOME=")));
  EXPECT_THAT(out, HasSubstr("SigIgn:\t0000000000000000"));
}

TEST(Network, ANewNamespaceHasItsLoopbackUp) {
  auto network = make_network_namespace();
  ASSERT_TRUE(network) << network.error().line();
  auto child = fork_child([&] {
    if (::setns(network->get(), CLONE_NEWNET) != 0) return 2;
    // 127.0.0.1 can be reached only while lo is up.
    const Fd server(::socket(AF_INET, SOCK_STREAM, 0)), client(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(server.get(), generic, size) != 0 || ::listen(server.get(), 1) != 0) return 3;
    if (::getsockname(server.get(), generic, &size) != 0) return 4;
    return ::connect(client.get(), generic, size) == 0 ? 0 : 5;
  });
  auto exit = child->wait(Deadline::in(10s), "the child");
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->status(), 0);
}

}  // namespace
}  // namespace stillpoint::container
