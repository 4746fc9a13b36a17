// Needs root and CRIU: makes containers, dumps and restores them for real.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>

#include "common/worker.h"
#include "criu-glue/container/container.h"
#include "criu-glue/criu/criu.h"
#include "criu-glue/criu/survey.h"

namespace stillpoint::criu {
namespace {

using namespace std::chrono_literals;
using container::Cgroup;
using container::Container;
using container::FreezeGuard;
using testing::HasSubstr;
namespace fs = std::filesystem;

constexpr const char* kNetworkKey = "stillpoint-net";

// Waits until the condition holds.
template <typename Condition>
bool await(Condition condition, std::chrono::seconds limit = 20s) {
  for (const auto deadline = Deadline::in(limit); !condition(); ::poll(nullptr, 0, 5))
    if (deadline.passed()) return false;
  return true;
}

size_t mounts_here() {
  const std::string mountinfo = *read_file("/proc/self/mountinfo");
  return static_cast<size_t>(std::count(mountinfo.begin(), mountinfo.end(), '\n'));
}

class ContainerCriuTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "this test needs root";
    mounts_before_ = mounts_here();
    directory_ = make_directory("/tmp/stillpoint-criu-test-XXXXXX");
    images_ = make_directory("/dev/shm/stillpoint-criu-test-XXXXXX");
    ASSERT_EQ(::chown(directory_.c_str(), user(), user()), 0);
    auto group = Cgroup::create(name_);
    ASSERT_TRUE(group) << group.error().line();
    group_ = *group;
    auto mounts = container::real_mounts();
    ASSERT_TRUE(mounts) << mounts.error().line();
    mounts_ = *mounts;
  }

  void TearDown() override {
    container_.reset();
    if (group_) {
      auto gone = group_->destroy(Deadline::in(10s));
      EXPECT_TRUE(gone) << gone.error().line();
    }
    if (HasFailure()) {
      std::cout << "kept: " << directory_ << " " << images_ << "\n";
      return;
    }
    fs::remove_all(directory_);
    fs::remove_all(images_);
    EXPECT_EQ(mounts_here(), mounts_before_);
    EXPECT_FALSE(group_ && fs::exists(group_->path()));
  }

  virtual uid_t user() const = 0;
  static std::string make_directory(std::string name) { return ::mkdtemp(name.data()); }

  std::string images(int number) {
    const std::string path = images_ + "/" + std::to_string(number);
    fs::create_directories(path);
    return path;
  }

  Result<Container> start(std::vector<std::string> program) {
    Identity user{.uid = this->user(), .gid = this->user(), .groups = {this->user()}, .name = "u", .home = "/", .shell = ""};
    return container::create({.user = user,
                              .hostname = "inside",
                              .mounts = mounts_,
                              .program = std::move(program),
                              .env = {"PATH=/usr/bin:/bin"}},
                             *group_, Deadline::in(20s));
  }
  void start_subject(int megabytes = 4) {
    auto container = start({SUBJECT, directory_, std::to_string(megabytes)});
    ASSERT_TRUE(container) << container.error().line();
    container_.emplace(std::move(*container));
    ASSERT_TRUE(goes_on()) << "the subject does not count";
  }

  uint64_t count() const {
    const auto text = read_file(directory_ + "/count");
    return text && text->size() == 21 ? std::stoull(*text) : 0;
  }
  bool goes_on(uint64_t rounds = 20) const {
    const uint64_t before = count();
    return await([&] { return count() > before + rounds || fs::exists(directory_ + "/wrong"); }) &&
           !fs::exists(directory_ + "/wrong");
  }
  std::string wrong() const { return read_file(directory_ + "/wrong").value_or(""); }

  std::vector<ExternalMount> externals() const {
    std::vector<ExternalMount> all;
    for (const auto& mount : mounts_) all.push_back({mount.destination});
    return all;
  }
  DumpRequest dump_request(int number) {
    return {.init = container_->init.pid(),
            .images = images(number),
            .freeze_cgroup = group_->path(),
            .network_inode = container_->network_inode,
            .network_key = kNetworkKey,
            .mounts = externals()};
  }
  // Freezes, dumps, notes the sizes of files that are open for writing, thaws.
  Result<> dump(int number) {
    auto frozen = FreezeGuard::freeze(*group_, Deadline::in(10s));
    if (!frozen) return fail(frozen.error());
    auto looked = survey(container_->init.pid(), *group_->processes());
    if (!looked) return fail(looked.error());
    EXPECT_THAT(looked->obstacles, testing::IsEmpty());
    files_ = looked->files;
    counted_ = count();
    auto dumped = make_criu()->dump(dump_request(number));
    if (!dumped) return dumped;
    EXPECT_TRUE(is_frozen());
    return frozen->thaw();
  }
  bool is_frozen() const {
    auto events = read_file(group_->path() + "/cgroup.events");
    return !events || events->find("frozen 1") != events->npos;
  }

