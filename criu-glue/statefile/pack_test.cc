#include "criu-glue/statefile/pack.h"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <zstd.h>

#include <atomic>

#include "common/process.h"
#include "criu-glue/statefile/digest.h"
#include "criu-glue/statefile/hdf5.h"
#include "criu-glue/statefile/test_support.h"

namespace stillpoint::statefile {
namespace {

using namespace test;
using testing::AllOf;
using testing::HasSubstr;

constexpr size_t kChunk = names::kChunk;

// Every size where something changes, and every kind of content.
Packed many_kinds() {
  Packed p;
  p.add("empty.img", "");
  p.add("one.img", "x");
  p.add("small.img", random_bytes(777, 1));
  p.add("almost.img", random_bytes(kChunk - 1, 2));
  p.add("chunk.img", random_bytes(kChunk, 3));
  p.add("more.img", random_bytes(kChunk + 1, 4));
  p.add("empty-2.img", "");
  p.add("zero-small.img", std::string(5, '\0'));
  p.add("zero.img", std::string(3 * kChunk + 5, '\0'));
  std::string sparse(5 * kChunk + 99, '\0');
  sparse[2 * kChunk + 7] = 'x';
  sparse.back() = 'y';
  p.add("sparse.img", std::move(sparse));
  std::string text;
  while (text.size() < 2 * kChunk) text += "line " + std::to_string(text.size()) + "\n";
  p.add("text.img", std::move(text));
  p.add("empty-3.img", "");
  return p;
}

TEST(Pack, WhatIsPackedIsUnpacked) {
  TempDirectory directory;
  Packed p = many_kinds();
  const std::string path = directory / "c0.h5";
  ASSERT_EQ(why(p.pack_to(path)), "");
  EXPECT_EQ(p.record.statefile_size, std::filesystem::file_size(path));
  EXPECT_EQ(p.record.hostname, "node0");
  ASSERT_EQ(p.record.images.size(), p.images.size());
  ASSERT_EQ(why(verify(path, p.record, {})), "");

  Unpacked out(p.images.size());
  ASSERT_EQ(why(unpack(path, p.record, out.numbers, {})), "");
  for (size_t i = 0; i < p.contents.size(); ++i) {
    EXPECT_EQ(p.record.images[i].name, p.images[i].name);
    EXPECT_EQ(p.record.images[i].size, p.contents[i].size());
    EXPECT_TRUE(content_of(out.numbers[i]) == p.contents[i]) << p.images[i].name;
  }
  EXPECT_EQ(why(check_images(p.record, out.numbers)), "");
}

TEST(Pack, NumberOfThreadsAndLevelChangeNoDigest) {
  TempDirectory directory;
  Packed one = many_kinds(), many = many_kinds();
  ASSERT_EQ(why(one.pack_to(directory / "1.h5", {.level = 1, .threads = 1})), "");
  ASSERT_EQ(why(many.pack_to(directory / "2.h5", {.level = 9, .threads = 64})), "");
  for (size_t i = 0; i < one.images.size(); ++i)
    EXPECT_EQ(one.record.images[i].digest, many.record.images[i].digest);
  EXPECT_NE(many.record.statefile_size, one.record.statefile_size);  // the level did something
}

TEST(Pack, NoImagesAtAll) {
  TempDirectory directory;
  Packed p;
  ASSERT_EQ(why(p.pack_to(directory / "c0.h5")), "");
  EXPECT_EQ(why(verify(directory / "c0.h5", p.record, {})), "");
}

TEST(Pack, DigestIsAsSpecified) {
  TempDirectory directory;
  Packed p;
  const std::string content = random_bytes(kChunk + 10, 5);
  p.add("a.img", content);
  ASSERT_EQ(why(p.pack_to(directory / "c0.h5")), "");
  const auto hash = [](std::string_view bytes) {
    return digest_of(std::as_bytes(std::span(bytes)));
  };
  std::string text("\x0a\x00\x10\x00\x00\x00\x00\x00", 8);  // 1 MiB + 10
  for (const Digest& d : {hash(std::string_view(content).substr(0, kChunk)),
                          hash(std::string_view(content).substr(kChunk))})
    text.append(reinterpret_cast<const char*>(d.data()), d.size());
  EXPECT_EQ(to_hex(p.record.images[0].digest), to_hex(hash(text)));
  EXPECT_EQ(to_hex(p.record.statefile_digest), to_hex(hash(slurp(directory / "c0.h5"))));
}

TEST(Pack, ReportsEveryByteOnce) {
  TempDirectory directory;
  Packed p = many_kinds();
  uint64_t all = 0;
  for (const auto& image : p.images) all += image.size;
  std::atomic<uint64_t> bytes = 0;
  const OnBytes count = [&](uint64_t n) { bytes += n; };
  const std::string path = directory / "c0.h5";
  ASSERT_TRUE(pack(path, sample_manifest(), p.record, p.images, {}, count));
  EXPECT_EQ(bytes.exchange(0), all);
  ASSERT_TRUE(verify(path, p.record, count));
  EXPECT_EQ(bytes.exchange(0), all);
  Unpacked out(p.images.size());
  ASSERT_TRUE(unpack(path, p.record, out.numbers, count));
  EXPECT_EQ(bytes, all);
}

TEST(Pack, IsPrivateAndReplacesNothing) {
  TempDirectory directory;
  const std::string path = directory / "c0.h5";
  Packed p;
  p.add("a.img", "abc");
  ASSERT_TRUE(p.pack_to(path));
  EXPECT_EQ(std::filesystem::status(path).permissions() & std::filesystem::perms::mask,
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  const std::string before = slurp(path);
  auto again = p.pack_to(path);
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().what(), HasSubstr(path));
  EXPECT_EQ(slurp(path), before);
}

TEST(Pack, ZerosTakeNoSpace) {
  TempDirectory directory;
  Packed p;
  p.add("zero.img", std::string(64 * kChunk, '\0'));
  ASSERT_TRUE(p.pack_to(directory / "c0.h5"));
  EXPECT_LT(p.record.statefile_size, 16384u);
}

TEST(Pack, BadInputIsRefused) {
  TempDirectory directory;
  const std::string path = directory / "c0.h5";
  Packed twice;
  twice.add("a.img", "1");
  twice.add("a.img", "2");
  EXPECT_FALSE(twice.pack_to(path));
  Packed slash;
  slash.add("../a.img", "1");
  EXPECT_FALSE(slash.pack_to(path));
  Packed good;
  good.add("a.img", "1");
  EXPECT_EQ(good.pack_to(path, {.level = 0}).error().kind(), ErrorKind::kUsage);
  EXPECT_EQ(good.pack_to(path, {.level = 20}).error().kind(), ErrorKind::kUsage);
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(good.pack_to(directory / "no/c0.h5").error().kind(), ErrorKind::kNotFound);
}

TEST(Pack, AnImageThatShrinksFailsAndLeavesNothing) {
  TempDirectory directory;
  Packed p;
  p.add("a.img", random_bytes(3 * kChunk, 6));
  p.add("b.img", "b");
  p.images[0].size += 1;
  const ContainerRecord before = p.record;
  auto result = p.pack_to(directory / "c0.h5");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kIo);
  EXPECT_THAT(result.error().what(), HasSubstr("a.img"));
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
  EXPECT_EQ(to_json(p.record), to_json(before));
}

TEST(Pack, MemoryIsBoundedWithManyThreads) {
  TempDirectory directory;
  Packed p;
  {
    Fd fd(::memfd_create("big", MFD_CLOEXEC));
    const std::string part = random_bytes(kChunk, 7);
    for (size_t i = 0; i < 128; ++i) ASSERT_TRUE(write_all(fd.get(), part));
    p.images.push_back({"pages-1.img", 128 * kChunk, fd.get()});
    p.fds.push_back(std::move(fd));
  }
  rusage before{}, after{};
  ::getrusage(RUSAGE_SELF, &before);
  const pid_t child = ::fork();
  if (child == 0) {
    const bool good = p.pack_to(directory / "c0.h5", {.level = 1, .threads = 64}) &&
                      verify(directory / "c0.h5", p.record, {});
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::wait4(child, &status, 0, &after), child);
  ASSERT_EQ(status, 0);
#ifndef __SANITIZE_ADDRESS__  // which keeps what was freed
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 64 * 1024);
#endif
}

