#include "criu-glue/statefile/manifest.h"

#include <gmock/gmock.h>

#include "criu-glue/statefile/digest.h"
#include "criu-glue/statefile/hdf5.h"
#include "criu-glue/statefile/test_support.h"

#ifdef __SANITIZE_ADDRESS__
// HDF5 asks for as much memory as a damaged file says and copes with being refused.
extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1";
}
#endif

namespace stillpoint::statefile {
namespace {

using namespace test;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

SigningKey key_of(uint8_t byte) {
  SigningKey key;
  key.bytes.fill(byte);
  return key;
}

class ManifestFile : public testing::Test {
 protected:
  void SetUp() override {
    auto made = manifest_bytes(sample_manifest(), key);
    ASSERT_TRUE(made) << made.error().line();
    bytes = *made;
  }
  // The digest made right again, as everybody can.
  static std::string with_digest(std::string file) {
    const size_t line = file.find("digest blake3 "), length = 14 + 64 + 1;
    const std::string rest =
        file.substr(0, line) + file.substr(std::min(file.size(), line + length));
    return file.replace(line + 14, 64, to_hex(digest_of(std::as_bytes(std::span(rest)))));
  }
  ErrorKind kind(const std::string& file) const {
    return parse_manifest(file, &key).error().kind();
  }

  const SigningKey key = key_of(7);
  std::string bytes;
};

TEST_F(ManifestFile, IsReadAgain) {
  for (const SigningKey* k : {&key, static_cast<const SigningKey*>(nullptr)}) {
    auto back = parse_manifest(bytes, k);
    ASSERT_TRUE(back) << back.error().line();
    EXPECT_EQ(to_json(*back), to_json(sample_manifest()));
  }
  EXPECT_EQ(manifest_bytes(sample_manifest(), key).value(),
            bytes);  // nothing in it depends on the time
}

TEST_F(ManifestFile, BlockIsAsSpecified) {
  const std::string body = bytes.substr(512);
  Hasher keyed(key.bytes);
  keyed.add("stillpoint manifest 1\n");
  keyed.add(body);
  const std::string id = to_hex(digest_of(std::as_bytes(std::span(key.bytes)))).substr(0, 8);
  const std::string first = "stillpoint manifest 1\n";
  std::string behind = "signature blake3-keyed " + id + " " + to_hex(keyed.digest()) + "\n";
  behind.resize(512 - first.size() - std::string("digest blake3 ").size() - 64 - 1, '\0');
  const std::string rest = first + behind + body;
  EXPECT_EQ(bytes, first + "digest blake3 " + to_hex(digest_of(std::as_bytes(std::span(rest)))) +
                       "\n" + behind + body);
  EXPECT_THAT(body, StartsWith("\x89HDF\r\n\x1a\n"));
}

TEST_F(ManifestFile, OrdinaryHdf5ReadsIt) {
  TempDirectory directory;
  spit(directory / "manifest.h5", bytes);
  Id file(H5Fopen((directory / "manifest.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
  ASSERT_TRUE(file);
  Id how(H5Fget_create_plist(file.get()), H5Pclose);
  hsize_t block = 0;
  ASSERT_GE(H5Pget_userblock(how.get(), &block), 0);
  EXPECT_EQ(block, 512u);
  Id dataset(H5Dopen2(file.get(), "/manifest", H5P_DEFAULT), H5Dclose);
  Id type(H5Dget_type(dataset.get()), H5Tclose);
  std::string text(H5Tget_size(type.get()), '\0');
  ASSERT_GE(H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()), 0);
  EXPECT_EQ(text, to_json(sample_manifest()));
}

TEST_F(ManifestFile, EveryTruncationIsDamage) {
  for (size_t length = 0; length < bytes.size(); ++length)
    ASSERT_EQ(kind(bytes.substr(0, length)), ErrorKind::kDamaged) << length;
  EXPECT_EQ(kind(bytes + '\0'), ErrorKind::kDamaged);
}

TEST_F(ManifestFile, EveryFlipIsDamage) {
  const size_t version = std::string("stillpoint manifest ").size();
  for (size_t at = 0; at < bytes.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = bytes;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      // Another digit there is another version, of which nothing else is known.
      const bool newer = at == version && flipped[at] >= '2' && flipped[at] <= '9';
      const auto expected = newer ? ErrorKind::kUnfit : ErrorKind::kDamaged;
      auto signed_one = parse_manifest(flipped, &key);
      ASSERT_FALSE(signed_one) << at << "/" << bit;
      ASSERT_EQ(signed_one.error().kind(), expected) << at << "/" << bit;
    }
}

TEST_F(ManifestFile, WithoutTheKeyEveryByteIsCoveredToo) {
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string flipped = bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ 4);
    ASSERT_FALSE(parse_manifest(flipped, nullptr)) << at;
  }
}

TEST_F(ManifestFile, ForgedOnesAreNotGenuine) {
  std::string forged = bytes;
  const size_t at = forged.find("\"uid\": 1000");
  ASSERT_NE(at, forged.npos);
  forged.replace(at, 11, "\"uid\": 1001");
  forged = with_digest(forged);
  auto result = parse_manifest(forged, &key);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().what(), HasSubstr("not genuine"));
  EXPECT_EQ(parse_manifest(forged, nullptr)->uid, 1001u);  // unchecked: for looking only
}

TEST_F(ManifestFile, AnotherKeyIsSaid) {
  const SigningKey other = key_of(8);
  auto result = parse_manifest(bytes, &other);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kDamaged);
  EXPECT_THAT(result.error().line(),
              AllOf(HasSubstr("another key"), HasSubstr("copy the signing key")));
}

