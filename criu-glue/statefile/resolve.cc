// What people type, made into a checkpoint.
#include <unistd.h>

#include <filesystem>

#include "common/paths.h"
#include "criu-glue/statefile/directory.h"
#include "criu-glue/statefile/store.h"

namespace stillpoint::statefile {

namespace {

namespace fs = std::filesystem;

bool has_manifest(const fs::path& directory) {
  std::error_code ec;
  return fs::is_regular_file(directory / paths::kManifest, ec);
}

Result<CheckpointPlace> place_of_epoch(const fs::path& directory) {
  const auto epoch = paths::epoch_of(directory.filename().string());
  if (!epoch)
    return fail(
        ErrorKind::kUsage,
        directory.string() + " holds a checkpoint, but its name is not the number of an epoch",
        "give the directory its number back");
  return CheckpointPlace{directory.parent_path().string(), *epoch};
}

// The newest permanent one of a job's directory.
Result<CheckpointPlace> place_of_job(const fs::path& directory) {
  auto store = Store::open_existing(directory.string());
  if (!store) return fail(store.error());
  auto latest = store->latest();
  if (!latest) return fail(latest.error());
  return CheckpointPlace{directory.string(), *latest};
}

// A path that exists, without links.  kNotFound if it is no checkpoint of any kind.
Result<CheckpointPlace> place_of_path(const fs::path& path) {
  std::error_code ec;
  if (path.filename() == paths::kManifest && fs::is_regular_file(path, ec))
    return place_of_epoch(path.parent_path());
  if (!fs::is_directory(path, ec))
    return fail(ErrorKind::kNotFound, path.string() + " is not a checkpoint");
  if (::access(path.c_str(), R_OK | X_OK) != 0)
    return fail_errno(path.string());  // somebody else's
  if (has_manifest(path)) return place_of_epoch(path);
  if (paths::epoch_of(path.filename().string()) && !place_of_job(path))
    return fail(ErrorKind::kNotFound,
                path.string() + " is not a complete checkpoint: it has no " + paths::kManifest);
  return place_of_job(path);
}

// Of the directories <name>.<step> the one with the highest step that has a checkpoint.
Result<CheckpointPlace> place_of_name(const std::string& name, const std::string& checkpoints) {
  auto directory = Directory::open(checkpoints);
  if (!directory) return fail(directory.error());
  auto entries = directory->names();
  if (!entries) return fail(entries.error());
  std::optional<uint64_t> newest;
  const std::string prefix = name + ".";
  for (const auto& entry : *entries) {
    if (!entry.starts_with(prefix)) continue;
    const std::string step = entry.substr(prefix.size());
    const auto number = step == "0" ? std::optional<uint64_t>(0) : paths::epoch_of(step);
    if (!number || (newest && *number < *newest)) continue;
    if (place_of_job(directory->path() + "/" + entry)) newest = number;
  }
  if (!newest) return fail(ErrorKind::kNotFound, "no checkpoint of a job of that name");
  return place_of_job(fs::path(checkpoints) / (prefix + std::to_string(*newest)));
}

Result<CheckpointPlace> absolute_place(Result<CheckpointPlace> place) {
  if (!place) return place;
  std::error_code ec;
  const auto path = fs::canonical(place->job_directory, ec);
  if (ec) return fail(system_error(place->job_directory, ec.value()));
  place->job_directory = path.string();
  return place;
}

}  // namespace

Result<CheckpointPlace> resolve_checkpoint(const std::string& named,
                                           const std::string& checkpoints) {
  std::error_code ec;
  const fs::path path = fs::canonical(named, ec);
  std::string as_path = ec ? "no such file or directory" : "";
  if (ec == std::errc::permission_denied) as_path = "permission denied";
  if (!ec) {
    auto place = place_of_path(path);
    if (place || place.error().kind() != ErrorKind::kNotFound) return place;
    as_path = place.error().what();
  }
  // A program beside its checkpoints may well be called like the job.
  const bool may_be_name = paths::check_job_name(named).has_value();
  if (!may_be_name) return fail(ErrorKind::kNotFound, "no checkpoint at " + named + ": " + as_path);

  auto exact = absolute_place(place_of_job(fs::path(checkpoints) / named));  // <job>.<step>
  if (exact) return exact;
  auto place = absolute_place(place_of_name(named, checkpoints));
  if (place) return place;
  const auto& why = place.error();
  if (why.kind() == ErrorKind::kPermission) return place;
  return fail(ErrorKind::kNotFound,
              "no checkpoint '" + named + "': as a path, " + as_path + "; as a job, nothing in " +
                  paths::join(checkpoints, named + ".<step>"),
              "name a job, or the path of a manifest, an epoch or a job's directory");
}

}  // namespace stillpoint::statefile
