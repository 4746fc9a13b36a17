#include "criu-glue/statefile/writer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "criu-glue/statefile/tables.h"

namespace stillpoint::statefile {

namespace {

constexpr size_t kRowsAtOnce = 1024;

// HDF5 cannot be told to give a file up: closing it writes what is in its caches, and where that
// fails again (the file system is still full) the file stays open for good and the library
// complains at exit.  So the rest goes into memory that is thrown away.
void divert(hid_t file) {
  void* handle = nullptr;
  if (H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) < 0 || !handle) return;
  const int descriptor = *static_cast<int*>(handle);  // of the sec2 driver
  Fd nowhere(::memfd_create("stillpoint-discarded", MFD_CLOEXEC));
  if (nowhere) ::dup3(nowhere.get(), descriptor, O_CLOEXEC);
}

Id group(hid_t file, const char* name) {
  return Id(H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose);
}

}  // namespace

Result<StatefileWriter> StatefileWriter::create(const std::string& path, int level) {
  prepare_hdf5();
  // Made by us, not by HDF5: memory of a job is nobody else's to read.
  auto fd = open_file(path, O_RDWR | O_CREAT | O_EXCL, 0600);
  if (!fd) return fail(fd.error().during("making the statefile"));
  StatefileWriter writer(path, level, std::move(*fd));
  Id access = file_access();
  H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110);
  writer.file_ = Id(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), H5Fclose);
  if (!writer.file_) return fail(writer.failed("creating it"));
  writer.images_ = group(writer.file_.get(), names::kImages);
  writer.checksums_ = group(writer.file_.get(), names::kChecksums);
  if (!writer.images_ || !writer.checksums_) return fail(writer.failed("making its groups"));
  return writer;
}

StatefileWriter::~StatefileWriter() {
  if (!fd_) return;  // finished, or moved from
  if (file_) divert(file_.get());
  rows_.reset(), dataset_.reset(), checksums_.reset(), images_.reset(), file_.reset();
  H5Eclear2(H5E_DEFAULT);
  ::unlink(path_.c_str());
}

Error StatefileWriter::failed(const std::string& what) const {
  return hdf5_error(ErrorKind::kInternal, "writing " + path_ + ": " + what);
}

Id StatefileWriter::make_image_dataset(const std::string& name, uint64_t size) const {
  Id how(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(how.get(), false);
  if (size > 0) {
    const hsize_t chunk = std::min<uint64_t>(size, names::kChunk);
    const auto level = static_cast<unsigned>(level_);
    H5Pset_chunk(how.get(), 1, &chunk);
    // "Optional" only here, where no such filter is registered: every chunk that we write has been
    // through it.
    H5Pset_filter(how.get(), static_cast<H5Z_filter_t>(names::kZstdFilter), H5Z_FLAG_OPTIONAL, 1,
                  &level);
  }
  const hsize_t extent = size;
  Id space(H5Screate_simple(1, &extent, nullptr), H5Sclose);
  return Id(H5Dcreate2(images_.get(), name.c_str(), H5T_STD_U8LE, space.get(), H5P_DEFAULT,
                       how.get(), H5P_DEFAULT),
            H5Dclose);
}

Result<> StatefileWriter::begin_image(const std::string& name, uint64_t size) {
  image_ = name;
  next_chunk_ = rows_written_ = 0;
  digest_ = ImageDigest(size);
  dataset_ = make_image_dataset(name, size);
  const hsize_t extent[2] = {chunk_count(size), sizeof(Digest)};
  Id space(H5Screate_simple(2, extent, nullptr), H5Sclose);
  Id how(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(how.get(), false);
  rows_ = Id(H5Dcreate2(checksums_.get(), name.c_str(), H5T_STD_U8LE, space.get(), H5P_DEFAULT,
                        how.get(), H5P_DEFAULT),
             H5Dclose);
  if (!dataset_ || !rows_) return fail(failed("image " + name));
  return {};
}

Result<> StatefileWriter::put_chunk(std::span<const std::byte> frame, const Digest& digest) {
  if (!frame.empty()) {
    const hsize_t offset = next_chunk_ * names::kChunk;
    if (H5Dwrite_chunk(dataset_.get(), H5P_DEFAULT, 0, &offset, frame.size(), frame.data()) < 0)
      return fail(failed("image " + image_ + ", chunk " + std::to_string(next_chunk_)));
  }
  ++next_chunk_;
  digest_.add(digest);
  pending_.push_back(digest);
  return pending_.size() < kRowsAtOnce ? Result<>() : flush_checksums();
}

Result<> StatefileWriter::flush_checksums() {
  if (pending_.empty()) return {};
  const hsize_t first[2] = {rows_written_, 0}, count[2] = {pending_.size(), sizeof(Digest)};
  Id memory(H5Screate_simple(2, count, nullptr), H5Sclose);
  Id file(H5Dget_space(rows_.get()), H5Sclose);
  H5Sselect_hyperslab(file.get(), H5S_SELECT_SET, first, nullptr, count, nullptr);
  if (H5Dwrite(rows_.get(), H5T_NATIVE_UINT8, memory.get(), file.get(), H5P_DEFAULT,
               pending_.data()) < 0)
    return fail(failed("checksums of image " + image_));
  rows_written_ += pending_.size();
  pending_.clear();
  return {};
}

Result<Digest> StatefileWriter::end_image() {
  if (auto r = flush_checksums(); !r) return fail(r.error());
  if (!rows_.reset() || !dataset_.reset()) return fail(failed("image " + image_));
  return digest_.digest();
}

Result<> StatefileWriter::describe(const Manifest& about, const ContainerRecord& record) {
  if (auto r = write_description(file_.get(), about, record); !r)
    return fail(r.error().during("writing " + path_));
  return {};
}

Result<> StatefileWriter::finish(ContainerRecord& record) {
  // Flushed before it is closed: from a failed flush we can still get away (divert), from a failed
  // close not.
  if (H5Fflush(file_.get(), H5F_SCOPE_GLOBAL) < 0) return fail(failed("flushing it"));
  checksums_.reset(), images_.reset();
  if (!file_.reset()) return fail(failed("closing it"));
  if (::fsync(fd_.get()) != 0) return fail_errno("fsync " + path_);
  struct stat st{};
  if (::fstat(fd_.get(), &st) != 0) return fail_errno(path_);
  record.statefile_size = static_cast<uint64_t>(st.st_size);
  auto digest = digest_of_file(fd_.get(), record.statefile_size);
  if (!digest) return fail(digest.error().during("reading back " + path_));
  record.statefile_digest = *digest;
  fd_.reset();
  return {};
}

}  // namespace stillpoint::statefile
