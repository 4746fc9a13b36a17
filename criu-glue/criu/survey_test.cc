// What needs no container: this very process.  The rest is in container_criu_test.
#include "criu-glue/criu/survey.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/fd.h"
#include "common/process.h"

namespace stillpoint::criu {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

class SurveyTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/stillpoint-survey-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  Fd file(const std::string& name, int flags, off_t size) {
    Fd fd(::open((directory_ + "/" + name).c_str(), flags | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_EQ(::truncate((directory_ + "/" + name).c_str(), size), 0);
    return fd;
  }
  const statefile::FileRecord* find(const Survey& survey, const std::string& name) const {
    for (const auto& f : survey.files)
      if (f.path == directory_ + "/" + name) return &f;
    return nullptr;
  }
  static Survey survey_self() {
    auto looked = survey(::getpid(), {::getpid()});
    EXPECT_TRUE(looked) << (looked ? "" : looked.error().line());
    return looked ? *looked : Survey{};
  }
  std::string directory_;
};

TEST_F(SurveyTest, TellsWhatIsOpenForWritingAndHowLargeItIs) {
  const Fd reading = file("r", O_RDONLY, 10), writing = file("w", O_WRONLY, 20),
           both = file("b", O_RDWR, 30);
  const Fd twice = file("r", O_RDWR | O_APPEND, 10);
  const Survey s = survey_self();
  ASSERT_TRUE(find(s, "r") && find(s, "w") && find(s, "b"));
  EXPECT_TRUE(find(s, "r")->writable) << "one of its two descriptors is";
  EXPECT_TRUE(find(s, "w")->writable);
  EXPECT_EQ(find(s, "w")->size, 20u);
  EXPECT_EQ(find(s, "b")->size, 30u);
  EXPECT_TRUE(std::is_sorted(s.files.begin(), s.files.end(),
                             [](auto& a, auto& b) { return a.path < b.path; }));
}

TEST_F(SurveyTest, FindsMappedFilesWhoseDescriptorsAreClosed) {
  for (const auto& [name, flags] :
       {std::pair("shared", MAP_SHARED), std::pair("private", MAP_PRIVATE)}) {
    const Fd fd = file(name, O_RDWR, 4096);
    ASSERT_NE(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, flags, fd.get(), 0), MAP_FAILED);
  }
  const Survey s = survey_self();
  ASSERT_TRUE(find(s, "shared") && find(s, "private"));
  EXPECT_TRUE(find(s, "shared")->writable);
  EXPECT_FALSE(find(s, "private")->writable);
}

TEST_F(SurveyTest, LeavesOutDeletedFilesButNotThoseWithAnotherName) {
  const Fd gone = file("gone", O_RDWR, 1), moved = file("moved", O_RDWR, 1);
  std::filesystem::create_hard_link(directory_ + "/moved", directory_ + "/other");
  std::filesystem::remove(directory_ + "/gone");
  std::filesystem::remove(directory_ + "/moved");
  const Survey s = survey_self();
  for (const auto& f : s.files) EXPECT_THAT(f.path, Not(HasSubstr("gone")));
  EXPECT_THAT(
      s.obstacles,
      Contains(HasSubstr(directory_ + "/moved (deleted), which lives on under another name")));
}

TEST_F(SurveyTest, CountsSharedMemoryOnce) {
  constexpr size_t kSize = 192 << 20;  // more than a process of its own, sanitized or not
  void* memory = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  std::fill_n(static_cast<char*>(memory), kSize, 'x');
  auto pipe = make_pipe();
  auto child = fork_child([&] {
    pipe->write.reset();
    char end;
    return static_cast<int>(::read(pipe->read.get(), &end, 1));
  });
  auto one = survey(::getpid(), {::getpid()}), two = survey(::getpid(), {::getpid(), child->pid()});
  pipe->write.reset();
  ASSERT_TRUE(one && two);
  EXPECT_GE(one->memory, kSize);
  EXPECT_LT(two->memory, one->memory + kSize / 2);
  ::munmap(memory, kSize);
}

TEST_F(SurveyTest, AProcessThatIsGoneIsNoError) {
  EXPECT_FALSE(survey(INT_MAX, {}));
  EXPECT_TRUE(survey(::getpid(), {INT_MAX}));
}

}  // namespace
}  // namespace stillpoint::criu
