// File systems without room.  A child mounts a small one for itself; where it may not, a limit on
// the size of files stands in for it.
#include <gmock/gmock.h>
#include <hdf5.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "common/process.h"
#include "criu-glue/statefile/store.h"
#include "criu-glue/statefile/test_support.h"

namespace stillpoint::statefile {
namespace {

using namespace test;

enum class Way { kFileSystem, kLimit };

// A mount namespace of this process's own; an ordinary user needs to be root of a user namespace
// for it.
bool enter_namespace() {
  if (::unshare(CLONE_NEWNS) == 0) return true;
  const std::string uid = std::to_string(::geteuid()), gid = std::to_string(::getegid());
  return ::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
         write_file("/proc/self/setgroups", "deny") &&
         write_file("/proc/self/uid_map", uid + " " + uid + " 1") &&
         write_file("/proc/self/gid_map", gid + " " + gid + " 1");
}

// Returns the kind of error that writing more than `bytes` below `directory` gives from now on.
ErrorKind make_full(Way way, const std::string& directory, size_t bytes) {
  const std::string options = "mode=0777,size=" + std::to_string(bytes);
  if (way == Way::kFileSystem && enter_namespace() &&
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
      ::mount("tmpfs", directory.c_str(), "tmpfs", 0, options.c_str()) == 0)
    return ErrorKind::kNoSpace;
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{bytes, bytes};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  return ErrorKind::kIo;
}

// Runs the body in a child whose standard error is a file; what it wrote there is a failure.
void in_child(const std::function<bool()>& body) {
  Fd said = memory_file();
  auto child = fork_child([&] {
    ::dup2(said.get(), STDERR_FILENO);
    return body() ? 0 : 1;
  });
  ASSERT_TRUE(child);
  auto exit = child->wait(Deadline::in(std::chrono::seconds(60)), "the child");
  ASSERT_TRUE(exit) << exit.error().line();
  EXPECT_EQ(content_of(said.get()), "");
  EXPECT_TRUE(exit->ok()) << exit->describe();
}

bool expect(bool good, const std::string& what) {
  if (!good) ::dprintf(STDERR_FILENO, "not as expected: %s\n", what.c_str());
  return good;
}

// Wherever the room ends: in the chunks, or only when HDF5 writes its own structures at the end.
class FullDisk : public testing::TestWithParam<Way> {};
INSTANTIATE_TEST_SUITE_P(Ways, FullDisk, testing::Values(Way::kFileSystem, Way::kLimit));

TEST_P(FullDisk, PackFailsCleanly) {
  TempDirectory directory;
  for (size_t room : {4096u, 16384u, 1u << 20, 4u << 20, (4u << 20) + 8192u})
    in_child([&] {
      Packed p;
      p.add("pages-1.img", random_bytes(4 << 20, 1));
      for (int i = 0; i < 40; ++i)
        p.add("core-" + std::to_string(i) + ".img", random_bytes(500, 2));
      const ErrorKind expected = make_full(GetParam(), directory.path(), room);
      const std::string path = directory / "c0.h5";
      auto result = p.pack_to(path);
      bool good = expect(!result, "it was packed");
      if (!result) {
        good = expect(result.error().kind() == expected, result.error().line()) && good;
        good =
            expect(result.error().what().find(path) != std::string::npos, result.error().line()) &&
            good;
      }
      good = expect(!std::filesystem::exists(path), "the statefile is still there") && good;
      good = expect(H5close() >= 0, "HDF5 did not let go") && good;
      return good;
    });
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

TEST_P(FullDisk, CommitFailsCleanly) {
  TempDirectory directory;
  in_child([&] {
    const ErrorKind expected = make_full(GetParam(), directory.path(), 65536);
    auto store = Store::open(directory.path(), "job", 0, true);
    if (!expect(store && store->begin(1) && store->commit(1, "small") && store->begin(2),
                "no store"))
      return false;
    auto result = store->commit(2, std::string(200000, 'x'));
    bool good = expect(!result && result.error().kind() == expected,
                       result ? "committed" : result.error().line());
    good = expect(store->epochs() == std::vector<uint64_t>{1}, "another epoch") && good;
    good = expect(store->abort(2).has_value(), "abort failed") && good;
    good = expect(!std::filesystem::exists(store->directory() + "/2"), "epoch 2 is still there") &&
           good;
    return good;
  });
}

}  // namespace
}  // namespace stillpoint::statefile