int in_child(const std::function<bool()>& body) {
  auto child = fork_child([&] { return body() ? 0 : 1; });
  if (!child) return -1;
  auto exit = child->wait(Deadline::in(std::chrono::seconds(60)), "the child");
  return exit ? exit->status() : -1;
}

// As the packer's process does it: /proc/self belongs to root then.
TEST(Pack, WorksAfterGivingUpPrivilege) {
  TempDirectory directory;
  ASSERT_EQ(::chmod(directory.path().c_str(), 0777), 0);
  EXPECT_EQ(in_child([&] {
              Packed p = many_kinds();
              if (::geteuid() == 0 && ::setresuid(12345, 12345, 12345) != 0) return false;
              Unpacked out(p.images.size());
              return p.pack_to(directory / "c0.h5") && verify(directory / "c0.h5", p.record, {}) &&
                     unpack(directory / "c0.h5", p.record, out.numbers, {});
            }),
            0);
}

TEST(Pack, TheUsersSettingsForHdf5AreNotOurs) {
  TempDirectory directory;
  EXPECT_EQ(in_child([&] {
              H5close();
              ::setenv("HDF5_VOL_CONNECTOR", "async under_vol=0;under_info={}", 1);
              ::setenv("HDF5_DRIVER", "split", 1);
              Packed p = many_kinds();
              return p.pack_to(directory / "c0.h5") && verify(directory / "c0.h5", p.record, {}) &&
                     std::getenv("HDF5_DRIVER") == std::string("split");
            }),
            0);
}

