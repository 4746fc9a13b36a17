// Reading checkpoints for people: as the user whose they are, never with root's rights over what a
// user wrote.
#pragma once

#include <optional>
#include <string>

#include "common/error.h"
#include "criu-glue/statefile/manifest.h"
#include "criu-glue/statefile/store.h"
#include "launcher/cli/options.h"

namespace stillpoint::cli {

struct ReadCheckpoint {
  std::string place;  // DIR/<job>.<step>/<epoch>
  statefile::Manifest manifest;
  bool signature_checked = false;
};

// Takes what root alone can read (the signing key), then becomes the calling user for good.
class Reader {
 public:
  static Result<Reader> start();
  Result<ReadCheckpoint> read(const std::string& named, const std::string& checkpoints) const;
  Result<ReadCheckpoint> read(const statefile::Store& store, uint64_t epoch) const;

 private:
  std::optional<statefile::SigningKey> key_;
};

// The checkpoint that a command line names (its options: "checkpoint", "checkpoint-dir").
Result<ReadCheckpoint> read_named(const Parsed& parsed, const std::string& command);

}  // namespace stillpoint::cli
