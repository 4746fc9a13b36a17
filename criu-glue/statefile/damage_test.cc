// A statefile that is damaged, by accident (its record knows) or on purpose (with a record that
// agrees).
#include <gmock/gmock.h>

#include "criu-glue/statefile/digest.h"
#include "criu-glue/statefile/hdf5.h"
#include "criu-glue/statefile/test_support.h"

namespace stillpoint::statefile {
namespace {

using namespace test;
using testing::AllOf;
using testing::HasSubstr;

#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStep = 20;  // slower by as much
#else
constexpr size_t kStep = 7;
#endif

class Damage : public testing::Test {
 protected:
  void SetUp() override {
    p.add("core-1.img", random_bytes(300, 1));
    p.add("empty.img", "");
    std::string pages(names::kChunk * 3 + 100, '\0');
    for (size_t i = 0; i < 2000; ++i) pages[2 * names::kChunk + i] = static_cast<char>(i * i);
    pages.back() = 'x';
    p.add("pages-1.img", std::move(pages));
    ASSERT_EQ(why(p.pack_to(path)), "");
    good = slurp(path);
  }

  // As if the file had been written like this.
  ContainerRecord agreeing_record(const std::string& bytes) const {
    ContainerRecord record = p.record;
    record.statefile_size = bytes.size();
    record.statefile_digest = digest_of(std::as_bytes(std::span(bytes)));
    return record;
  }

  // Reads it in every way: right, or kDamaged, and nothing else.
  void try_hostile(const std::string& bytes) {
    spit(path, bytes);
    const ContainerRecord record = agreeing_record(bytes);
    auto verified = verify(path, record, {});
    if (!verified) {
      ASSERT_EQ(verified.error().kind(), ErrorKind::kDamaged) << verified.error().line();
    }
    Unpacked out(p.images.size());
    auto unpacked = unpack(path, record, out.numbers, {});
    ASSERT_EQ(unpacked.has_value(), verified.has_value());
    if (unpacked) {
      ASSERT_EQ(why(check_images(record, out.numbers)), "");
    }
  }

  // Changes a stored chunk with HDF5 itself.
  void write_chunk(const char* image, uint64_t chunk, std::string_view frame, uint32_t mask = 0) {
    spit(path, good);
    {
      Id file(H5Fopen(path.c_str(), H5F_ACC_RDWR, file_access().get()), H5Fclose);
      Id dataset(H5Dopen2(file.get(), (std::string("/images/") + image).c_str(), H5P_DEFAULT),
                 H5Dclose);
      const hsize_t offset = chunk * names::kChunk;
      ASSERT_GE(
          H5Dwrite_chunk(dataset.get(), H5P_DEFAULT, mask, &offset, frame.size(), frame.data()), 0);
    }
    changed = agreeing_record(slurp(path));
  }

  void expect_damage(const std::string& what) {
    Unpacked out(p.images.size());
    for (const auto& result : {verify(path, changed, {}), unpack(path, changed, out.numbers, {})}) {
      ASSERT_FALSE(result);
      EXPECT_EQ(result.error().kind(), ErrorKind::kDamaged);
      EXPECT_THAT(result.error().what(), AllOf(HasSubstr(path), HasSubstr(what)));
    }
  }