// An ordinary HDF5 program with a zstd filter reads the content.
size_t unzstd(unsigned flags, size_t, const unsigned*, size_t bytes, size_t* size,
              void** buffer) noexcept {
  if (!(flags & H5Z_FLAG_REVERSE)) return 0;
  const auto content = ZSTD_getFrameContentSize(*buffer, bytes);
  void* out = H5allocate_memory(content, false);
  const size_t got = ZSTD_decompress(out, content, *buffer, bytes);
  H5free_memory(*buffer);
  *buffer = out;
  *size = content;
  return ZSTD_isError(got) ? 0 : got;
}

TEST(Pack, OrdinaryHdf5ReadsIt) {
  TempDirectory directory;
  Packed p = many_kinds();
  const std::string path = directory / "c0.h5";
  ASSERT_TRUE(p.pack_to(path));
  const H5Z_class2_t filter = {H5Z_CLASS_T_VERS,
                               static_cast<H5Z_filter_t>(names::kZstdFilter),
                               1,
                               1,
                               "zstd",
                               nullptr,
                               nullptr,
                               unzstd};
  ASSERT_GE(H5Zregister(&filter), 0);
  {
    Id file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
    ASSERT_TRUE(file);
    for (size_t i = 0; i < p.images.size(); ++i) {
      Id dataset(H5Dopen2(file.get(), ("/images/" + p.images[i].name).c_str(), H5P_DEFAULT),
                 H5Dclose);
      ASSERT_TRUE(dataset);
      std::string content(p.contents[i].size() + 1, 'z');
      ASSERT_GE(
          H5Dread(dataset.get(), H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, content.data()),
          0);
      content.pop_back();
      EXPECT_TRUE(content == p.contents[i]) << p.images[i].name;
    }
    for (const char* name : {"job", "run", "epoch", "container", "uid", "format", "format_version"})
      EXPECT_GT(H5Aexists(file.get(), name), 0) << name;
    for (const char* name : {"/ranks", "/files", "/mounts"})
      EXPECT_TRUE(Id(H5Dopen2(file.get(), name, H5P_DEFAULT), H5Dclose)) << name;
  }
  H5Zunregister(static_cast<H5Z_filter_t>(names::kZstdFilter));
}

TEST(Unpack, WantsAsManyFilesAsImages) {
  TempDirectory directory;
  Packed p = many_kinds();
  ASSERT_TRUE(p.pack_to(directory / "c0.h5"));
  Unpacked out(1);
  EXPECT_EQ(unpack(directory / "c0.h5", p.record, out.numbers, {}).error().kind(),
            ErrorKind::kInternal);
  EXPECT_EQ(check_images(p.record, out.numbers).error().kind(), ErrorKind::kInternal);
}

TEST(CheckImages, FindsEveryDifference) {
  TempDirectory directory;
  Packed p = many_kinds();
  ASSERT_TRUE(p.pack_to(directory / "c0.h5"));
  for (size_t i = 0; i < p.images.size(); ++i) {
    Unpacked out(p.images.size());
    ASSERT_TRUE(unpack(directory / "c0.h5", p.record, out.numbers, {}));
    const auto size = static_cast<off_t>(p.contents[i].size());
    ASSERT_EQ(::ftruncate(out.numbers[i], size + 1), 0);
    auto longer = check_images(p.record, out.numbers);
    ASSERT_FALSE(longer);
    EXPECT_THAT(longer.error().what(),
                AllOf(HasSubstr(p.images[i].name), HasSubstr("bytes instead of")));
    ASSERT_EQ(::ftruncate(out.numbers[i], size), 0);
    ASSERT_TRUE(check_images(p.record, out.numbers));
    if (size == 0) continue;
    const char flipped = static_cast<char>(p.contents[i].back() ^ 1);
    ASSERT_EQ(::pwrite(out.numbers[i], &flipped, 1, size - 1), 1);
    auto changed = check_images(p.record, out.numbers);
    ASSERT_FALSE(changed);
    EXPECT_EQ(changed.error().kind(), ErrorKind::kDamaged);
    EXPECT_THAT(changed.error().what(), HasSubstr("image " + p.images[i].name + " "));
  }
}

}  // namespace
}  // namespace stillpoint::statefile
