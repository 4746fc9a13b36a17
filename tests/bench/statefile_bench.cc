// statefile_bench DIRECTORY FILE...: packs the files into a statefile in DIRECTORY, verifies and
// unpacks it, and says how fast and how large that was, beside `zstd -T0 -1` of the same files.
// Removes what it made.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>

#include "common/process.h"
#include "common/units.h"
#include "criu-glue/statefile/pack.h"

using namespace stillpoint;
using namespace stillpoint::statefile;

namespace {

struct Input {
  std::vector<std::string> paths;
  std::vector<Fd> fds;
  std::vector<ImageFile> images;
  uint64_t bytes = 0;
};

Result<Input> open_input(int count, char** paths) {
  Input input;
  for (int i = 0; i < count; ++i) {
    auto fd = open_file(paths[i], O_RDONLY);
    if (!fd) return fail(fd.error());
    struct stat st{};
    if (::fstat(fd->get(), &st) != 0) return fail_errno(paths[i]);
    const auto size = static_cast<uint64_t>(st.st_size);
    input.paths.emplace_back(paths[i]);
    input.images.push_back({std::filesystem::path(paths[i]).filename(), size, fd->get()});
    input.fds.push_back(std::move(*fd));
    input.bytes += size;
  }
  return input;
}

double cpu_seconds(int who) {
  rusage usage{};
  ::getrusage(who, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

Result<> measure(const char* what, uint64_t bytes, int who, const std::function<Result<>()>& work) {
  const double cpu = cpu_seconds(who);
  const auto begin = std::chrono::steady_clock::now();
  if (auto r = work(); !r) return fail(r.error().during(what));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const double mb = 1e-6 * static_cast<double>(bytes);
  std::printf("%-14s %7.3f s %8.0f MB/s   processor %7.3f s\n", what, took.count(),
              mb / took.count(), cpu_seconds(who) - cpu);
  return {};
}

Result<> zstd_by_hand(const Input& input, const std::string& output) {
  std::vector<std::string> argv = {
      "sh", "-c", "out=$1; shift; exec zstd -q -T0 -1 -c \"$@\" > \"$out\"", "sh", output};
  argv.insert(argv.end(), input.paths.begin(), input.paths.end());
  auto done = run_program(argv, Deadline::in(std::chrono::minutes(30)));
  if (!done) return fail(done.error());
  if (!done->exit.ok())
    return fail(ErrorKind::kSystem, "zstd: " + done->exit.describe() + ": " + done->out);
  return {};
}

Result<> unpack_to_memory(const std::string& path, const ContainerRecord& record,
                          std::vector<Fd>& files) {
  std::vector<int> into;
  for (const auto& image : record.images) {
    files.emplace_back(::memfd_create(image.name.c_str(), MFD_CLOEXEC));
    into.push_back(files.back().get());
  }
  return unpack(path, record, into, {});
}

Result<> check(const ContainerRecord& record, const std::vector<Fd>& files) {
  std::vector<int> images;
  for (const auto& file : files) images.push_back(file.get());
  return check_images(record, images);
}

Result<> bench(const std::string& directory, const Input& input) {
  const std::string path = directory + "/c0.h5", by_hand = directory + "/by-hand.zst";
  struct Remove {
    const std::string &a, &b;
    ~Remove() { ::unlink(a.c_str()), ::unlink(b.c_str()); }
  } remove{path, by_hand};

  if (auto r = measure("zstd -T0 -1", input.bytes, RUSAGE_CHILDREN,
                       [&] { return zstd_by_hand(input, by_hand); });
      !r)
    return r;
  Manifest about;
  ContainerRecord record;
  std::vector<Fd> files;
  const std::pair<const char*, std::function<Result<>()>> steps[] = {
      {"pack", [&] { return pack(path, about, record, input.images, {}, {}); }},
      {"verify", [&] { return verify(path, record, {}); }},
      {"unpack", [&] { return unpack_to_memory(path, record, files); }},
      {"check_images", [&] { return check(record, files); }},
  };
  for (const auto& [what, work] : steps) {
    if (auto r = measure(what, input.bytes, RUSAGE_SELF, work); !r) return r;
    if (what == std::string_view("verify")) {
      rusage usage{};
      ::getrusage(RUSAGE_SELF, &usage);
      std::printf("%-14s %7.1f MiB\n", "peak memory", static_cast<double>(usage.ru_maxrss) / 1024);
    }
  }
  const auto zstd = static_cast<double>(std::filesystem::file_size(by_hand));
  const auto ours = static_cast<double>(record.statefile_size);
  std::printf("size           %s; zstd %s; %+.2f %%\n", format_bytes(record.statefile_size).c_str(),
              format_bytes(static_cast<uint64_t>(zstd)).c_str(), 100 * (ours / zstd - 1));
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: statefile_bench DIRECTORY FILE...\n");
    return 64;
  }
  auto input = open_input(argc - 2, argv + 2);
  const auto result = input ? bench(argv[1], *input) : Result<>(fail(input.error()));
  if (result) return 0;
  std::fprintf(stderr, "statefile_bench: %s\n", result.error().line().c_str());
  return result.error().exit_status();
}
