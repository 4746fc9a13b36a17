// stillpoint verify: every byte of a checkpoint against its checksum.
#include <cstdio>

#include "common/paths.h"
#include "common/units.h"
#include "common/worker.h"
#include "criu-glue/statefile/pack.h"
#include "launcher/cli/options.h"
#include "launcher/cli/progress_bar.h"
#include "launcher/cli/read_checkpoint.h"

namespace stillpoint::cli {

namespace {

CommandLine command_line() {
  CommandLine line(
      "verify [options] CHECKPOINT|JOB",
      "Checks every byte of a checkpoint against its checksums; as root, the signature as well.\n");
  line.options.add_options()("checkpoint-dir", po::value<std::string>()->value_name("DIR"),
                             "where to look for JOB (default: ./stillpoint-checkpoints)");
  line.hidden.add_options()("checkpoint", po::value<std::string>());
  line.positional.add("checkpoint", 1);
  return line;
}

Result<uint64_t> verify_statefiles(const ReadCheckpoint& checkpoint, ProgressBar& bar) {
  uint64_t total = 0;
  for (const auto& c : checkpoint.manifest.containers)
    for (const auto& image : c.images) total += image.size;
  for (const auto& c : checkpoint.manifest.containers) {
    const std::string path = paths::join(checkpoint.place, c.statefile);
    const auto body = [&](Progress& progress) -> Result<std::string> {
      progress.total(total);
      auto r = statefile::verify(path, c, [&](uint64_t n) { progress.add(n); });
      return r ? Result<std::string>("") : fail(r.error());
    };
    // In a worker: a statefile that makes HDF5 crash or loop is reported like any other damaged
    // one.
    auto worker = Worker::start("verifying " + path, nullptr, body);
    if (!worker) return fail(worker.error());
    auto done = worker->finish(Deadline::in(std::chrono::hours(24)));
    if (!done) return fail(done.error());
    bar.update("verify", worker->progress().done, total);
  }
  return total;
}

}  // namespace

Result<int> verify_command(const Arguments& arguments) {
  auto parsed = parse(command_line(), arguments);
  if (!parsed) return fail(parsed.error());
  if (parsed->help) return 0;
  auto read = read_named(*parsed, "verify");
  if (!read) return fail(read.error());
  ProgressBar bar;
  auto bytes = verify_statefiles(*read, bar);
  bar.finished();
  if (!bytes) return fail(bytes.error());
  std::printf("%s is whole: %s checked, signature %s\n", read->place.c_str(),
              format_bytes(*bytes).c_str(),
              read->signature_checked ? "good" : "not checked (only root has the key)");
  return 0;
}

}  // namespace stillpoint::cli
