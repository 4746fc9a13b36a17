// The file: a block of text lines and zeros, then HDF5 made and read in memory.  HDF5 sees the
// bytes only after digest and signature were found right.
#include "criu-glue/statefile/manifest.h"

#include <charconv>
#include <cstring>

#include "criu-glue/statefile/digest.h"
#include "criu-glue/statefile/hdf5.h"
#include "criu-glue/statefile/names.h"
#include "criu-glue/statefile/text.h"

namespace stillpoint::statefile {

namespace {

constexpr size_t kKeyIdDigits = 8, kDigestDigits = 64;

std::unexpected<Error> damaged(const std::string& why) {
  return fail(ErrorKind::kDamaged, "the manifest is damaged: " + why);
}

std::string format_line(uint64_t version) {
  return names::kBlockFormat + std::to_string(version) + "\n";
}

// Tells keys apart without giving them away.
std::string id_of(const SigningKey& key) {
  return to_hex(digest_of(std::as_bytes(std::span(key.bytes)))).substr(0, kKeyIdDigits);
}

Digest sign(const SigningKey& key, std::string_view body) {
  Hasher hasher(key.bytes);
  hasher.add(format_line(names::kManifestVersion));
  hasher.add(body);
  return hasher.digest();
}

// Of every byte of a file but those of the digest's own line: so nothing can change unseen, even by
// one who cannot check the signature.
Digest digest_around_its_line(std::string_view first_line, std::string_view behind) {
  Hasher hasher;
  hasher.add(first_line);
  hasher.add(behind);
  return hasher.digest();
}

const size_t kDigestLine = std::string_view(names::kBlockDigest).size() + kDigestDigits + 1;

std::string make_file(const SigningKey& key, std::string_view body) {
  const std::string first = format_line(names::kManifestVersion);
  std::string behind = names::kBlockSignature + id_of(key) + " " + to_hex(sign(key, body)) + "\n";
  behind.resize(names::kBlock - first.size() - kDigestLine, '\0');
  behind += body;
  return first + names::kBlockDigest + to_hex(digest_around_its_line(first, behind)) + "\n" +
         behind;
}

// The block of version 1, taken apart.
struct Block {
  Digest digest{}, signature{};
  std::string key_id;
};

bool take(std::string_view& text, std::string_view expected) {
  if (!text.starts_with(expected)) return false;
  text.remove_prefix(expected.size());
  return true;
}

bool take_digest(std::string_view& text, Digest& digest) {
  auto taken = digest_from_hex(text.substr(0, kDigestDigits));
  if (!taken) return false;
  digest = *taken;
  text.remove_prefix(kDigestDigits);
  return true;
}

// kUnfit for a version that we do not know; nothing behind that line is looked at then.
Result<> take_version(std::string_view& text) {
  if (!take(text, names::kBlockFormat))
    return fail(ErrorKind::kDamaged, "this is not a manifest of Stillpoint");
  uint64_t version = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), version);
  const auto digits = static_cast<size_t>(end - text.data());
  const bool good = ec == std::errc() && version > 0 && take(text, std::to_string(version)) &&
                    take(text, "\n") && digits == std::to_string(version).size();
  if (!good) return damaged("its first line names no version");
  if (version > names::kManifestVersion)
    return fail(ErrorKind::kUnfit,
                "the checkpoint has format " + std::to_string(version) +
                    ", this Stillpoint reads " + std::to_string(names::kManifestVersion),
                "restart it with the Stillpoint that made it, or a newer one");
  return {};
}

Result<Block> parse_block(std::string_view text) {
  Block block;
  if (auto r = take_version(text); !r) return fail(r.error());
  bool good = take(text, names::kBlockDigest) && take_digest(text, block.digest) &&
              take(text, "\n") && take(text, names::kBlockSignature) && text.size() > kKeyIdDigits;
  if (good) {
    block.key_id = text.substr(0, kKeyIdDigits);
    text.remove_prefix(kKeyIdDigits);
    good = bytes_from_hex(block.key_id) && take(text, " ") && take_digest(text, block.signature) &&
           take(text, "\n") && text.find_first_not_of('\0') == text.npos;
  }
  if (!good) return damaged("its first 512 bytes are not digest and signature");
  return block;
}

Result<> check_signature(const Block& block, std::string_view body, const SigningKey& key) {
  if (block.key_id != id_of(key))
    return fail(ErrorKind::kDamaged,
                "the checkpoint was signed with another key (" + block.key_id +
                    ") than this machine's (" + id_of(key) + ")",
                "copy the signing key of the machine that made the checkpoint");
  if (!same(sign(key, body), block.signature))
    return fail(ErrorKind::kDamaged, "the manifest is not genuine: its signature is wrong");
  return {};
}

Id memory_access() {
  constexpr size_t kGrowBy = 256 << 10;
  Id access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fapl_core(access.get(), kGrowBy, false);
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  return access;
}

