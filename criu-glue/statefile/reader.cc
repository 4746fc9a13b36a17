#include "criu-glue/statefile/reader.h"

#include <fcntl.h>
#include <zstd.h>

#include <algorithm>

namespace stillpoint::statefile {

namespace {

constexpr size_t kRowsAtOnce = 1024;

// One-dimensional or two-dimensional uint8 of exactly this extent, stored in this file.
bool is_bytes(hid_t dataset, hid_t how, std::span<const hsize_t> extent) {
  Id type(H5Dget_type(dataset), H5Tclose);
  Id space(H5Dget_space(dataset), H5Sclose);
  hsize_t found[2] = {0, 0};
  const int rank = static_cast<int>(extent.size());
  return type && space && H5Tequal(type.get(), H5T_STD_U8LE) > 0 &&
         H5Sget_simple_extent_type(space.get()) == H5S_SIMPLE &&
         H5Sget_simple_extent_ndims(space.get()) == rank &&
         H5Sget_simple_extent_dims(space.get(), found, nullptr) == rank &&
         std::equal(extent.begin(), extent.end(), found) && H5Pget_external_count(how) == 0 &&
         H5Pget_layout(how) != H5D_VIRTUAL;
}

// Chunks as we write them, with zstd and no other filter.
bool is_packed(hid_t how, uint64_t size) {
  hsize_t chunk = 0;
  if (H5Pget_layout(how) != H5D_CHUNKED || H5Pget_chunk(how, 1, &chunk) != 1 ||
      chunk != std::min<uint64_t>(size, names::kChunk) || H5Pget_nfilters(how) != 1)
    return false;
  unsigned flags = 0, config = 0;
  size_t values = 0;
  return H5Pget_filter2(how, 0, &flags, &values, nullptr, 0, nullptr, &config) ==
         static_cast<H5Z_filter_t>(names::kZstdFilter);
}

Id open_dataset(hid_t file, const char* group, const std::string& name) {
  const std::string path = std::string("/") + group + "/" + name;
  return Id(H5Dopen2(file, path.c_str(), H5P_DEFAULT), H5Dclose);
}

}  // namespace

size_t StatefileReader::max_frame() {
  return ZSTD_compressBound(names::kChunk);
}

std::unexpected<Error> StatefileReader::damaged(const std::string& why) const {
  const std::string where = image_ ? ": image " + image_->name : "";
  return fail(ErrorKind::kDamaged, path_ + where + ": " + why);
}

std::unexpected<Error> StatefileReader::failed(const std::string& doing) const {
  const std::string where = image_ ? ": image " + image_->name : "";
  return fail(hdf5_error(ErrorKind::kDamaged, path_ + where + ": " + doing));
}

Result<StatefileReader> StatefileReader::open(const std::string& path,
                                              const ContainerRecord& record) {
  prepare_hdf5();
  auto fd = open_file(path, O_RDONLY);
  if (!fd) return fail(fd.error().during("opening the statefile"));
  StatefileReader reader(path, std::move(*fd));
  auto digest = digest_of_file(reader.fd_.get(), record.statefile_size);
  if (!digest) return fail(digest.error().during(path));
  if (!same(*digest, record.statefile_digest))
    return reader.damaged("its content is not what was written (its digest differs)");
  // The same file that was just read, even if its name has changed hands.
  const std::string same_file = "/proc/self/fd/" + std::to_string(reader.fd_.get());
  reader.file_ = Id(H5Fopen(same_file.c_str(), H5F_ACC_RDONLY, file_access().get()), H5Fclose);
  if (!reader.file_) return reader.failed("opening it");
  return reader;
}

Result<> StatefileReader::begin_image(const ImageRecord& image) {
  if (auto r = end_image(); !r) return r;
  image_ = &image;
  next_chunk_ = rows_read_ = 0;
  ahead_.clear();
  digest_ = ImageDigest(image.size);
  if (auto r = open_image_dataset(image); !r) return r;
  return open_checksums(image);
}

Result<> StatefileReader::open_image_dataset(const ImageRecord& image) {
  dataset_ = open_dataset(file_.get(), names::kImages, image.name);
  if (!dataset_) return failed("opening it");
  Id how(H5Dget_create_plist(dataset_.get()), H5Pclose);
  const hsize_t extent[] = {image.size};
  if (!how || !is_bytes(dataset_.get(), how.get(), extent))
    return damaged("it is not the array of " + std::to_string(image.size) + " bytes it should be");
  if (image.size > 0 && !is_packed(how.get(), image.size))
    return damaged("it is not stored in zstd chunks of this format");
  return {};
}

Result<> StatefileReader::open_checksums(const ImageRecord& image) {
  rows_ = open_dataset(file_.get(), names::kChecksums, image.name);
  if (!rows_) return failed("opening its checksums");
  Id how(H5Dget_create_plist(rows_.get()), H5Pclose);
  const hsize_t extent[] = {chunk_count(image.size), sizeof(Digest)};
  if (!how || !is_bytes(rows_.get(), how.get(), extent) || H5Pget_nfilters(how.get()) != 0)
    return damaged("its checksums are not one row for each chunk");
  return {};
}

Result<> StatefileReader::read_checksums() {
  const uint64_t left = chunk_count(image_->size) - rows_read_;
  ahead_.resize(std::min<uint64_t>(left, kRowsAtOnce));
  const hsize_t first[2] = {rows_read_, 0}, count[2] = {ahead_.size(), sizeof(Digest)};
  Id memory(H5Screate_simple(2, count, nullptr), H5Sclose);
  Id file(H5Dget_space(rows_.get()), H5Sclose);
  H5Sselect_hyperslab(file.get(), H5S_SELECT_SET, first, nullptr, count, nullptr);
  if (H5Dread(rows_.get(), H5T_NATIVE_UINT8, memory.get(), file.get(), H5P_DEFAULT, ahead_.data()) <
      0)
    return failed("reading its checksums");
  rows_read_ += ahead_.size();
  return {};
}

Result<size_t> StatefileReader::next_chunk(std::span<std::byte> frame, Digest& digest) {
  if (next_chunk_ == rows_read_)
    if (auto r = read_checksums(); !r) return fail(r.error());
  const uint64_t index = next_chunk_++;
  digest = ahead_[index % kRowsAtOnce];
  digest_.add(digest);
  const size_t size = chunk_bytes(image_->size, index);
  const Digest zeros = size == names::kChunk ? zeros_ : digest_of_zeros(size);
  if (same(digest, zeros)) return 0;
  return read_chunk(index, frame);
}

Result<size_t> StatefileReader::read_chunk(uint64_t index, std::span<std::byte> frame) {
  const std::string where = "chunk " + std::to_string(index);
  const hsize_t offset = index * names::kChunk;
  hsize_t size = 0;
  if (H5Dget_chunk_storage_size(dataset_.get(), &offset, &size) < 0)
    return failed("finding " + where);
  if (size == 0) return damaged(where + " is missing");
  if (size > frame.size()) return damaged(where + " is larger than a chunk can be");
  uint32_t filters_left_out = 0;
  if (H5Dread_chunk(dataset_.get(), H5P_DEFAULT, &offset, &filters_left_out, frame.data()) < 0)
    return failed("reading " + where);
  if (filters_left_out != 0) return damaged(where + " is not compressed");
  return static_cast<size_t>(size);
}

Result<> StatefileReader::end_image() {
  if (!image_) return {};
  if (next_chunk_ != chunk_count(image_->size) || !same(digest_.digest(), image_->digest))
    return damaged("its checksums are not those of the checkpoint's record");
  image_ = nullptr;
  rows_.reset(), dataset_.reset();
  return {};
}

void StatefileReader::uncache() const {
  ::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_DONTNEED);
}

}  // namespace stillpoint::statefile
