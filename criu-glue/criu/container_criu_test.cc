// Makes containers, dumps and restores them for real.
#include "criu-glue/criu/container_criu_fixture.h"

namespace stillpoint::criu {
namespace {

class EachUser : public ContainerCriuTest, public testing::WithParamInterface<uid_t> {
 protected:
  uid_t user() const override { return GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Users, EachUser, testing::Values(0, 4242));

TEST_P(EachUser, IsDumpedAndGoesOnAndIsRestoredTwice) {
  ASSERT_NO_FATAL_FAILURE(start_subject());
  auto dumped = dump(1);
  ASSERT_TRUE(dumped) << dumped.error().line();
  EXPECT_TRUE(goes_on()) << wrong();
  dumped = dump(2);
  ASSERT_TRUE(dumped) << dumped.error().line();
  EXPECT_TRUE(goes_on()) << wrong();
  for (int time = 0; time < 2; time++) {
    ASSERT_NO_FATAL_FAILURE(kill_container());
    const uint64_t killed_at = count();
    uint64_t resumed_at = 0;
    auto restored = restore(2, [&](pid_t pid) -> Result<> {
      EXPECT_EQ(::kill(pid, 0), 0);
      return {};
    });
    ASSERT_TRUE(restored) << restored.error().line();
    ASSERT_TRUE(await([&] { return (resumed_at = count()) != killed_at; }));
    EXPECT_GE(resumed_at, counted_);
    EXPECT_TRUE(goes_on()) << wrong();
  }
  dumped = dump(3);  // the restored one
  ASSERT_TRUE(dumped) << dumped.error().line();
  EXPECT_TRUE(goes_on()) << wrong();
  ASSERT_NO_FATAL_FAILURE(kill_container());
  auto restored = restore(3);
  ASSERT_TRUE(restored) << restored.error().line();
  EXPECT_TRUE(goes_on()) << wrong();
}

TEST_P(EachUser, TheHookCanEndTheRestore) {
  ASSERT_NO_FATAL_FAILURE(start_subject());
  ASSERT_TRUE(dump(1));
  ASSERT_NO_FATAL_FAILURE(kill_container());
  roll_back();
  const uint64_t before = count();
  auto restored =
      restore(1, [](pid_t) -> Result<> { return fail(ErrorKind::kBusy, "changed my mind"); });
  ASSERT_FALSE(restored);
  EXPECT_THAT(restored.error().what(), HasSubstr("changed my mind"));
  EXPECT_TRUE(await([&] { return group_->processes()->empty(); }));
  EXPECT_EQ(count(), before);
}

class AsRoot : public ContainerCriuTest {
 protected:
  uid_t user() const override { return 0; }
  // A process that holds one thing of this kind.
  void start_holding(const std::string& kind) {
    auto container = start({SUBJECT, "hold", kind, directory_});
    ASSERT_TRUE(container) << container.error().line();
    container_.emplace(std::move(*container));
    ASSERT_TRUE(await(
        [&] { return fs::exists(directory_ + "/ready") || fs::exists(directory_ + "/wrong"); }));
    ASSERT_FALSE(fs::exists(directory_ + "/wrong")) << wrong();
  }
};

TEST_F(AsRoot, ADumpIsCalledOffAtItsDeadline) {
  ASSERT_NO_FATAL_FAILURE(start_subject(64));
  for (int ms : {30, 60, 90}) {
    auto frozen = FreezeGuard::freeze(*group_, Deadline::in(10s));
    auto request = dump_request(1);
    request.deadline = Deadline::in(std::chrono::milliseconds(ms));
    auto dumped = make_criu()->dump(request);
    if (!dumped) {
      EXPECT_EQ(dumped.error().kind(), ErrorKind::kTimeout) << dumped.error().line();
      // Without room for its files CRIU gives up, or crashes, by where it stands.
      EXPECT_THAT(dumped.error().what(), testing::AnyOf(HasSubstr("the processes are as before"),
                                                        HasSubstr("go on unharmed")));
    }
    EXPECT_TRUE(is_frozen());
    ASSERT_TRUE(frozen->thaw());
    EXPECT_TRUE(goes_on()) << wrong();
  }
  auto dumped = dump(1);
  ASSERT_TRUE(dumped) << dumped.error().line();
  EXPECT_TRUE(goes_on()) << wrong();
}

TEST_F(AsRoot, TheCallersDeathDoesNotHarmTheJob) {
  ASSERT_NO_FATAL_FAILURE(start_subject(64));
  auto frozen = FreezeGuard::freeze(*group_, Deadline::in(10s));
  const auto request = dump_request(1);
  auto worker = Worker::start("dump", nullptr, [&](Progress&) -> Result<std::string> {
    auto dumped = make_criu()->dump(request);
    return dumped ? Result<std::string>("") : fail(dumped.error());
  });
  ASSERT_TRUE(worker);
  // CRIU thaws the group when it holds all threads itself: that is the middle of a dump.
  ASSERT_TRUE(await([&] { return !is_frozen(); }));
  worker->kill();
  auto ended = await_dump_end(request.images, Deadline::in(20s));
  ASSERT_TRUE(ended) << ended.error().line();
  EXPECT_TRUE(is_frozen()) << "CRIU undoes what it did";
  ASSERT_TRUE(frozen->thaw());
  EXPECT_TRUE(goes_on()) << wrong();
  auto dumped = dump(2);
  ASSERT_TRUE(dumped) << dumped.error().line();
  EXPECT_TRUE(goes_on()) << wrong();
}

std::vector<pid_t> children_of(pid_t pid) {
  const std::string process = std::to_string(pid);
  std::istringstream numbers(
      read_file("/proc/" + process + "/task/" + process + "/children").value_or(""));
  return {std::istream_iterator<pid_t>(numbers), {}};
}

uint64_t pages_in(const std::string& images) {
  uint64_t size = 0;
  for (const auto& entry : fs::directory_iterator(images))
    if (entry.path().filename().string().starts_with("pages-")) size += entry.file_size();
  return size;
}

TEST_F(AsRoot, TheJobOutlivesCriusDeath) {
  ASSERT_NO_FATAL_FAILURE(start_subject(400));
  auto frozen = FreezeGuard::freeze(*group_, Deadline::in(10s));
  const auto request = dump_request(1);
  auto worker = Worker::start("dump", nullptr, [&](Progress&) -> Result<std::string> {
    auto dumped = make_criu()->dump(request);
    return dumped ? Result<std::string>("") : fail(dumped.error());
  });
  ASSERT_TRUE(worker);
  // The pages of the first process come after its sockets and before its threads: a long moment, to
  // be survived.
  ASSERT_TRUE(await([&] { return pages_in(request.images) > (4 << 20); }));
  for (const pid_t driver : children_of(worker->pid()))
    for (const pid_t child : children_of(driver))
      if (read_file("/proc/" + std::to_string(child) + "/comm").value_or("") == "criu\n")
        ::kill(child, SIGKILL);
  auto dumped = worker->finish(Deadline::in(20s));
  ASSERT_FALSE(dumped);
  EXPECT_THAT(dumped.error().line(),
              testing::AllOf(HasSubstr("CRIU was killed or crashed"), HasSubstr("go on unharmed")));
  EXPECT_TRUE(
      await([&] { return is_frozen(); }));  // a moment, where the freezer takes over from CRIU
  ASSERT_TRUE(frozen->thaw());
  EXPECT_TRUE(goes_on()) << wrong();
  auto again = dump(2);
  ASSERT_TRUE(again) << again.error().line();
  EXPECT_TRUE(goes_on()) << wrong();
  ASSERT_NO_FATAL_FAILURE(kill_container());
  auto restored = restore(2);
  ASSERT_TRUE(restored) << restored.error().line();
  EXPECT_TRUE(goes_on()) << wrong();
}

TEST_F(AsRoot, AFullStagingDirectoryDoesNotHarmTheJob) {
  ASSERT_NO_FATAL_FAILURE(start_subject(64));
  // The test's own namespace keeps its mounts; this one ends with the child.
  auto child = fork_child([&] {
    const std::string small = images(1);
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      return 2;
    if (::mount("small", small.c_str(), "tmpfs", 0, "size=20m") != 0) return 3;
    auto dumped = dump(1);
    if (dumped) return 4;
    EXPECT_EQ(dumped.error().kind(), ErrorKind::kNoSpace) << dumped.error().line();
    return HasFailure() ? 5 : 0;
  });
  auto exit = child->wait(Deadline::in(60s), "the dump");
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->status(), 0);
  EXPECT_TRUE(goes_on()) << wrong();
  auto dumped = dump(2);
  ASSERT_TRUE(dumped) << dumped.error().line();
}

TEST_F(AsRoot, OneDumpAtATimeIntoADirectory) {
  ASSERT_NO_FATAL_FAILURE(start_subject());
  const Fd other(::open(images(1).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  auto dumped = dump(1);
  ASSERT_FALSE(dumped);
  EXPECT_EQ(dumped.error().kind(), ErrorKind::kBusy);
  auto ended = await_dump_end(images(1), Deadline::in(20ms));
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind(), ErrorKind::kTimeout);
}

TEST_F(AsRoot, CriuThatIsMissingOrTooOldIsUnfit) {
  auto missing = make_criu("/no/such/criu")->version();
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind(), ErrorKind::kUnfit);
  EXPECT_THAT(missing.error().line(), HasSubstr("install CRIU 4.0"));
  auto version = make_criu()->version();
  ASSERT_TRUE(version) << version.error().line();
  EXPECT_GE(*version, (Version{4, 0, 0}));
}

// What the processes hold, what the survey says of it, and CRIU.
struct Trouble {
  const char* kind;
  const char* obstacle;
  const char* error;
  ErrorKind error_kind;
};
class Troubles : public AsRoot, public testing::WithParamInterface<Trouble> {};
INSTANTIATE_TEST_SUITE_P(
    Kinds, Troubles,
    testing::Values(Trouble{"io_uring", "process 1 (criu_test_subje) uses io_uring", "io_uring",
                            ErrorKind::kUnfit},
                    Trouble{"vsock", "socket of address family 40", "socket", ErrorKind::kUnfit},
                    Trouble{"userfaultfd", "uses userfaultfd", "userfaultfd", ErrorKind::kUnfit},
                    Trouble{"perf", "has performance counters open", "perf_event",
                            ErrorKind::kUnfit},
                    Trouble{"device", "has the device /tmp/", "device", ErrorKind::kUnfit},
                    Trouble{"link", "lives on under another name", "another", ErrorKind::kUnfit},
                    Trouble{"connecting", "", "next checkpoint", ErrorKind::kBusy}),
    [](const auto& about) { return std::string(about.param.kind); });

TEST_P(Troubles, AreNamedBySurveyAndDump) {
  const Trouble& trouble = testing::WithParamInterface<Trouble>::GetParam();
  ASSERT_NO_FATAL_FAILURE(start_holding(trouble.kind));
  auto frozen = FreezeGuard::freeze(*group_, Deadline::in(10s));
  auto looked = survey(container_->init.pid(), *group_->processes());
  ASSERT_TRUE(looked) << looked.error().line();
  if (*trouble.obstacle) {
    EXPECT_THAT(looked->obstacles, testing::Contains(HasSubstr(trouble.obstacle)));
  }
  auto dumped = make_criu()->dump(dump_request(1));
  ASSERT_FALSE(dumped);
  EXPECT_THAT(dumped.error().line(), HasSubstr(trouble.error));
  EXPECT_EQ(dumped.error().kind(), trouble.error_kind) << dumped.error().line();
  EXPECT_TRUE(is_frozen());
}

TEST_F(AsRoot, TheSurveyListsFilesAndMemory) {
  ASSERT_NO_FATAL_FAILURE(start_subject(64));
  ASSERT_TRUE(group_->freeze(Deadline::in(10s)));
  auto looked = survey(container_->init.pid(), *group_->processes());
  ASSERT_TRUE(looked) << looked.error().line();
  std::map<std::string, statefile::FileRecord> files;
  for (const auto& file : looked->files) files[file.path] = file;
  EXPECT_EQ(files.size(), looked->files.size());
  EXPECT_TRUE(files[directory_ + "/count"].writable);
  EXPECT_EQ(files[directory_ + "/count"].size, 21u);
  EXPECT_TRUE(files.contains(SUBJECT));
  EXPECT_FALSE(files[SUBJECT].writable);
  EXPECT_EQ(files[SUBJECT].size, fs::file_size(SUBJECT));
  for (const auto& [path, file] : files) EXPECT_THAT(path, testing::Not(HasSubstr("scratch")));
  EXPECT_GT(looked->memory, 64u << 20);
  EXPECT_LT(looked->memory, 140u << 20);
}

TEST_F(AsRoot, ARestoreSaysWhatHasChanged) {
  ASSERT_NO_FATAL_FAILURE(start_holding("file"));
  ASSERT_TRUE(dump(1));
  ASSERT_NO_FATAL_FAILURE(kill_container());
  const std::string file = directory_ + "/file";
  files_.clear();  // not rolled back
  fs::resize_file(file, 5);
  auto restored = restore(1);
  ASSERT_FALSE(restored);
  EXPECT_EQ(restored.error().kind(), ErrorKind::kDamaged);
  EXPECT_THAT(restored.error().line(),
              testing::AllOf(HasSubstr(file.substr(1)), HasSubstr("bad size")));
  fs::remove(file);
  restored = restore(1);
  ASSERT_FALSE(restored);
  EXPECT_EQ(restored.error().kind(), ErrorKind::kNotFound) << restored.error().line();
  EXPECT_THAT(restored.error().line(), HasSubstr(file.substr(1)));
  EXPECT_TRUE(await([&] { return group_->processes()->empty(); }));
  ::close(::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  restored = restore(1);
  EXPECT_TRUE(restored) << restored.error().line();
}

}  // namespace
}  // namespace stillpoint::criu

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  return RUN_ALL_TESTS();
}
