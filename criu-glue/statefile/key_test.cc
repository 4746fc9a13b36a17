#include <gmock/gmock.h>
#include <sys/stat.h>

#include <thread>

#include "criu-glue/statefile/manifest.h"
#include "criu-glue/statefile/test_support.h"

namespace stillpoint::statefile {
namespace {

using namespace test;
using testing::HasSubstr;

TEST(Key, IsMadeOnceAndReadAgain) {
  TempDirectory directory;
  const std::string path = directory / "etc/key";
  EXPECT_EQ(load_signing_key(path, false).error().kind(), ErrorKind::kNotFound);
  auto key = load_signing_key(path, true);
  ASSERT_TRUE(key) << key.error().line();
  EXPECT_NE(key->bytes, SigningKey{}.bytes);
  struct stat st{};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0400u);
  EXPECT_EQ(st.st_size, 32);
  EXPECT_EQ(load_signing_key(path, true)->bytes, key->bytes);
  EXPECT_EQ(load_signing_key(path, false)->bytes, key->bytes);
  size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory / "etc"))
    ++entries;
  EXPECT_EQ(entries, 1u);
}

TEST(Key, OpenToOthersIsRefused) {
  TempDirectory directory;
  const std::string path = directory / "key";
  spit(path, std::string(32, 'k'));
  for (mode_t mode : {0440u, 0404u, 0620u, 0602u}) {
    ::chmod(path.c_str(), mode);
    auto key = load_signing_key(path, true);
    ASSERT_FALSE(key) << mode;
    EXPECT_EQ(key.error().kind(), ErrorKind::kPermission);
    EXPECT_THAT(key.error().line(), HasSubstr(path));
  }
  ::chmod(path.c_str(), 0600);
  EXPECT_TRUE(load_signing_key(path, false));
}

TEST(Key, OfAnotherSizeIsRefused) {
  TempDirectory directory;
  const std::string path = directory / "key";
  for (size_t size : {0u, 31u, 33u}) {
    spit(path, std::string(size, 'k'));
    ::chmod(path.c_str(), 0400);
    EXPECT_EQ(load_signing_key(path, true).error().kind(), ErrorKind::kDamaged);
    std::filesystem::remove(path);
  }
  std::filesystem::create_directory(path);
  EXPECT_FALSE(load_signing_key(path, true));
}

TEST(Key, ALinkIsRefused) {
  TempDirectory directory;
  spit(directory / "real", std::string(32, 'k'));
  ::chmod((directory / "real").c_str(), 0400);
  std::filesystem::create_symlink("real", directory / "key");
  EXPECT_FALSE(load_signing_key(directory / "key", true));
}

TEST(Key, OfSomebodyElseIsRefused) {
  TempDirectory directory;
  const std::string path = directory / "key";
  spit(path, std::string(32, 'k'));
  ::chmod(path.c_str(), 0400);
  const auto kind = [&] { return load_signing_key(path, true).error().kind(); };
  if (::geteuid() != 0) {  // one of root's then
    EXPECT_EQ(load_signing_key("/etc/shadow", false).error().kind(), ErrorKind::kPermission);
    return;
  }
  ASSERT_EQ(::chown(path.c_str(), 12345, 12345), 0);
  EXPECT_EQ(kind(), ErrorKind::kPermission);
}

}  // namespace
}  // namespace stillpoint::statefile
