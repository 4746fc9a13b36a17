// manifest.h5: the record of a checkpoint, signed.  The file is HDF5 with a user block of 512 bytes
// in front, which holds version, digest and signature of everything behind it; so every byte of the
// file is covered, and the agent checks the signature before it lets HDF5 look at what a user may
// have written.
#pragma once

#include <optional>
#include <string>

#include "common/error.h"
#include "criu-glue/statefile/record.h"

namespace stillpoint::statefile {

// The site's secret, root's alone.  Nodes that restart each other's checkpoints hold the same one.
struct SigningKey {
  std::array<uint8_t, 32> bytes{};
};
// Reads the key; makes one (0400, fsynced) where there is none and `create` is set.  kPermission
// for who may not read it.  A key file that others can read or write is refused.
Result<SigningKey> load_signing_key(const std::string& path, bool create);

// The whole file, ready to be written.
Result<std::string> manifest_bytes(const Manifest& manifest, const SigningKey& key);

enum class Trust {
  kSigned,
  kUnchecked
};  // unchecked: read without the key (people may look at their own)

// Checks version, digest and, with a key, the signature, then parses.  kUnfit for a newer format
// (before anything else is looked at), kDamaged for the rest, with what is wrong.
Result<Manifest> parse_manifest(const std::string& bytes, const SigningKey* key);

}  // namespace stillpoint::statefile