TEST_F(ManifestFile, NewerFormatIsUnfitBeforeAnythingElse) {
  for (const std::string& text : {std::string("stillpoint manifest 2\nwhatever else"),
                                  std::string("stillpoint manifest 18446744073709551615\n")}) {
    auto result = parse_manifest(text, &key);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind(), ErrorKind::kUnfit);
    EXPECT_THAT(result.error().line(), AllOf(HasSubstr("format"), HasSubstr("reads 1")));
  }
  for (const char* text :
       {"", "stillpoint manifest ", "stillpoint manifest 0\n", "stillpoint manifest 01\n",
        "stillpoint manifest 2", "stillpoint manifest -1\n", "\x89HDF\r\n\x1a\n",
        "stillpoint manifest 99999999999999999999\n"})
    EXPECT_EQ(parse_manifest(text, &key).error().kind(), ErrorKind::kDamaged) << text;
}

// Somebody who made the digest right; read by one without a key.
TEST_F(ManifestFile, HostileBodies) {
  const uint64_t seed = 815;
  std::mt19937_64 random(seed);
  for (int round = 0; round < 3000; ++round) {
    std::string hostile = bytes;
    std::string trace = "seed " + std::to_string(seed) + ":";
    for (uint64_t flips = 1 + random() % 3; flips > 0; --flips) {
      const size_t at = 512 + random() % (bytes.size() - 512), bit = random() % 8;
      hostile[at] = static_cast<char>(hostile[at] ^ (1 << bit));
      trace += " " + std::to_string(at) + "/" + std::to_string(bit);
    }
    SCOPED_TRACE(trace);
    auto result = parse_manifest(with_digest(hostile), nullptr);
    if (!result) {
      ASSERT_EQ(result.error().kind(), ErrorKind::kDamaged) << result.error().line();
    }
  }
  for (size_t length = 513; length < bytes.size(); length += 3) {
    auto result = parse_manifest(with_digest(bytes.substr(0, length)), nullptr);
    if (!result) {
      ASSERT_EQ(result.error().kind(), ErrorKind::kDamaged) << result.error().line();
    }
  }
}

TEST_F(ManifestFile, WhatCannotBeReadIsNotWritten) {
  Manifest m = sample_manifest();
  m.containers[0].files[0].path = "relative";
  auto result = manifest_bytes(m, key);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kInternal);
}

}  // namespace
}  // namespace stillpoint::statefile
