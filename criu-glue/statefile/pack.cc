// Packing: threads read and compress chunks, the calling thread hands them to HDF5 in order.
#include "criu-glue/statefile/pack.h"

#include <fcntl.h>
#include <zstd.h>

#include <algorithm>
#include <memory>
#include <set>

#include "criu-glue/statefile/buffer.h"
#include "criu-glue/statefile/chunk_map.h"
#include "criu-glue/statefile/digest.h"
#include "criu-glue/statefile/pipeline.h"
#include "criu-glue/statefile/writer.h"

namespace stillpoint::statefile {

namespace {

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};
using Context = std::unique_ptr<ZSTD_CCtx, FreeContext>;

struct Thread {
  Buffer content{names::kChunk};
  Context context{ZSTD_createCCtx()};
};

struct Slot {
  Buffer frame{ZSTD_compressBound(names::kChunk)};
  size_t size = 0;  // 0: a chunk of zeros
  Digest digest{};
};

// What a thread needs beside its slot: learnt by compressing a chunk, as it depends on the level.
size_t memory_of_thread(int level) {
  const Thread probe;
  const Slot slot;
  std::fill_n(probe.content.data(), names::kChunk, std::byte{0});
  ZSTD_compressCCtx(probe.context.get(), slot.frame.data(), slot.frame.size(), probe.content.data(),
                    names::kChunk, level);
  return names::kChunk + ZSTD_sizeof_CCtx(probe.context.get());
}

class Packer {
 public:
  Packer(StatefileWriter& writer, const std::vector<ImageFile>& images, int level,
         const OnBytes& on_bytes)
      : writer_(writer), images_(images), level_(level), on_bytes_(on_bytes) {
    for (const auto& image : images) map_.add(image.size);
  }

  Result<> run(unsigned threads, std::vector<ImageRecord>& records) {
    Crew crew = make_crew(threads, memory_of_thread(level_), ZSTD_compressBound(names::kChunk));
    crew.threads = static_cast<unsigned>(std::min<uint64_t>(crew.threads, map_.chunks()));
    threads_.resize(crew.threads);
    slots_.resize(crew.slots);
    for (const auto& thread : threads_)
      if (!thread.context) return fail(ErrorKind::kSystem, "no memory for zstd");
    records_ = &records;
    const auto compress_job = [this](unsigned thread, unsigned slot, uint64_t job) {
      return compress(threads_[thread], slots_[slot], map_.at(job));
    };
    const auto write_job = [this](unsigned slot, uint64_t job) {
      return write(slots_[slot], map_.at(job));
    };
    if (auto r = run_ordered(crew, map_.chunks(), compress_job, write_job); !r) return r;
    if (auto r = begin(images_.size()); !r) return r;
    return end_current();
  }

 private:
  Result<> compress(Thread& thread, Slot& slot, ChunkMap::Place place) const {
    const ImageFile& image = images_[place.image];
    const std::span content = thread.content.first(chunk_bytes(image.size, place.chunk));
    const uint64_t offset = place.chunk * names::kChunk;
    if (auto r = read_all_at(image.fd, content, offset); !r) {
      const Error& e = r.error();
      const auto kind =
          e.kind() == ErrorKind::kDamaged ? ErrorKind::kIo : e.kind();  // not a checkpoint yet
      return fail(Error(kind, e.what(), e.remedy()).during("reading image " + image.name));
    }
    ::posix_fadvise(image.fd, static_cast<off_t>(offset), static_cast<off_t>(content.size()),
                    POSIX_FADV_DONTNEED);
    slot.digest = digest_of(content);
    slot.size = 0;
    if (!all_zero(content)) {
      // HDF5 has whole chunks only: behind the last byte come zeros.
      const std::span stored = thread.content.first(std::min<uint64_t>(image.size, names::kChunk));
      std::fill(stored.begin() + static_cast<ptrdiff_t>(content.size()), stored.end(),
                std::byte{0});
      slot.size = ZSTD_compressCCtx(thread.context.get(), slot.frame.data(), slot.frame.size(),
                                    stored.data(), stored.size(), level_);
      if (ZSTD_isError(slot.size))
        return fail(ErrorKind::kInternal,
                    "compressing image " + image.name + ": " + ZSTD_getErrorName(slot.size));
    }
    if (on_bytes_) on_bytes_(content.size());
    return {};
  }

  Result<> write(const Slot& slot, ChunkMap::Place place) {
    if (auto r = begin(place.image + 1); !r) return r;
    return writer_.put_chunk(slot.frame.first(slot.size), slot.digest);
  }

  // Ends images and begins the next ones until `count` have been begun; those of 0 bytes have no
  // chunks.
  Result<> begin(size_t count) {
    while (begun_ < count) {
      if (auto r = end_current(); !r) return r;
      const ImageFile& image = images_[begun_];
      if (auto r = writer_.begin_image(image.name, image.size); !r) return r;
      ++begun_;
    }
    return {};
  }

  Result<> end_current() {
    if (records_->size() == begun_) return {};
    auto digest = writer_.end_image();
    if (!digest) return fail(digest.error());
    const ImageFile& image = images_[begun_ - 1];
    records_->push_back({image.name, image.size, *digest});
    return {};
  }

  StatefileWriter& writer_;
  const std::vector<ImageFile>& images_;
  int level_;
  const OnBytes& on_bytes_;
  ChunkMap map_;
  std::vector<Thread> threads_;
  std::vector<Slot> slots_;
  std::vector<ImageRecord>* records_ = nullptr;
  size_t begun_ = 0;
};

Result<> check_input(const std::vector<ImageFile>& images, const PackOptions& options) {
  if (options.level < 1 || options.level > 19)
    return fail(ErrorKind::kUsage,
                "zstd has levels from 1 to 19, not " + std::to_string(options.level));
  if (images.size() > names::kMaxEntries)
    return fail(ErrorKind::kInternal, "more images than a statefile can hold");
  std::set<std::string_view> seen;
  for (const auto& image : images) {
    if (!is_image_name(image.name) || image.size > names::kMaxBytes)
      return fail(ErrorKind::kInternal, "'" + image.name + "' cannot be an image of a statefile");
    if (!seen.insert(image.name).second)
      return fail(ErrorKind::kInternal, "two images are called '" + image.name + "'");
  }
  return {};
}

}  // namespace

Result<> pack(const std::string& path, const Manifest& about, ContainerRecord& record,
              const std::vector<ImageFile>& images, const PackOptions& options,
              const OnBytes& on_bytes) {
  if (auto r = check_input(images, options); !r) return r;
  auto writer = StatefileWriter::create(path, options.level);
  if (!writer) return fail(writer.error());
  ContainerRecord packed = record;
  packed.images.clear();
  if (auto r = Packer(*writer, images, options.level, on_bytes).run(options.threads, packed.images);
      !r)
    return r;
  if (auto r = writer->describe(about, packed); !r) return r;
  if (auto r = writer->finish(packed); !r) return r;
  record = std::move(packed);
  return {};
}

}  // namespace stillpoint::statefile
