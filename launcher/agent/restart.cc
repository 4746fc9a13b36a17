#include "launcher/agent/restart.h"

#include <nlohmann/json.hpp>

#include "common/paths.h"
#include "common/worker.h"
#include "criu-glue/statefile/manifest.h"

namespace stillpoint::agent {

using namespace std::chrono_literals;

namespace {

constexpr auto kStoreWait = 60s;
constexpr size_t kMostManifest = 64 << 20;

// What the find worker reports: JSON of the place, then the manifest's bytes.
Result<std::string> find_as_user(const RestartRequest& request) {
  auto place = statefile::resolve_checkpoint(paths::absolute(request.checkpoint, request.directory),
                                             request.policy.directory);
  if (!place &&
      request.checkpoint.find('/') == std::string::npos)  // not a path: perhaps a job's name
    place = statefile::resolve_checkpoint(request.checkpoint, request.policy.directory);
  if (!place) return fail(place.error());
  auto store = statefile::Store::open_existing(place->job_directory);
  if (!store) return fail(store.error());
  auto bytes = read_file(store->manifest(place->epoch), kMostManifest);
  if (!bytes) return fail(bytes.error());
  const nlohmann::json head = {{"directory", place->job_directory}, {"epoch", place->epoch}};
  return head.dump() + '\0' + *bytes;
}

Result<> check_owner(const statefile::Manifest& manifest, const Identity& user) {
  if (manifest.uid == user.uid) return {};
  return fail(ErrorKind::kPermission,
              "the checkpoint belongs to " + manifest.user + " (uid " +
                  std::to_string(manifest.uid) + "), you act for " + user.name,
              user.uid == 0 ? "restart it with --user " + manifest.user : "");
}

}  // namespace

Result<FoundCheckpoint> find_checkpoint(const RestartRequest& request) {
  auto worker = Worker::start("looking for the checkpoint", &request.user,
                              [&](Progress&) { return find_as_user(request); });
  if (!worker) return fail(worker.error());
  auto report = worker->finish(Deadline::in(kStoreWait));
  if (!report) return fail(report.error());
  const size_t zero = report->find('\0');
  const auto head = nlohmann::json::parse(report->substr(0, zero), nullptr, false);
  if (zero == report->npos || !head.is_object())
    return fail(ErrorKind::kInternal, "looking for the checkpoint: no answer");
  FoundCheckpoint found;
  found.place = {head.value("directory", ""), head.value("epoch", uint64_t{0})};

  auto key = statefile::load_signing_key(paths::kSigningKey, true);
  if (!key) return fail(key.error());
  auto manifest = statefile::parse_manifest(report->substr(zero + 1), &*key);
  const std::string place = paths::epoch_directory(found.place.job_directory, found.place.epoch);
  if (!manifest) return fail(manifest.error().during(place));
  if (auto r = check_owner(*manifest, request.user); !r) return fail(r.error().during(place));
  found.manifest = std::move(*manifest);
  return found;
}

}  // namespace stillpoint::agent
