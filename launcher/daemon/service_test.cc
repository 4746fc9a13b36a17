#include "launcher/daemon/service.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "common/log.h"
#include "common/process.h"

namespace stillpoint::daemon {
namespace {

using namespace std::chrono_literals;

std::string temporary(const char* name) {
  return "/tmp/stillpoint-service-" + std::to_string(::getpid()) + "-" + name;
}

TEST(Notify, ReachesSystemdUnderBothKindsOfNames) {
  for (const std::string& name : {temporary("notify"), "@" + temporary("abstract")}) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name[0] == '@') address.sun_path[0] = '\0';
    const Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                     static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())),
              0);
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
    notify("READY=1");
    ::unsetenv("NOTIFY_SOCKET");
    char got[64] = {};
    EXPECT_EQ(::recv(fd.get(), got, sizeof got, MSG_DONTWAIT), 7) << name;
    EXPECT_STREQ(got, "READY=1");
    ::unlink(name.c_str());
  }
  notify("READY=1");  // nobody wants to know
}

TEST(Journal, IsOursOnlyIfStandardErrorIs) {
  struct stat facts{};
  ASSERT_EQ(::fstat(STDERR_FILENO, &facts), 0);
  const std::string stream = std::to_string(facts.st_dev) + ":" + std::to_string(facts.st_ino);
  ::unsetenv("JOURNAL_STREAM");
  EXPECT_FALSE(logs_to_journal());
  ::setenv("JOURNAL_STREAM", stream.c_str(), 1);
  EXPECT_TRUE(logs_to_journal());
  ::setenv("JOURNAL_STREAM", "1:2", 1);
  EXPECT_FALSE(logs_to_journal());
  ::unsetenv("JOURNAL_STREAM");
}

TEST(Journal, LinesBeginWithTheirPriority) {
  ::testing::internal::CaptureStderr();
  log::set_name("stillpointd");
  log::info("plain");
  log::set_priorities(true);
  log::set_level(log::Level::kDebug);
  log::debug("a");
  log::info("b\n<0>c");
  log::warning("d");
  log::error("e");
  log::set_priorities(false);
  log::set_level(log::Level::kInfo);
  log::debug("not told");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "stillpointd: plain\n<7>a\n<6>b <0>c\n<4>warning: d\n<3>error: e\n");
}

TEST(HoldAlone, OneProcessAtATimeAndNotItsChildren) {
  const std::string path = temporary("lock");
  auto pipe = make_pipe();
  auto holder = fork_child([&] {
    const auto lock = hold_alone(path);
    auto heir = fork_child([] { return ::pause(); });  // as a job that lives on
    const pid_t pid = heir->release();
    (void)write_all(pipe->write.get(),
                    std::string(reinterpret_cast<const char*>(&pid), sizeof pid));
    return lock ? ::pause() : 1;
  });
  pid_t heir = 0;
  ASSERT_EQ(::read(pipe->read.get(), &heir, sizeof heir), static_cast<ssize_t>(sizeof heir));
  const auto refused = hold_alone(path);
  const pid_t holding = holder->pid();
  holder->kill();
  const auto lock = hold_alone(path);
  const std::string noted = read_file(path).value_or("");
  ::kill(heir, SIGKILL);
  ::unlink(path.c_str());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind(), ErrorKind::kBusy);
  EXPECT_NE(refused.error().what().find("as process " + std::to_string(holding)), std::string::npos)
      << refused.error().line();
  EXPECT_TRUE(lock) << lock.error().line();
  EXPECT_EQ(noted, std::to_string(::getpid()) + "\n");
}

TEST(InBackground, ReturnsWhenReadyOrWithTheStatus) {
  const auto failed = in_background([](const auto&) { return 71; });
  ASSERT_TRUE(failed);
  EXPECT_EQ(*failed, 71);
  const auto silent = in_background([](const auto&) { return 0; });  // ended, but never served
  ASSERT_TRUE(silent);
  EXPECT_NE(*silent, 0);
  auto pipe = make_pipe();
  const auto served = in_background([&](const auto& ready) {
    ready();
    const pid_t ids[] = {::getpid(), ::getsid(0)};
    (void)write_all(pipe->write.get(), std::string(reinterpret_cast<const char*>(ids), sizeof ids));
    return ::pause();
  });
  ASSERT_TRUE(served);
  EXPECT_EQ(*served, 0);
  pid_t ids[2] = {};
  ASSERT_EQ(::read(pipe->read.get(), ids, sizeof ids), static_cast<ssize_t>(sizeof ids));
  EXPECT_EQ(ids[0], ids[1]);
  EXPECT_NE(ids[1], ::getsid(0));
  ::kill(ids[0], SIGKILL);
  ::waitpid(ids[0], nullptr, 0);
}

}  // namespace
}  // namespace stillpoint::daemon
