// A container with a test's program in it, and what it takes to dump and restore it as the agent
// does. Needs root and CRIU.
#pragma once

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
#include <iterator>
#include <map>
#include <optional>
#include <sstream>

#include "common/worker.h"
#include "criu-glue/container/container.h"
#include "criu-glue/criu/criu.h"
#include "criu-glue/criu/survey.h"

namespace stillpoint::criu {

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

inline size_t mounts_here() {
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
    Identity user{.uid = this->user(),
                  .gid = this->user(),
                  .groups = {this->user()},
                  .name = "u",
                  .home = "/",
                  .shell = ""};
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
    struct stat about{};
    if (::fstat(network->get(), &about) != 0) return fail_errno("fstat");
    container_.emplace(Container{std::move(*init), std::move(*network), about.st_ino});
    return {};
  }

  Result<pid_t> restore_in_new_root(int number, int network,
                                    const std::function<Result<>(pid_t)>& hook) {
    if (auto r = group_->join(); !r) return fail(r.error());
    const std::string root = images_ + "/root";
    fs::create_directories(root);
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("/", root.c_str(), nullptr, MS_BIND, nullptr) != 0)
      return fail_errno("making the root of a restore");
    ::mount(nullptr, root.c_str(), nullptr, MS_PRIVATE, nullptr);
    auto pid = make_criu()->restore({.images = images(number),
                                     .root = root,
                                     .network = network,
                                     .network_key = kNetworkKey,
                                     .mounts = externals(),
                                     .before_resume = hook});
    if (pid && getppid_of(*pid) != ::getpid())
      return fail(ErrorKind::kInternal, "it is not the caller's child");
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

}  // namespace stillpoint::criu
