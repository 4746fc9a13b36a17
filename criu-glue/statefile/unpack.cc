// Reading a statefile: the calling thread has HDF5 read stored chunks, threads decompress and check
// them and, when unpacking, write them out.
#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <memory>

#include "criu-glue/statefile/buffer.h"
#include "criu-glue/statefile/chunk_map.h"
#include "criu-glue/statefile/digest.h"
#include "criu-glue/statefile/pack.h"
#include "criu-glue/statefile/pipeline.h"
#include "criu-glue/statefile/reader.h"

namespace stillpoint::statefile {

namespace {

struct FreeContext {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

struct Thread {
  Buffer content{names::kChunk};
  std::unique_ptr<ZSTD_DCtx, FreeContext> context{ZSTD_createDCtx()};
};

struct Slot {
  Buffer frame{StatefileReader::max_frame()};
  size_t size = 0;  // 0: a chunk of zeros
  Digest digest{};
};

class Unpacker {
 public:
  // into: nullptr to check only.
  Unpacker(StatefileReader& reader, const std::string& path, const ContainerRecord& record,
           const std::vector<int>* into, const OnBytes& on_bytes)
      : reader_(reader), path_(path), record_(record), into_(into), on_bytes_(on_bytes) {
    for (const auto& image : record.images) map_.add(image.size);
  }

  Result<> run() {
    constexpr size_t kContext = 256 << 10;
    Crew crew = make_crew(0, names::kChunk + kContext, StatefileReader::max_frame());
    crew.threads = static_cast<unsigned>(std::min<uint64_t>(crew.threads, map_.chunks()));
    threads_.resize(crew.threads);
    slots_.resize(crew.slots);
    for (const auto& thread : threads_)
      if (!thread.context) return fail(ErrorKind::kSystem, "no memory for zstd");
    const auto read_job = [this](unsigned slot, uint64_t job) {
      return read(slots_[slot], map_.at(job));
    };
    const auto check_job = [this](unsigned thread, unsigned slot, uint64_t job) {
      return check(threads_[thread], slots_[slot], map_.at(job));
    };
    if (auto r = run_fed(crew, map_.chunks(), read_job, check_job); !r) return r;
    if (auto r = begin(record_.images.size()); !r) return r;
    return reader_.end_image();
  }

 private:
  // Begins images until `count` have been begun; those of 0 bytes have no chunks.
  Result<> begin(size_t count) {
    for (; begun_ < count; ++begun_)
      if (auto r = reader_.begin_image(record_.images[begun_]); !r) return r;
    return {};
  }

  Result<> read(Slot& slot, ChunkMap::Place place) {
    if (auto r = begin(place.image + 1); !r) return r;
    auto size = reader_.next_chunk(slot.frame.all(), slot.digest);
    if (!size) return fail(size.error());
    slot.size = *size;
    return {};
  }

  Result<> check(Thread& thread, const Slot& slot, ChunkMap::Place place) const {
    const ImageRecord& image = record_.images[place.image];
    const size_t size = chunk_bytes(image.size, place.chunk);
    if (slot.size > 0) {
      if (auto r = decompress(thread, slot, place); !r) return r;
      if (into_)
        if (auto r = write_all_at((*into_)[place.image], thread.content.first(size),
                                  place.chunk * names::kChunk);
            !r)
          return fail(r.error().during("unpacking image " + image.name));
    }
    if (on_bytes_) on_bytes_(size);
    return {};
  }

  // The frame must say that it holds a chunk, be one frame and no more, and hold what the checksum
  // says.
  Result<> decompress(Thread& thread, const Slot& slot, ChunkMap::Place place) const {
    const uint64_t image_size = record_.images[place.image].size;
    const size_t size = chunk_bytes(image_size, place.chunk);
    const size_t stored = std::min<uint64_t>(image_size, names::kChunk);
    if (ZSTD_getFrameContentSize(slot.frame.data(), slot.size) != stored)
      return damaged(place, "is not a zstd frame of " + std::to_string(stored) + " bytes");
    if (ZSTD_findFrameCompressedSize(slot.frame.data(), slot.size) != slot.size)
      return damaged(place, "is not one whole zstd frame");
    const size_t got = ZSTD_decompressDCtx(thread.context.get(), thread.content.data(), stored,
                                           slot.frame.data(), slot.size);
    if (ZSTD_isError(got))
      return damaged(place, std::string("cannot be decompressed: ") + ZSTD_getErrorName(got));
    if (got != stored || !all_zero(thread.content.first(stored).subspan(size)) ||
        !same(digest_of(thread.content.first(size)), slot.digest))
      return damaged(place, "is not what was written (its checksum differs)");
    return {};
  }

  std::unexpected<Error> damaged(ChunkMap::Place place, const std::string& why) const {
    return fail(ErrorKind::kDamaged, path_ + ": image " + record_.images[place.image].name +
                                         ": chunk " + std::to_string(place.chunk) + " " + why);
  }

  StatefileReader& reader_;
  const std::string& path_;
  const ContainerRecord& record_;
  const std::vector<int>* into_;
  const OnBytes& on_bytes_;
  ChunkMap map_;
  std::vector<Thread> threads_;
  std::vector<Slot> slots_;
  size_t begun_ = 0;
};

// New and empty, so that what is not written reads as zeros.
Result<> prepare_output(const ContainerRecord& record, const std::vector<int>& into) {
  if (into.size() != record.images.size())
    return fail(ErrorKind::kInternal, "as many files as images are needed to unpack");
  for (size_t i = 0; i < into.size(); ++i)
    if (::ftruncate(into[i], 0) != 0 ||
        ::ftruncate(into[i], static_cast<off_t>(record.images[i].size)) != 0)
      return fail_errno("unpacking image " + record.images[i].name);
  return {};
}

}  // namespace

Result<> verify(const std::string& path, const ContainerRecord& record, const OnBytes& on_bytes) {
  auto reader = StatefileReader::open(path, record);
  if (!reader) return fail(reader.error());
  auto result = Unpacker(*reader, path, record, nullptr, on_bytes).run();
  reader->uncache();
  return result;
}

Result<> unpack(const std::string& path, const ContainerRecord& record,
                const std::vector<int>& into, const OnBytes& on_bytes) {
  if (auto r = prepare_output(record, into); !r) return r;
  auto reader = StatefileReader::open(path, record);
  if (!reader) return fail(reader.error());
  auto result = Unpacker(*reader, path, record, &into, on_bytes).run();
  reader->uncache();
  return result;
}

}  // namespace stillpoint::statefile