Result<> write_text(hid_t file, const std::string& text) {
  Id type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), text.size());
  H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  Id space(H5Screate(H5S_SCALAR), H5Sclose);
  Id how(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(how.get(), false);
  Id dataset(H5Dcreate2(file, names::kManifestText, type.get(), space.get(), H5P_DEFAULT, how.get(),
                        H5P_DEFAULT),
             H5Dclose);
  if (!dataset ||
      H5Dwrite(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()) < 0)
    return fail(hdf5_error(ErrorKind::kInternal, "writing the manifest"));
  return {};
}

Result<> write_attributes(hid_t file, const Manifest& manifest) {
  const std::pair<const char*, std::string_view> texts[] = {
      {names::kFormat, names::kManifestFormat},
      {"job", manifest.job},
      {"created", manifest.created},
      {"user", manifest.user}};
  const std::pair<const char*, uint64_t> numbers[] = {
      {names::kFormatVersion, names::kManifestVersion},
      {"step", manifest.step},
      {"epoch", manifest.epoch}};
  for (const auto& [name, text] : texts)
    if (auto r = put_attribute(file, name, text); !r) return r;
  for (const auto& [name, number] : numbers)
    if (auto r = put_attribute(file, name, number); !r) return r;
  return {};
}

// The HDF5 part.  In HDF5's oldest format on purpose: before HDF5 2.0, H5Fget_file_image() leaves a
// wrong checksum in the superblocks of newer ones (HDFGroup/hdf5#1915).  It knows of the block in
// front of it, but the image that HDF5 gives comes without.
Result<std::string> make_body(const Manifest& manifest, const std::string& text) {
  prepare_hdf5();
  Id how(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  H5Pset_userblock(how.get(), names::kBlock);
  Id file(H5Fcreate("manifest", H5F_ACC_TRUNC, how.get(), memory_access().get()), H5Fclose);
  if (!file) return fail(hdf5_error(ErrorKind::kInternal, "making the manifest"));
  if (auto r = write_text(file.get(), text); !r) return fail(r.error());
  if (auto r = write_attributes(file.get(), manifest); !r) return fail(r.error());
  std::string body;
  ssize_t size = -1;
  if (H5Fflush(file.get(), H5F_SCOPE_GLOBAL) >= 0) size = H5Fget_file_image(file.get(), nullptr, 0);
  if (size > 0) {
    body.resize(static_cast<size_t>(size));
    size = H5Fget_file_image(file.get(), body.data(), body.size());
  }
  if (size <= 0) return fail(hdf5_error(ErrorKind::kInternal, "making the manifest"));
  return body;
}

Result<std::string> read_text(const std::string& bytes) {
  prepare_hdf5();
  Id access = memory_access();
  // HDF5 takes a pointer to memory that it does not change: it makes its own copy.
  if (H5Pset_file_image(access.get(), const_cast<char*>(bytes.data()), bytes.size()) < 0)
    return fail(hdf5_error(ErrorKind::kInternal, "reading the manifest"));
  Id file(H5Fopen("manifest", H5F_ACC_RDONLY, access.get()), H5Fclose);
  Id dataset(file ? H5Dopen2(file.get(), names::kManifestText, H5P_DEFAULT) : H5I_INVALID_HID,
             H5Dclose);
  if (!dataset) return fail(hdf5_error(ErrorKind::kDamaged, "reading the manifest"));
  Id type(H5Dget_type(dataset.get()), H5Tclose);
  Id space(H5Dget_space(dataset.get()), H5Sclose);
  const size_t size = H5Tget_size(type.get());
  if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) != 0 ||
      H5Sget_simple_extent_type(space.get()) != H5S_SCALAR || size == 0 || size > bytes.size())
    return damaged("its text is not a string");
  std::string text(size, '\0');
  if (H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()) < 0)
    return fail(hdf5_error(ErrorKind::kDamaged, "reading the manifest"));
  return text;
}

}  // namespace

Result<std::string> manifest_bytes(const Manifest& manifest, const SigningKey& key) {
  const std::string text = to_json(manifest);
  // What could not be read again must not be written.
  if (auto back = manifest_from_json(text); !back)
    return fail(Error(ErrorKind::kInternal, back.error().what()).during("making the manifest"));
  auto body = make_body(manifest, text);
  if (!body) return body;
  if (body->size() + names::kBlock > names::kMaxManifest)
    return fail(ErrorKind::kInternal, "the manifest is larger than a manifest may be");
  return make_file(key, *body);
}

Result<Manifest> parse_manifest(const std::string& bytes, const SigningKey* key) {
  if (bytes.size() > names::kMaxManifest) return damaged("it is too large");
  const std::string_view all(bytes);
  auto block = parse_block(all.substr(0, names::kBlock));
  if (!block) return fail(block.error());
  if (bytes.size() <= names::kBlock) return damaged("it ends early");
  const std::string_view body = all.substr(names::kBlock);
  const size_t first = format_line(names::kManifestVersion).size();
  const Digest digest =
      digest_around_its_line(all.substr(0, first), all.substr(first + kDigestLine));
  if (!same(digest, block->digest)) return damaged("its digest differs");
  if (key)
    if (auto r = check_signature(*block, body, *key); !r) return fail(r.error());
  auto text = read_text(bytes);
  if (!text) return fail(text.error());
  return manifest_from_json(*text);
}

}  // namespace stillpoint::statefile