  void kill_container() {
    container_->init.kill();
    container_.reset();
    ASSERT_TRUE(await([&] { return group_->processes()->empty(); }));
    fs::remove(directory_ + "/wrong");  // those that end last may see the ends of the others
  }
  void roll_back() {
    for (const auto& file : files_)
      if (file.writable) fs::resize_file(file.path, file.size);
  }

  // Restores in a child, as the agent does; the restored container goes to us, the subreaper.
  Result<> restore(int number, std::function<Result<>(pid_t)> hook = {}) {
    roll_back();
    auto network = container::make_network_namespace();
    if (!network) return fail(network.error());
    auto worker = Worker::start("restore", nullptr, [&](Progress&) -> Result<std::string> {
      auto pid = restore_in_new_root(number, network->get(), hook);
      if (!pid) return fail(pid.error());
      return std::to_string(*pid);
    });
    if (!worker) return fail(worker.error());
    auto done = worker->finish(Deadline::in(60s));
    if (!done) return fail(done.error());
    auto init = Child::adopt(std::stoi(*done));
    if (!init) return fail(init.error());
    struct stat about {};
    if (::fstat(network->get(), &about) != 0) return fail_errno("fstat");
    container_.emplace(Container{std::move(*init), std::move(*network), about.st_ino});
    return {};
  }

  Result<pid_t> restore_in_new_root(int number, int network, const std::function<Result<>(pid_t)>& hook) {
    if (auto r = group_->join(); !r) return fail(r.error());
    const std::string root = images_ + "/root";
    fs::create_directories(root);
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("/", root.c_str(), nullptr, MS_BIND, nullptr) != 0)
      return fail_errno("making the root of a restore");
    ::mount(nullptr, root.c_str(), nullptr, MS_PRIVATE, nullptr);
    auto pid = make_criu()->restore({.images = images(number),
                                     .root = root,
                                     .network = network,
                                     .network_key = kNetworkKey,
                                     .mounts = externals(),
                                     .before_resume = hook});
    if (pid && getppid_of(*pid) != ::getpid()) return fail(ErrorKind::kInternal, "it is not the caller's child");
    return pid;
  }

  static pid_t getppid_of(pid_t pid) {
    std::istringstream status(read_file("/proc/" + std::to_string(pid) + "/status").value_or(""));
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("PPid:")) return std::stoi(line.substr(5));
    return 0;
  }

  const std::string name_ = "stillpoint-criu-test-" + std::to_string(::getpid());
  size_t mounts_before_ = 0;
  std::string directory_, images_;
  std::vector<container::Mount> mounts_;
  std::vector<statefile::FileRecord> files_;
  uint64_t counted_ = 0;
  std::optional<Cgroup> group_;
  std::optional<Container> container_;
};

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
  auto restored = restore(1, [](pid_t) -> Result<> { return fail(ErrorKind::kBusy, "changed my mind"); });
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
    ASSERT_TRUE(await([&] { return fs::exists(directory_ + "/ready") || fs::exists(directory_ + "/wrong"); }));
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
      EXPECT_THAT(dumped.error().what(), HasSubstr("the processes are as before"));
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

TEST_F(AsRoot, AFullStagingDirectoryDoesNotHarmTheJob) {
  ASSERT_NO_FATAL_FAILURE(start_subject(64));
  // The test's own namespace keeps its mounts; this one ends with the child.
  auto child = fork_child([&] {
    const std::string small = images(1);
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 2;
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
                    Trouble{"perf", "has performance counters open", "perf_event", ErrorKind::kUnfit},
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
  EXPECT_THAT(restored.error().line(), testing::AllOf(HasSubstr(file.substr(1)), HasSubstr("bad size")));
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
