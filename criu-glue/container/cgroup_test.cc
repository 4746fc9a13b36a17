// Needs root and a freezer.
#include "criu-glue/container/cgroup.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <sstream>

#include "common/fd.h"
#include "common/process.h"

namespace stillpoint::container {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class CgroupTest : public testing::Test {
 protected:
  void SetUp() override {
    auto group = Cgroup::create(name_);
    ASSERT_TRUE(group) << group.error().line();
    group_ = *group;
  }
  void TearDown() override {
    if (group_) {
      EXPECT_TRUE(group_->destroy(Deadline::in(10s)));
    }
  }
  // A child in the group that adds one to the counter for ever.
  Child counting_child() {
    auto child = fork_child([&] {
      if (!group_->join()) return 1;
      for (;;) __atomic_add_fetch(counter_, 1, __ATOMIC_RELAXED);
    });
    EXPECT_TRUE(child);
    await_counting();
    return child ? std::move(*child) : Child();
  }
  uint64_t count() const { return __atomic_load_n(counter_, __ATOMIC_RELAXED); }
  bool await_counting() const {
    const uint64_t before = count();
    for (const auto deadline = Deadline::in(10s); !deadline.passed(); ::poll(nullptr, 0, 1))
      if (count() != before) return true;
    return false;
  }

  std::string name_ = "stillpoint-cgroup-test-" + std::to_string(::getpid());
  std::optional<Cgroup> group_;
  uint64_t* counter_ = static_cast<uint64_t*>(
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
};

TEST_F(CgroupTest, FreezesAndThaws) {
  Child child = counting_child();
  EXPECT_THAT(*group_->processes(), ElementsAre(child.pid()));
  auto frozen = group_->freeze(Deadline::in(10s));
  ASSERT_TRUE(frozen) << frozen.error().line();
  const uint64_t before = count();
  ::poll(nullptr, 0, 20);
  EXPECT_EQ(count(), before);
  ASSERT_TRUE(group_->thaw());
  EXPECT_TRUE(await_counting());
}

TEST_F(CgroupTest, TheGuardThaws) {
  Child child = counting_child();
  {
    auto guard = FreezeGuard::freeze(*group_, Deadline::in(10s));
    ASSERT_TRUE(guard) << guard.error().line();
    FreezeGuard moved(std::move(*guard));
    EXPECT_FALSE(read_file("/proc/" + std::to_string(child.pid()) + "/stat")->empty());
  }
  EXPECT_TRUE(await_counting());
}

TEST_F(CgroupTest, DestroyEndsFrozenProcessesAndMayBeRepeated) {
  Child child = counting_child();
  ASSERT_TRUE(group_->freeze(Deadline::in(10s)));
  auto gone = group_->destroy(Deadline::in(10s));
  ASSERT_TRUE(gone) << gone.error().line();
  auto exit = child.wait(Deadline::in(10s), "the child");
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->signal, SIGKILL);
  EXPECT_NE(::access(group_->path().c_str(), F_OK), 0);
  EXPECT_TRUE(group_->destroy(Deadline::in(10s)));
}

TEST_F(CgroupTest, AnEmptyOneIsTakenOverAndABusyOneIsNot) {
  ASSERT_TRUE(group_->freeze(Deadline::in(10s)));  // as a crash may have left it
  ASSERT_TRUE(Cgroup::create(name_));
  Child child = counting_child();  // so it was thawed
  auto second = Cgroup::create(name_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind(), ErrorKind::kBusy);
}

TEST_F(CgroupTest, ExpelsWhoIsNotInTheContainer) {
  auto maker = fork_child([&] {  // as who makes a container from inside of its cgroup
    if (!group_->join() || ::unshare(CLONE_NEWPID) != 0) return 1;
    auto init = fork_child([] { return ::pause(); });
    return init ? ::pause() : 1;
  });
  ASSERT_TRUE(maker);
  std::vector<pid_t> inside;
  for (const auto deadline = Deadline::in(10s); inside.size() < 2 && !deadline.passed();
       ::poll(nullptr, 0, 1))
    inside = *group_->processes();
  std::erase(inside, maker->pid());
  ASSERT_EQ(inside.size(), 1u);
  const pid_t init = inside[0];
  auto expelled = group_->expel_others(init);
  ASSERT_TRUE(expelled) << expelled.error().line();
  EXPECT_THAT(*group_->processes(), ElementsAre(init));
  EXPECT_TRUE(group_->expel_others(init));
  auto above = Cgroup::at(group_->path().substr(0, group_->path().rfind('/')));
  ASSERT_TRUE(above);
  EXPECT_THAT(*above->processes(), testing::Contains(maker->pid()));
  maker->kill();
  ASSERT_TRUE(group_->destroy(Deadline::in(10s)));
  auto gone = group_->expel_others(init);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().kind(), ErrorKind::kNotFound);
}

