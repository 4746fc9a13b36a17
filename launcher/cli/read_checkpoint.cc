#include "launcher/cli/read_checkpoint.h"

#include <unistd.h>

#include "common/fd.h"
#include "common/paths.h"
#include "launcher/cli/caller.h"

namespace stillpoint::cli {

namespace {
constexpr size_t kMostManifest = 64 << 20;
}

Result<Reader> Reader::start() {
  Reader reader;
  if (::geteuid() == 0) {
    auto key = statefile::load_signing_key(paths::kSigningKey, false);
    if (key)
      reader.key_ = *key;
    else if (key.error().kind() != ErrorKind::kNotFound)
      return fail(key.error());
  }
  auto user = acting_user("");
  if (!user) return fail(user.error());
  if (auto r = read_as(*user); !r) return fail(r.error());
  return reader;
}

Result<ReadCheckpoint> Reader::read(const std::string& named,
                                    const std::string& checkpoints) const {
  auto place =
      statefile::resolve_checkpoint(paths::absolute(named, current_directory()), checkpoints);
  if (!place && named.find('/') == named.npos)
    place = statefile::resolve_checkpoint(named, checkpoints);
  if (!place) return fail(place.error());
  auto store = statefile::Store::open_existing(place->job_directory);
  if (!store) return fail(store.error());
  return read(*store, place->epoch);
}

Result<ReadCheckpoint> Reader::read(const statefile::Store& store, uint64_t epoch) const {
  ReadCheckpoint checkpoint;
  checkpoint.place = paths::epoch_directory(store.directory(), epoch);
  auto bytes = read_file(store.manifest(epoch), kMostManifest);
  if (!bytes) return fail(bytes.error());
  auto manifest = statefile::parse_manifest(*bytes, key_ ? &*key_ : nullptr);
  if (!manifest) return fail(manifest.error().during(checkpoint.place));
  checkpoint.manifest = std::move(*manifest);
  checkpoint.signature_checked = key_.has_value();
  return checkpoint;
}

Result<ReadCheckpoint> read_named(const Parsed& parsed, const std::string& command) {
  if (parsed.text("checkpoint").empty())
    return fail(ErrorKind::kUsage, "no checkpoint given", "see stillpoint " + command + " --help");
  const std::string given =
      parsed.has("checkpoint-dir") ? parsed.text("checkpoint-dir") : paths::kDefaultCheckpoints;
  auto reader = Reader::start();
  if (!reader) return fail(reader.error());
  return reader->read(parsed.text("checkpoint"), paths::absolute(given, current_directory()));
}

}  // namespace stillpoint::cli