  TempDirectory directory;
  const std::string path = directory / "c0.h5";
  Packed p;
  std::string good;
  ContainerRecord changed;
};

TEST_F(Damage, EveryTruncationIsFound) {
  for (size_t length = 0; length < good.size(); ++length) {
    std::filesystem::resize_file(path, good.size() - 1 - length);
    auto result = verify(path, p.record, {});
    ASSERT_FALSE(result);
    ASSERT_EQ(result.error().kind(), ErrorKind::kDamaged);
  }
  spit(path, good + '\0');
  EXPECT_EQ(verify(path, p.record, {}).error().kind(), ErrorKind::kDamaged);
}

TEST_F(Damage, EveryFlipIsFound) {
  std::mt19937_64 random(20261121);
  Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  for (int round = 0; round < 2000; ++round) {
    const auto at = static_cast<off_t>(random() % good.size());
    const char byte = good[static_cast<size_t>(at)],
               flipped = static_cast<char>(byte ^ (1 << random() % 8));
    ASSERT_EQ(::pwrite(fd.get(), &flipped, 1, at), 1);
    auto result = verify(path, p.record, {});
    ASSERT_FALSE(result);
    ASSERT_EQ(result.error().kind(), ErrorKind::kDamaged);
    ASSERT_EQ(::pwrite(fd.get(), &byte, 1, at), 1);
  }
  EXPECT_EQ(why(verify(path, p.record, {})), "");
}

TEST_F(Damage, TruncatedOnPurpose) {
  for (size_t length = 0; length < good.size(); length += kStep) {
    SCOPED_TRACE("length " + std::to_string(length));
    ASSERT_NO_FATAL_FAILURE(try_hostile(good.substr(0, length)));
  }
}

TEST_F(Damage, FlippedOnPurpose) {
  const uint64_t seed = 4711;
  std::mt19937_64 random(seed);
  for (size_t round = 0; round < 3000 / kStep; ++round) {
    std::string bytes = good;
    std::string trace = "seed " + std::to_string(seed) + ":";
    for (uint64_t flips = 1 + random() % 3; flips > 0; --flips) {
      const size_t at = random() % bytes.size(), bit = random() % 8;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      trace += " " + std::to_string(at) + "/" + std::to_string(bit);
    }
    SCOPED_TRACE(trace);
    ASSERT_NO_FATAL_FAILURE(try_hostile(bytes));
  }
}

TEST_F(Damage, ChunkOfOtherContentIsNamed) {
  // The frame of another chunk: genuine, but not here.
  std::string frame;
  {
    Id file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, file_access().get()), H5Fclose);
    Id dataset(H5Dopen2(file.get(), "/images/pages-1.img", H5P_DEFAULT), H5Dclose);
    const hsize_t offset = 3 * names::kChunk;
    hsize_t size = 0;
    ASSERT_GE(H5Dget_chunk_storage_size(dataset.get(), &offset, &size), 0);
    frame.resize(size);
    uint32_t mask = 0;
    ASSERT_GE(H5Dread_chunk(dataset.get(), H5P_DEFAULT, &offset, &mask, frame.data()), 0);
  }
  write_chunk("pages-1.img", 2, frame);
  expect_damage("image pages-1.img: chunk 2 is not what was written");
  write_chunk("pages-1.img", 2, frame + "x");
  expect_damage("image pages-1.img: chunk 2 is not one whole zstd frame");
  write_chunk("pages-1.img", 2, frame.substr(0, frame.size() - 1));
  expect_damage("image pages-1.img: chunk 2 is not one whole zstd frame");
  write_chunk("core-1.img", 0, frame);
  expect_damage("image core-1.img: chunk 0 is not a zstd frame of 300 bytes");
  write_chunk("pages-1.img", 2, std::string(100, 'x'));
  expect_damage("image pages-1.img: chunk 2 is not a zstd frame of 1048576 bytes");
  write_chunk("pages-1.img", 3, std::string(2 * names::kChunk, 'x'));
  expect_damage("image pages-1.img: chunk 3 is larger than a chunk can be");
  write_chunk("pages-1.img", 3, std::string(names::kChunk, 'x'), 1);
  expect_damage("image pages-1.img: chunk 3 is not compressed");
}

TEST_F(Damage, RecordOfAnotherCheckpoint) {
  changed = p.record;
  changed.images[2].digest[5] ^= 1;
  expect_damage("image pages-1.img: its checksums are not those of the checkpoint's record");
  changed = p.record;
  changed.images[2].size += 1;
  expect_damage("image pages-1.img: it is not the array of");
  changed = p.record;
  changed.images[0].name = "core-2.img";
  expect_damage("image core-2.img: opening it: HDF5: ");
  changed = p.record;
  changed.images[1].digest[0] ^= 1;  // an image without chunks
  expect_damage("image empty.img: its checksums are not those");
}

TEST_F(Damage, MissingChunkIsNamed) {
  {
    Id file(H5Fopen(path.c_str(), H5F_ACC_RDWR, file_access().get()), H5Fclose);
    // The checksums of chunk 2 in the place of chunk 1, which is all zeros and not stored.
    Id rows(H5Dopen2(file.get(), "/checksums/pages-1.img", H5P_DEFAULT), H5Dclose);
    std::vector<Digest> digests(4);
    ASSERT_GE(H5Dread(rows.get(), H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, digests.data()),
              0);
    digests[1] = digests[2];
    ASSERT_GE(H5Dwrite(rows.get(), H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, digests.data()),
              0);
  }
  changed = agreeing_record(slurp(path));
  expect_damage("image pages-1.img: ");
  expect_damage("chunk 1");
}

TEST_F(Damage, NoSuchFile) {
  std::filesystem::remove(path);
  auto result = verify(path, p.record, {});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kNotFound);
  EXPECT_THAT(result.error().what(), HasSubstr(path));
}

}  // namespace
}  // namespace stillpoint::statefile