// A process that waits inside the kernel for a page that never comes cannot be frozen.
int stuck_in_the_kernel(const Cgroup& group, int ready) {
  const size_t size = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  char* page = static_cast<char*>(
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  const int fault = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC));
  struct uffdio_api api{};
  api.api = UFFD_API;
  struct uffdio_register range{};
  range.range = {.start = reinterpret_cast<uintptr_t>(page), .len = size};
  range.mode = UFFDIO_REGISTER_MODE_MISSING;
  auto pipe = make_pipe();
  if (fault < 0 || !pipe || ::ioctl(fault, UFFDIO_API, &api) ||
      ::ioctl(fault, UFFDIO_REGISTER, &range))
    return 1;
  if (!group.join() || !write_all(ready, ".")) return 1;
  return ::write(pipe->write.get(), page, 1) == 1 ? 0 : 1;
}

TEST_F(CgroupTest, SaysWhatDidNotFreeze) {
  auto ready = make_pipe();
  auto child = fork_child([&] { return stuck_in_the_kernel(*group_, ready->write.get()); });
  ASSERT_TRUE(child);
  ready->write.reset();
  char dot;
  ASSERT_EQ(::read(ready->read.get(), &dot, 1), 1);
  Result<> frozen;
  for (const auto deadline = Deadline::in(10s);
       frozen && !deadline.passed();) {  // until it is in its write
    ASSERT_TRUE(group_->thaw());
    ::poll(nullptr, 0, 10);
    frozen = group_->freeze(Deadline::in(200ms));
  }
  ASSERT_FALSE(frozen);
  EXPECT_EQ(frozen.error().kind(), ErrorKind::kTimeout);
  EXPECT_THAT(frozen.error().what(), HasSubstr(std::to_string(child->pid())));
}

// 0 if all went well with the v1 freezer alone, else the step that failed.
int use_v1_only() {
  if (::unshare(CLONE_NEWNS) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return 2;
  const std::string mountinfo = *read_file("/proc/self/mountinfo");
  std::istringstream lines(mountinfo);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string field, point;
    for (int i = 0; i < 5; i++) fields >> point;
    if (line.find(" - cgroup2 ") != line.npos && ::umount2(point.c_str(), MNT_DETACH) != 0)
      return 3;
  }
  auto group = Cgroup::create("stillpoint-v1-test-" + std::to_string(::getpid()));
  if (!group) return group.error().kind() == ErrorKind::kUnfit ? 77 : 4;
  auto child = fork_child([&] { return group->join() ? ::pause() : 1; });
  for (const auto deadline = Deadline::in(10s); group->processes()->empty(); ::poll(nullptr, 0, 1))
    if (deadline.passed()) return 5;
  const std::string state = group->path() + "/freezer.state";
  if (!group->freeze(Deadline::in(10s)) || *read_file(state) != "FROZEN\n") return 6;
  if (!group->thaw() || *read_file(state) != "THAWED\n") return 7;
  if (!group->freeze(Deadline::in(10s)) || !group->destroy(Deadline::in(10s))) return 8;
  auto exit = child->wait(Deadline::in(10s), "the child");
  return exit && exit->signal == SIGKILL && ::access(state.c_str(), F_OK) != 0 ? 0 : 9;
}

TEST(Cgroup, WorksWithTheV1FreezerAlone) {
  auto child = fork_child(use_v1_only);
  ASSERT_TRUE(child);
  auto exit = child->wait(Deadline::in(30s), "the child");
  ASSERT_TRUE(exit);
  // 77: this machine has no v1 freezer, and the library said so.
  EXPECT_THAT(exit->status(), testing::AnyOf(0, 77));
}

TEST(Cgroup, RefusesNamesThatLeaveTheGroup) {
  for (const char* bad : {"", ".", "..", "a/b", ".hidden"})
    EXPECT_FALSE(Cgroup::create(bad)) << bad;
}

}  // namespace
}  // namespace stillpoint::container
