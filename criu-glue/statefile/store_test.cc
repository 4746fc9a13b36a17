#include "criu-glue/statefile/store.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "criu-glue/statefile/test_support.h"

namespace stillpoint::statefile {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

class StoreTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = Store::open(checkpoints, "ring", 0, true);
    ASSERT_TRUE(opened) << opened.error().line();
    store = *opened;
  }
  void make(uint64_t epoch) {
    ASSERT_TRUE(store.begin(epoch));
    spit(store.tentative_statefile(epoch, 0), "state");
    ASSERT_EQ(why(store.seal(epoch, 0)), "");
    ASSERT_EQ(why(store.commit(epoch, "manifest of " + std::to_string(epoch))), "");
  }
  bool exists(const std::string& name) const {
    return fs::exists(fs::symlink_status(store.directory() + "/" + name));
  }
  std::string link() const { return fs::read_symlink(store.directory() + "/latest"); }

  TempDirectory directory;
  const std::string checkpoints = directory / "a/b/checkpoints";
  Store store;
};

TEST_F(StoreTest, MakesItsDirectoryForItsUserAlone) {
  EXPECT_EQ(store.directory(), checkpoints + "/ring.0");
  struct stat st{};
  ASSERT_EQ(::stat(store.directory().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700u);
  EXPECT_TRUE(Store::open(checkpoints, "ring", 0, false));
  EXPECT_EQ(Store::open(checkpoints, "ring", 1, false).error().kind(), ErrorKind::kNotFound);
  EXPECT_EQ(Store::open(checkpoints, "../x", 0, true).error().kind(), ErrorKind::kUsage);
  EXPECT_TRUE(Store::open_existing(store.directory()));
}

TEST_F(StoreTest, ReasonsNameThePath) {
  spit(directory / "file", "");
  auto result = Store::open(directory / "file", "ring", 0, true);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().line(), HasSubstr(directory / "file"));
  fs::remove_all(store.directory());
  for (const auto& kind :
       {store.begin(1).error().kind(), store.commit(1, "x").error().kind(),
        store.latest().error().kind(), store.lock().error().kind(), store.sweep().error().kind(),
        store.abort(1).error().kind(), store.next_epoch().error().kind(),
        store.seal(1, 0).error().kind(), store.prune(1).error().kind()})
    EXPECT_EQ(kind, ErrorKind::kNotFound);
  EXPECT_TRUE(store.epochs().empty());
  EXPECT_THAT(store.begin(1).error().line(), HasSubstr(store.directory()));
}

TEST_F(StoreTest, OneHoldsTheLock) {
  auto lock = store.lock();
  ASSERT_TRUE(lock);
  auto second = store.lock();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind(), ErrorKind::kBusy);
  EXPECT_THAT(second.error().line(), HasSubstr("another run"));
  lock->reset();
  EXPECT_TRUE(store.lock());
}

TEST_F(StoreTest, EpochIsPermanentOnceCommitted) {
  EXPECT_EQ(store.next_epoch().value(), 1u);
  EXPECT_EQ(store.latest().error().kind(), ErrorKind::kNotFound);
  auto path = store.begin(1);
  ASSERT_TRUE(path);
  EXPECT_EQ(*path, store.directory() + "/1");
  EXPECT_TRUE(fs::is_empty(*path));
  EXPECT_EQ(store.next_epoch().value(), 2u);
  EXPECT_TRUE(store.epochs().empty());
  spit(store.tentative_statefile(1, 0), "state");
  ASSERT_TRUE(store.seal(1, 0));
  EXPECT_EQ(slurp(store.statefile(1, 0)), "state");
  EXPECT_FALSE(exists("1/c0.h5.tentative"));
  EXPECT_FALSE(exists("latest"));
  ASSERT_TRUE(store.commit(1, "bytes"));
  EXPECT_EQ(slurp(store.manifest(1)), "bytes");
  EXPECT_EQ(store.latest().value(), 1u);
  EXPECT_EQ(link(), "1");
  make(2);
  make(10);
  EXPECT_EQ(link(), "10");
  EXPECT_THAT(store.epochs(), ElementsAre(1, 2, 10));
  EXPECT_EQ(store.next_epoch().value(), 11u);
  EXPECT_FALSE(exists("latest.tentative"));
}

TEST_F(StoreTest, PermanentOnesAreNotBegunAbortedOrCommittedAgain) {
  make(1);
  EXPECT_FALSE(store.begin(1));
  EXPECT_FALSE(store.commit(1, "other"));
  EXPECT_TRUE(store.abort(1));
  EXPECT_EQ(slurp(store.manifest(1)), "manifest of 1");
  EXPECT_EQ(slurp(store.statefile(1, 0)), "state");
  EXPECT_FALSE(store.begin(0));
}

TEST_F(StoreTest, SealWantsAStatefile) {
  ASSERT_TRUE(store.begin(1));
  auto result = store.seal(1, 0);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kNotFound);
  EXPECT_THAT(result.error().line(), HasSubstr("c0.h5.tentative"));
}

