#include "launcher/agent/rollback.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace stillpoint::agent {
namespace {

namespace fs = std::filesystem;
using statefile::FileRecord;

class Rollback : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/rollback-test.XXXXXX";
    directory_ = ::mkdtemp(name);
  }
  void TearDown() override { fs::remove_all(directory_); }
  std::string make(const std::string& name, const std::string& content) {
    const std::string path = directory_ + "/" + name;
    std::ofstream(path) << content;
    return path;
  }
  static std::string content(const std::string& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::string directory_;
};

TEST_F(Rollback, CutsWhatWasOpenForWritingAndNothingElse) {
  const std::string written = make("written", "0123456789"), read = make("read", "abcdef");
  const std::vector<FileRecord> files = {{written, 4, true}, {read, 6, false}};
  ASSERT_TRUE(check_files(files));
  ASSERT_TRUE(roll_back_files(files));
  EXPECT_EQ(content(written), "0123");
  EXPECT_EQ(content(read), "abcdef");
}

TEST_F(Rollback, CheckChangesNothing) {
  const std::string written = make("written", "0123456789");
  ASSERT_TRUE(check_files({{written, 4, true}}));
  EXPECT_EQ(content(written), "0123456789");
}

TEST_F(Rollback, NamesWhatIsGoneOrShorterOrChanged) {
  const std::string file = make("file", "0123");
  for (const FileRecord& bad :
       {FileRecord{directory_ + "/gone", 1, true}, FileRecord{file, 5, true},
        FileRecord{file, 5, false}, FileRecord{file, 3, false}}) {
    const auto r = check_files({bad});
    ASSERT_FALSE(r) << bad.path << " " << bad.size;
    EXPECT_EQ(r.error().kind(), ErrorKind::kDamaged);
    EXPECT_NE(r.error().what().find(bad.path), std::string::npos);
  }
}

TEST_F(Rollback, FollowsNoSymbolicLink) {
  const std::string target = make("target", "0123456789"), link = directory_ + "/link";
  fs::create_symlink(target, link);
  EXPECT_FALSE(roll_back_files({{link, 4, true}}));
  EXPECT_EQ(content(target), "0123456789");
}

}  // namespace
}  // namespace stillpoint::agent
