// stillpoint inspect: what a checkpoint holds.
#include <cstdio>
#include <iostream>

#include "common/paths.h"
#include "common/units.h"
#include "launcher/cli/options.h"
#include "launcher/cli/read_checkpoint.h"

namespace stillpoint::cli {

namespace {

CommandLine command_line() {
  CommandLine line(
      "inspect [options] CHECKPOINT|JOB",
      "Shows what a checkpoint holds: ranks, sizes, files, mounts, versions, phase times.\n");
  line.options.add_options()("checkpoint-dir", po::value<std::string>()->value_name("DIR"),
                             "where to look for JOB (default: ./stillpoint-checkpoints)")(
      "json", "print the manifest as JSON");
  line.hidden.add_options()("checkpoint", po::value<std::string>());
  line.positional.add("checkpoint", 1);
  return line;
}

std::string command_of(const statefile::Manifest& m) {
  std::string text;
  for (const std::string& word : m.argv) text += (text.empty() ? "" : " ") + word;
  return text;
}

void print_head(const ReadCheckpoint& c) {
  const auto& m = c.manifest;
  std::printf("checkpoint   %s\n", c.place.c_str());
  std::printf("job          %s.%u of %s (uid %u), %u ranks, run %s\n", m.job.c_str(), m.step,
              m.user.c_str(), m.uid, m.ranks, m.run.c_str());
  std::printf("command      %s\n", command_of(m).c_str());
  std::printf("directory    %s\n", m.directory.c_str());
  std::printf("created      %s", m.created.c_str());
  if (m.restarted_from) std::printf(", by a run restarted from checkpoint %lu", m.restarted_from);
  std::printf("\nsignature    %s\n",
              c.signature_checked ? "good" : "not checked (only root has the key)");
  std::printf("versions     stillpoint %s, CRIU %s, kernel %s (%s)\n", m.stillpoint_version.c_str(),
              m.criu_version.c_str(), m.kernel.c_str(), m.machine.c_str());
  std::printf("CPU          %s\n", m.cpu.model.c_str());
  std::printf("phases       freeze %lu ms, dump %lu ms, thaw %lu ms, pack %lu ms, verify %lu ms\n",
              m.times.freeze, m.times.dump, m.times.thaw, m.times.pack, m.times.verify);
  std::printf("output       %lu bytes of stdout and %lu of stderr were written before\n",
              m.stdout_bytes, m.stderr_bytes);
}

void print_container(const statefile::ContainerRecord& c) {
  uint64_t memory = 0;
  for (const auto& image : c.images) memory += image.size;
  std::printf("\ncontainer %u  %s: %s in %zu images, stored as %s\n", c.index, c.statefile.c_str(),
              format_bytes(memory).c_str(), c.images.size(),
              format_bytes(c.statefile_size).c_str());
  std::printf("  %6s %8s %10s  %s\n", "RANK", "PID", "MEMORY", "PROGRAM");
  for (const auto& r : c.ranks)
    std::printf("  %6u %8d %10s  %s\n", r.rank, r.pid, format_bytes(r.memory).c_str(),
                r.program.c_str());
  if (c.in_flight.connections || c.in_flight.closed_windows)
    std::printf(
        "  in flight at the lock: %lu connections with %lu bytes, %lu with a closed window\n",
        c.in_flight.connections, c.in_flight.bytes, c.in_flight.closed_windows);
  std::printf("  mounts:");
  for (const auto& mount : c.mounts) std::printf(" %s", mount.destination.c_str());
  std::printf("\n  files open for writing (rolled back on restart):\n");
  for (const auto& f : c.files)
    if (f.writable) std::printf("    %s, %s\n", f.path.c_str(), format_bytes(f.size).c_str());
  std::printf("  files open for reading or mapped (must be there unchanged):\n");
  for (const auto& f : c.files)
    if (!f.writable) std::printf("    %s, %s\n", f.path.c_str(), format_bytes(f.size).c_str());
}

}  // namespace

Result<int> inspect_command(const Arguments& arguments) {
  auto parsed = parse(command_line(), arguments);
  if (!parsed) return fail(parsed.error());
  if (parsed->help) return 0;
  auto read = read_named(*parsed, "inspect");
  if (!read) return fail(read.error());
  if (parsed->has("json")) {
    std::cout << statefile::to_json(read->manifest) << '\n';
    return 0;
  }
  print_head(*read);
  for (const auto& c : read->manifest.containers) print_container(c);
  return 0;
}

}  // namespace stillpoint::cli
