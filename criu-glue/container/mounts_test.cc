#include "criu-glue/container/mounts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace stillpoint::container {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> destinations(std::string_view mountinfo) {
  auto mounts = real_mounts_from(mountinfo);
  EXPECT_TRUE(mounts) << (mounts ? "" : mounts.error().line());
  std::vector<std::string> all;
  if (mounts)
    for (const Mount& m : *mounts) all.push_back(m.destination);
  return all;
}

const std::string kRoot = "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n";

TEST(Mounts, LeavesOutPseudoAndPrivateOnes) {
  EXPECT_THAT(destinations(kRoot + R"(21 20 0:21 / /proc rw - proc proc rw
22 20 0:22 / /sys rw - sysfs sysfs rw
23 22 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
24 20 0:6 / /dev rw - devtmpfs udev rw
25 24 0:23 / /dev/shm rw - tmpfs tmpfs rw
26 20 0:24 / /run rw - tmpfs tmpfs rw
27 26 0:25 / /run/user/1000 rw - tmpfs tmpfs rw
28 20 0:26 / /var/lib/nfs/rpc_pipefs rw - rpc_pipefs sunrpc rw
29 20 8:2 / /home rw,nosuid shared:2 master:3 - ext4 /dev/sda2 rw
30 20 0:40 / /tmp rw - tmpfs tmpfs rw
31 20 0:41 / /running rw - xfs /dev/sdb rw
)"),
              ElementsAre("/home", "/running", "/tmp"));
}

TEST(Mounts, TellsTypeAndReadOnly) {
  auto mounts =
      real_mounts_from(kRoot +
                       "21 20 0:50 /export /data ro,relatime - nfs4 server:/export rw\n"
                       "22 20 7:0 / /image rw,relatime - squashfs /dev/loop0 ro\n"
                       "23 20 7:1 / /scratch rw,errors=remount-ro - ext4 /dev/loop1 rw\n");
  ASSERT_TRUE(mounts);
  ASSERT_EQ(mounts->size(), 3u);
  EXPECT_EQ((*mounts)[0].type, "nfs4");
  EXPECT_TRUE((*mounts)[0].read_only);
  EXPECT_TRUE((*mounts)[1].read_only);
  EXPECT_FALSE((*mounts)[2].read_only);
}

TEST(Mounts, LeavesOutWhatIsHidden) {
  // /a/b lies on the first mount of /a, which the second one covers; /c is covered at the same
  // place.
  EXPECT_THAT(destinations(kRoot + "21 20 0:50 / /a rw - ext4 first rw\n"
                                   "22 21 0:51 / /a/b rw - ext4 below rw\n"
                                   "23 21 0:52 / /a rw - ext4 second rw\n"
                                   "24 20 0:53 / /c rw - xfs first rw\n"
                                   "25 24 0:54 / /c rw - btrfs second rw\n"
                                   "26 25 0:55 / /c/d rw - ext4 seen rw\n"),
              ElementsAre("/a", "/c", "/c/d"));
  auto mounts = real_mounts_from(
      kRoot + "24 20 0:53 / /c rw - xfs first rw\n25 24 0:54 / /c rw - btrfs x rw\n");
  ASSERT_TRUE(mounts);
  EXPECT_EQ(mounts->front().type, "btrfs");
}

TEST(Mounts, LeavesOutWhatAPseudoMountHides) {
  EXPECT_THAT(destinations(kRoot + "21 20 0:50 / /a/b rw - ext4 below rw\n"
                                   "22 20 0:51 / /a rw - cgroup2 above rw\n"),
              IsEmpty());
}

TEST(Mounts, LeavesOutWhatACoveredRootHides) {
  EXPECT_THAT(destinations(kRoot + "21 20 0:50 / /old rw - ext4 below rw\n"
                                   "22 20 0:51 / / rw - overlay above rw\n"
                                   "23 22 0:52 / /new rw - ext4 seen rw\n"),
              ElementsAre("/new"));
}

TEST(Mounts, ParentsComeFirstWhateverTheOrder) {
  EXPECT_THAT(
      destinations(kRoot + "22 21 0:51 / /a/b/c rw - ext4 x rw\n21 20 0:50 / /a rw - ext4 y rw\n"),
      ElementsAre("/a", "/a/b/c"));
}

TEST(Mounts, UndoesEscapes) {
  EXPECT_THAT(destinations(kRoot + "21 20 0:50 / /with\\040space\\134and\\011tab rw - ext4 x rw\n"),
              ElementsAre("/with space\\and\ttab"));
  EXPECT_THAT(destinations(kRoot + "21 20 0:50 / /end\\04 rw - ext4 x rw\n"),
              ElementsAre("/end\\04"));
}

TEST(Mounts, AnAutomountersTriggerOnlyUnderAMount) {
  EXPECT_THAT(destinations(kRoot + "21 20 0:50 / /home rw - autofs auto.home rw\n"
                                   "22 21 0:51 / /home/ada rw - nfs4 s:/ada rw\n"
                                   "23 20 0:52 / /net rw - autofs -hosts rw\n"),
              ElementsAre("/home", "/home/ada"));
}

TEST(Mounts, UsersFuseMountsStayTheirs) {
  EXPECT_THAT(
      destinations(kRoot +
                   "21 20 0:50 / /cvmfs rw - fuse cvmfs2 rw,user_id=0,group_id=0\n"
                   "22 20 0:51 / /home/ada/x rw - fuse.sshfs h: rw,user_id=1000,group_id=9\n"),
      ElementsAre("/cvmfs"));
}

TEST(Mounts, RefusesDamage) {
  for (const char* bad :
       {"nonsense", "21 20 0:50 / /a rw - ext4\n", "x 20 0:50 / /a rw - ext4 d rw\n",
        "21 20 0:50 / a rw - ext4 d rw\n", "21 20 0:50 / /a rw ext4 d rw more fields\n"}) {
    auto mounts = real_mounts_from(kRoot + bad);
    ASSERT_FALSE(mounts) << bad;
    EXPECT_EQ(mounts.error().kind(), ErrorKind::kDamaged);
  }
  auto rootless = real_mounts_from("21 20 0:50 / /a rw - ext4 x rw\n");
  ASSERT_FALSE(rootless);
  EXPECT_EQ(rootless.error().kind(), ErrorKind::kUnfit);
}

TEST(Mounts, ReadsThisProcesssOwn) {
  EXPECT_TRUE(real_mounts());
}

}  // namespace
}  // namespace stillpoint::container
