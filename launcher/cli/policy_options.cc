#include "launcher/cli/policy_options.h"

#include "common/paths.h"
#include "launcher/cli/caller.h"

namespace stillpoint::cli {

void add_policy_options(po::options_description& options) {
  options.add_options()("checkpoint-interval", po::value<std::string>()->value_name("T"),
                        "a checkpoint every T: minutes, HH:MM:SS, D-HH, or 10s, 5m, 2h")(
      "checkpoint-dir", po::value<std::string>()->value_name("DIR"),
      "where checkpoints are kept (default: ./stillpoint-checkpoints)")(
      "checkpoint-keep", po::value<std::string>()->value_name("K"),
      "how many permanent checkpoints are kept, 0 for all (default: 2)")(
      "staging", po::value<std::string>()->value_name("DIR"),
      "root's own fast directory for images on their way (default: /dev/shm/stillpoint)")(
      "hold-limit", po::value<std::string>()->value_name("T"),
      "give a checkpoint up that holds the job still for longer (default: 10m)");
}

Result<agent::CheckpointPolicy> policy_from(const Parsed& parsed) {
  agent::CheckpointPolicy policy;
  const auto duration = [&](const char* name, Milliseconds& into) -> Result<> {
    if (!parsed.has(name)) return {};
    auto value = parse_duration(parsed.text(name));
    if (!value) return fail(value.error().during(std::string("--") + name));
    into = *value;
    return {};
  };
  if (auto r = duration("checkpoint-interval", policy.interval); !r) return fail(r.error());
  if (auto r = duration("hold-limit", policy.hold_limit); !r) return fail(r.error());
  if (parsed.has("checkpoint-keep")) {
    auto keep = parse_number(parsed.text("checkpoint-keep"), "--checkpoint-keep", 0, 1'000'000);
    if (!keep) return fail(keep.error());
    policy.keep = static_cast<uint32_t>(*keep);
  }
  const auto here = current_directory();
  const auto path = [&](const char* name, const char* otherwise) -> Result<std::string> {
    const std::string given = parsed.has(name) ? parsed.text(name) : otherwise;
    if (given.empty()) return fail(ErrorKind::kUsage, std::string("--") + name + " is empty");
    return paths::absolute(given, here);
  };
  auto directory = path("checkpoint-dir", paths::kDefaultCheckpoints);
  if (!directory) return fail(directory.error());
  policy.directory = *directory;
  auto staging = path("staging", paths::kDefaultStaging);
  if (!staging) return fail(staging.error());
  policy.staging = *staging;
  return policy;
}

}  // namespace stillpoint::cli
