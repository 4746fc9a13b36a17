// What the tests of this folder share.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "common/fd.h"
#include "criu-glue/statefile/pack.h"

namespace stillpoint::statefile::test {

// A directory that goes with the test.
class TempDirectory {
 public:
  TempDirectory() {
    std::string name = std::filesystem::temp_directory_path() / "stillpoint-XXXXXX";
    if (!::mkdtemp(name.data())) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  TempDirectory(const TempDirectory&) = delete;
  ~TempDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string slurp(const std::string& path) {
  auto content = read_file(path, size_t{1} << 30);
  EXPECT_TRUE(content) << (content ? "" : content.error().line());
  return content.value_or("");
}

inline void spit(const std::string& path, std::string_view content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(content.data(), static_cast<std::streamsize>(content.size()));
}

inline Fd memory_file(std::string_view content = {}) {
  Fd fd(::memfd_create("test", MFD_CLOEXEC));
  EXPECT_TRUE(write_all(fd.get(), content));
  return fd;
}

inline std::string content_of(int fd) {
  const auto size = ::lseek(fd, 0, SEEK_END);
  std::string content(static_cast<size_t>(size), '\0');
  EXPECT_TRUE(read_all_at(fd, std::as_writable_bytes(std::span(content)), 0));
  return content;
}

inline std::string random_bytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

inline ContainerRecord sample_container() {
  ContainerRecord c;
  c.hostname = "node0";
  c.network_key = "net0";
  c.statefile = "c0.h5";
  c.ranks = {{0, 12, "./ring", 1 << 20}, {1, 13, "./ring", 2 << 20}};
  c.files = {{"/home/physicist/out.txt", 77, true}, {"/usr/lib/libc.so.6", 2000000, false}};
  c.mounts = {{"/home", "nfs4"}};
  return c;
}

inline Manifest sample_manifest() {
  Manifest m;
  m.job = "ring";
  m.run = "4f2a";
  m.epoch = 3;
  m.created = "2026-11-21T05:30:12Z";
  m.uid = 1000;
  m.user = "physicist";
  m.argv = {"./ring", "--laps", "10 000"};
  m.directory = "/home/physicist";
  m.ranks = 2;
  m.interval_ms = 60000;
  m.keep = 2;
  m.stdout_bytes = 120;
  m.tag_output = true;
  m.stillpoint_version = "0.1.0";
  m.criu_version = "4.2.1";
  m.kernel = "6.18.0";
  m.machine = "x86_64";
  m.pmix_version = "5.0.7";
  m.cpu = {"Some CPU", {"avx", "avx2", "sse2"}};
  m.times = {1, 2, 3, 4, 5};
  m.containers = {sample_container()};
  return m;
}

// Images in memory and the statefile they were packed into.
struct Packed {
  std::vector<std::string> contents;
  std::vector<Fd> fds;
  std::vector<ImageFile> images;
  ContainerRecord record = sample_container();

  void add(const std::string& name, std::string content) {
    fds.push_back(memory_file(content));
    images.push_back({name, content.size(), fds.back().get()});
    contents.push_back(std::move(content));
  }
  Result<> pack_to(const std::string& path, PackOptions options = {.level = 1, .threads = 3}) {
    return pack(path, sample_manifest(), record, images, options, {});
  }
};

struct Unpacked {
  std::vector<Fd> fds;
  std::vector<int> numbers;
  explicit Unpacked(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      fds.push_back(memory_file("something that was there before"));
      numbers.push_back(fds.back().get());
    }
  }
};

inline std::string why(const Result<>& result) {
  return result ? "" : result.error().line();
}

}  // namespace stillpoint::statefile::test
