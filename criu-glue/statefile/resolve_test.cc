#include <gmock/gmock.h>

#include "criu-glue/statefile/store.h"
#include "criu-glue/statefile/test_support.h"

namespace stillpoint::statefile {
namespace {

using namespace test;
using testing::AllOf;
using testing::HasSubstr;
namespace fs = std::filesystem;

class Resolve : public testing::Test {
 protected:
  void SetUp() override {
    before = fs::current_path();
    fs::current_path(directory.path());
    base = fs::canonical(directory.path()).string() + "/stillpoint-checkpoints";
    make("ring", 0, 1);
    make("ring", 0, 2);
    make("ring", 2, 5);
    make("ring", 10, 7);
    make("ring.big", 0, 4);
    ASSERT_TRUE(Store::open(base, "ring", 11, true));  // no checkpoint in it
    auto half = Store::open(base, "half", 0, true);
    ASSERT_TRUE(half && half->begin(1));
  }
  void TearDown() override { fs::current_path(before); }

  void make(const std::string& job, uint32_t step, uint64_t epoch) {
    auto store = Store::open(base, job, step, true);
    ASSERT_TRUE(store && store->begin(epoch) && store->commit(epoch, "x"));
  }
  void expect(const std::string& named, const std::string& job, uint64_t epoch) {
    auto place = resolve_checkpoint(named, base);
    ASSERT_TRUE(place) << named << ": " << place.error().line();
    EXPECT_EQ(place->job_directory, base + "/" + job) << named;
    EXPECT_EQ(place->epoch, epoch) << named;
  }
  Error error(const std::string& named) {
    auto place = resolve_checkpoint(named, base);
    EXPECT_FALSE(place) << named;
    return place ? Error(ErrorKind::kInternal, "") : place.error();
  }

  TempDirectory directory;
  fs::path before;
  std::string base;
};

TEST_F(Resolve, PathsOfAllKinds) {
  expect(base + "/ring.0/1/manifest.h5", "ring.0", 1);
  expect("stillpoint-checkpoints/ring.0/1/manifest.h5", "ring.0", 1);
  expect(base + "/ring.0/1", "ring.0", 1);
  expect(base + "/ring.0/1/", "ring.0", 1);
  expect("stillpoint-checkpoints/ring.0/latest", "ring.0", 2);
  expect(base + "/ring.0", "ring.0", 2);
  expect("./stillpoint-checkpoints/ring.0/", "ring.0", 2);
  fs::current_path(base + "/ring.0/1");
  expect(".", "ring.0", 1);
  expect("manifest.h5", "ring.0", 1);
  expect("..", "ring.0", 2);
}

TEST_F(Resolve, NamesOfJobs) {
  expect("ring", "ring.10", 7);  // 10 is above 2, and 11 has none
  expect("ring.0", "ring.0", 2);
  expect("ring.big", "ring.big.0", 4);
  spit(directory / "ring", "the program itself");
  expect("ring", "ring.10", 7);
}

TEST_F(Resolve, RelativeDirectoryOfCheckpoints) {
  auto place = resolve_checkpoint("ring", "stillpoint-checkpoints");
  ASSERT_TRUE(place) << place.error().line();
  EXPECT_EQ(place->job_directory, base + "/ring.10");
}

TEST_F(Resolve, SaysWhatWasLookedForWhere) {
  const Error unknown = error("nothing");
  EXPECT_EQ(unknown.kind(), ErrorKind::kNotFound);
  EXPECT_THAT(unknown.line(), AllOf(HasSubstr("'nothing'"), HasSubstr(base + "/nothing.<step>")));
  EXPECT_THAT(error("no/such/path").line(), HasSubstr("no/such/path"));
  EXPECT_THAT(error(base + "/half.0").line(), HasSubstr("no checkpoint in " + base + "/half.0"));
  EXPECT_THAT(error(base + "/half.0/1").line(), HasSubstr("has no manifest.h5"));
  EXPECT_EQ(error("half").kind(), ErrorKind::kNotFound);
  spit(directory / "file", "");
  EXPECT_THAT(error("./file").line(), HasSubstr("is not a checkpoint"));
  fs::rename(base + "/ring.0/1", base + "/ring.0/copy");
  EXPECT_EQ(error(base + "/ring.0/copy").kind(), ErrorKind::kUsage);
  EXPECT_EQ(error("").kind(), ErrorKind::kNotFound);
  EXPECT_THAT(resolve_checkpoint("ring", "/no/such").error().line(),
              HasSubstr("/no/such/ring.<step>"));
}

}  // namespace
}  // namespace stillpoint::statefile
