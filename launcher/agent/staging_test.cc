// Runs as root, as the agent does.
#include "launcher/agent/staging.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace stillpoint::agent {
namespace {

namespace fs = std::filesystem;

class StagingTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "run as root";
    char name[] = "/dev/shm/staging-test.XXXXXX";
    base_ = ::mkdtemp(name);
  }
  void TearDown() override { fs::remove_all(base_); }
  std::string base_;
};

TEST_F(StagingTest, IsClosedAndRemovesItself) {
  {
    auto staging = Staging::create(base_, "job");
    ASSERT_TRUE(staging) << staging.error().line();
    auto directory = staging->make_directory("1");
    ASSERT_TRUE(directory);
    struct stat s{};
    ASSERT_EQ(::stat(directory->c_str(), &s), 0);
    EXPECT_EQ(s.st_mode & 0777, 0700u);
    std::ofstream(*directory + "/x.img") << "x";
    EXPECT_GT(staging->free_bytes(), 0u);
  }
  EXPECT_FALSE(fs::exists(base_ + "/job"));
  EXPECT_TRUE(fs::exists(base_));  // the user's own stays
}

TEST_F(StagingTest, RefusesWhatOthersCouldChange) {
  ASSERT_EQ(::chmod(base_.c_str(), 0777), 0);
  EXPECT_EQ(Staging::create(base_, "job").error().kind(), ErrorKind::kPermission);
  ASSERT_EQ(::chmod(base_.c_str(), 01777), 0);  // sticky is good enough
  EXPECT_TRUE(Staging::create(base_, "job"));
  ASSERT_EQ(::chown(base_.c_str(), 4242, 4242), 0);
  EXPECT_EQ(Staging::create(base_, "job").error().kind(), ErrorKind::kPermission);
  ASSERT_EQ(::chown(base_.c_str(), 0, 0), 0);
  fs::create_directory(base_ + "/real");
  fs::create_symlink(base_ + "/real", base_ + "/link");
  EXPECT_FALSE(Staging::create(base_ + "/link", "job"));
  EXPECT_EQ(Staging::create("/no/such/place", "job").error().kind(), ErrorKind::kNotFound);
}

TEST_F(StagingTest, ARemovedDirectoryIsGoneAtOnceAndItsRoomBeforeTheNext) {
  auto staging = Staging::create(base_, "job");
  auto first = staging->make_directory("1");
  ASSERT_TRUE(first);
  const uint64_t before = staging->free_bytes();
  std::ofstream(*first + "/pages.img") << std::string(64 << 20, 'x');
  EXPECT_LE(staging->free_bytes(), before - (64 << 20));
  staging->remove_directory("1");
  EXPECT_FALSE(fs::exists(*first));
  ASSERT_TRUE(staging->make_directory("1"));
  EXPECT_EQ(std::distance(fs::directory_iterator(base_ + "/job"), {}), 1);
  staging->remove_directory("no such");
}

TEST_F(StagingTest, OpensImagesAndNothingElse) {
  auto staging = Staging::create(base_, "job");
  auto directory = staging->make_directory("1");
  EXPECT_FALSE(open_images(*directory));  // empty: the dump went wrong
  std::ofstream(*directory + "/b.img") << "12345";
  std::ofstream(*directory + "/a.img") << "123";
  std::ofstream(*directory + "/dump.log") << "noise";
  auto images = open_images(*directory);
  ASSERT_TRUE(images);
  ASSERT_EQ(images->images.size(), 2u);
  EXPECT_EQ(images->images[0].name, "a.img");
  EXPECT_EQ(images->bytes, 8u);
}

}  // namespace
}  // namespace stillpoint::agent