TEST_F(StoreTest, AbortRemovesATentativeOne) {
  ASSERT_TRUE(store.begin(1));
  spit(store.tentative_statefile(1, 0), "state");
  spit(store.statefile(1, 1), "state");
  ASSERT_TRUE(store.abort(1));
  EXPECT_FALSE(exists("1"));
  EXPECT_TRUE(store.abort(1));
}

TEST_F(StoreTest, BeginEmptiesWhatADeadRunLeft) {
  ASSERT_TRUE(store.begin(1));
  spit(store.tentative_statefile(1, 0), "state");
  auto again = store.begin(1);
  ASSERT_TRUE(again);
  EXPECT_TRUE(fs::is_empty(*again));
}

TEST_F(StoreTest, SweepRemovesOnlyWhatIsTentative) {
  make(1);
  make(2);
  ASSERT_TRUE(store.begin(3));
  spit(store.tentative_statefile(3, 0), "state");
  spit(store.statefile(3, 1), "sealed");
  spit(store.directory() + "/3/manifest.h5.tentative", "half");
  ASSERT_TRUE(store.begin(4));
  spit(store.directory() + "/4/notes.txt", "the user's");
  spit(store.directory() + "/4/c0.h5.tentative", "x");
  fs::create_symlink("2", store.directory() + "/latest.tentative");
  fs::create_directory(store.directory() + "/007");
  fs::create_directory(store.directory() + "/results");
  spit(store.directory() + "/README", "the user's");
  fs::create_directory(directory / "elsewhere");
  spit(directory / "elsewhere/c0.h5", "not ours");
  fs::create_symlink(directory / "elsewhere", store.directory() + "/9");
  auto lock = store.lock();

  auto swept = store.sweep();
  ASSERT_TRUE(swept) << swept.error().line();
  EXPECT_EQ(*swept, 2u);  // epoch 3 and the link; 4 keeps the user's file
  EXPECT_FALSE(exists("3"));
  EXPECT_FALSE(exists("latest.tentative"));
  EXPECT_FALSE(exists("4/c0.h5.tentative"));
  for (const char* name : {"1/manifest.h5", "1/c0.h5", "2/manifest.h5", "latest", "lock",
                           "4/notes.txt", "007", "results", "README", "9"})
    EXPECT_TRUE(exists(name)) << name;
  EXPECT_TRUE(fs::exists(directory / "elsewhere/c0.h5"));
  EXPECT_THAT(store.epochs(), ElementsAre(1, 2));
  EXPECT_EQ(store.sweep().value(), 0u);
}

TEST_F(StoreTest, PruneKeepsTheNewest) {
  for (uint64_t epoch : {1, 2, 3, 10}) make(epoch);
  ASSERT_TRUE(store.begin(11));
  ASSERT_TRUE(store.prune(0));
  EXPECT_EQ(store.epochs().size(), 4u);
  ASSERT_TRUE(store.prune(2));
  EXPECT_THAT(store.epochs(), ElementsAre(3, 10));
  EXPECT_FALSE(exists("1"));
  EXPECT_TRUE(exists("11"));
  ASSERT_TRUE(store.prune(1));
  ASSERT_TRUE(store.prune(1));
  EXPECT_THAT(store.epochs(), ElementsAre(10));
}

// Whatever stops a prune in the middle, the epoch is not half permanent.
TEST_F(StoreTest, PruneTakesTheManifestFirst) {
  make(1);
  make(2);
  // A directory called like a statefile cannot be removed as one.
  fs::create_directory(store.directory() + "/1/c1.h5");
  spit(store.directory() + "/1/c1.h5/x", "");
  (void)store.prune(1);
  EXPECT_FALSE(exists("1/manifest.h5"));
  EXPECT_THAT(store.epochs(), ElementsAre(2));
}

TEST_F(StoreTest, CommitReplacesTheDraftOfADeadRun) {
  ASSERT_TRUE(store.begin(1));
  spit(directory / "victim", "precious");
  fs::create_symlink(directory / "victim", store.manifest(1) + ".tentative");
  ASSERT_EQ(why(store.commit(1, "bytes")), "");
  EXPECT_EQ(slurp(directory / "victim"), "precious");
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(store.manifest(1))));
}

TEST_F(StoreTest, ALinkThatCannotMoveDoesNotFailTheCheckpoint) {
  fs::create_directory(store.directory() + "/latest");
  spit(store.directory() + "/latest/x", "");
  make(1);
  EXPECT_EQ(store.latest().value(), 1u);
  EXPECT_FALSE(exists("latest.tentative"));
}

TEST_F(StoreTest, ReadOnlyIsSaid) {
  make(1);
  ASSERT_EQ(::chmod(store.directory().c_str(), 0500), 0);
  if (::geteuid() == 0) {  // root may; a user may not
    ASSERT_EQ(::seteuid(12345), 0);
    EXPECT_EQ(store.begin(2).error().kind(), ErrorKind::kPermission);
    ASSERT_EQ(::seteuid(0), 0);
  } else {
    EXPECT_EQ(store.begin(2).error().kind(), ErrorKind::kPermission);
  }
  ::chmod(store.directory().c_str(), 0700);
}

}  // namespace
}  // namespace stillpoint::statefile
