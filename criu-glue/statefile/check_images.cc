#include <sys/stat.h>

#include "criu-glue/statefile/buffer.h"
#include "criu-glue/statefile/chunk_map.h"
#include "criu-glue/statefile/digest.h"
#include "criu-glue/statefile/pack.h"
#include "criu-glue/statefile/pipeline.h"

namespace stillpoint::statefile {

namespace {

Result<> check_sizes(const ContainerRecord& record, const std::vector<int>& images) {
  if (images.size() != record.images.size())
    return fail(ErrorKind::kInternal, "as many files as images are needed to check them");
  for (size_t i = 0; i < images.size(); ++i) {
    struct stat st{};
    if (::fstat(images[i], &st) != 0) return fail_errno("image " + record.images[i].name);
    if (static_cast<uint64_t>(st.st_size) != record.images[i].size)
      return fail(ErrorKind::kDamaged, "image " + record.images[i].name + " has " +
                                           std::to_string(st.st_size) + " bytes instead of " +
                                           std::to_string(record.images[i].size));
  }
  return {};
}

// Takes the digests of all chunks in order, compares image after image.
class Comparison {
 public:
  explicit Comparison(const ContainerRecord& record) : record_(record) { start(); }

  Result<> add(size_t image, const Digest& chunk) {
    if (auto r = finish(image); !r) return r;
    digest_.add(chunk);
    return {};
  }
  // All images before `image` have ended.
  Result<> finish(size_t image) {
    for (; current_ < image; ++current_, start()) {
      const ImageRecord& record = record_.images[current_];
      if (!same(digest_.digest(), record.digest))
        return fail(ErrorKind::kDamaged, "image " + record.name + " is not what was checkpointed");
    }
    return {};
  }

 private:
  void start() {
    if (current_ < record_.images.size()) digest_ = ImageDigest(record_.images[current_].size);
  }

  const ContainerRecord& record_;
  size_t current_ = 0;
  ImageDigest digest_{0};
};

}  // namespace

Result<> check_images(const ContainerRecord& record, const std::vector<int>& images) {
  if (auto r = check_sizes(record, images); !r) return r;
  ChunkMap map;
  for (const auto& image : record.images) map.add(image.size);
  const Crew crew = make_crew(0, names::kChunk, sizeof(Digest));
  std::vector<Buffer> contents;
  for (unsigned i = 0; i < crew.threads; ++i) contents.emplace_back(names::kChunk);
  std::vector<Digest> slots(crew.slots);
  Comparison comparison(record);

  const auto hash = [&](unsigned thread, unsigned slot, uint64_t job) -> Result<> {
    const auto [image, chunk] = map.at(job);
    const auto content = contents[thread].first(chunk_bytes(record.images[image].size, chunk));
    if (auto r = read_all_at(images[image], content, chunk * names::kChunk); !r)
      return fail(r.error().during("image " + record.images[image].name));
    slots[slot] = digest_of(content);
    return {};
  };
  const auto collect = [&](unsigned slot, uint64_t job) {
    return comparison.add(map.at(job).image, slots[slot]);
  };
  if (auto r = run_ordered(crew, map.chunks(), hash, collect); !r) return r;
  return comparison.finish(record.images.size());
}

}  // namespace stillpoint::statefile
