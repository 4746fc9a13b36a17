#include "launcher/agent/node_facts.h"

#include <sys/utsname.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <sstream>

#include "common/fd.h"
#include "criu-glue/container/mounts.h"

namespace stillpoint::agent {

namespace {

// The value of "key<spaces>: value" in a file of /proc.
std::string field(std::string_view text, std::string_view key) {
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    if (colon == line.npos) continue;
    const size_t value = line.find_first_not_of(" \t", colon + 1);
    return value == line.npos ? "" : line.substr(value);
  }
  return {};
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), std::istream_iterator<std::string>()};
}

utsname uname_here() {
  utsname name{};
  ::uname(&name);
  return name;
}

std::string joined(const std::vector<std::string>& all, size_t most) {
  std::string text;
  for (size_t i = 0; i < all.size() && i < most; i++) text += (i ? ", " : "") + all[i];
  if (all.size() > most) text += " and " + std::to_string(all.size() - most) + " more";
  return text;
}

}  // namespace

statefile::CpuRecord this_cpu() {
  const std::string info = read_file("/proc/cpuinfo").value_or("");
  statefile::CpuRecord cpu{field(info, "model name"), words(field(info, "flags"))};
  std::sort(cpu.flags.begin(), cpu.flags.end());
  return cpu;
}

std::string kernel_release() {
  return uname_here().release;
}
std::string machine() {
  return uname_here().machine;
}

std::vector<statefile::RankRecord> rank_records(const std::vector<int32_t>& pids,
                                                const std::vector<pid_t>& processes) {
  std::map<int32_t, statefile::RankRecord> by_pid;
  for (const pid_t process : processes) {
    const auto status = read_file("/proc/" + std::to_string(process) + "/status");
    if (!status) continue;  // it has ended meanwhile
    const auto inside = words(field(*status, "NSpid"));
    if (inside.empty()) continue;
    const auto resident = words(field(*status, "VmRSS"));
    statefile::RankRecord record;
    record.pid = std::atoi(inside.back().c_str());
    record.program = field(*status, "Name");
    record.memory = resident.empty() ? 0 : std::strtoull(resident[0].c_str(), nullptr, 10) * 1024;
    by_pid[record.pid] = record;
  }
  std::vector<statefile::RankRecord> ranks;
  for (uint32_t rank = 0; rank < pids.size(); rank++) {
    if (pids[rank] < 0) continue;
    statefile::RankRecord record{.rank = rank, .pid = pids[rank], .program = {}, .memory = 0};
    if (const auto it = by_pid.find(pids[rank]); it != by_pid.end()) {
      record = it->second;
      record.rank = rank;
    }
    ranks.push_back(record);
  }
  return ranks;
}

std::set<int32_t> alive_inside(const std::vector<pid_t>& processes) {
  std::set<int32_t> alive;
  for (const pid_t process : processes) {
    const auto status = read_file("/proc/" + std::to_string(process) + "/status");
    if (!status) continue;
    const std::string state = field(*status, "State");
    const auto inside = words(field(*status, "NSpid"));
    if (!inside.empty() && !state.starts_with('Z') && !state.starts_with('X'))
      alive.insert(std::atoi(inside.back().c_str()));
  }
  return alive;
}

Result<> cpu_can_run(const statefile::CpuRecord& dumped, const statefile::CpuRecord& here) {
  std::vector<std::string> missing;
  std::set_difference(dumped.flags.begin(), dumped.flags.end(), here.flags.begin(),
                      here.flags.end(), std::back_inserter(missing));
  if (missing.empty()) return {};
  return fail(ErrorKind::kUnfit,
              "the checkpoint is from another type of CPU (" + dumped.model + "); this one (" +
                  here.model + ") lacks " + joined(missing, 8),
              "restart on a node whose CPU has these features");
}

Result<> fit_to_continue(const statefile::Manifest& manifest) {
  if (manifest.machine != machine())
    return fail(ErrorKind::kUnfit, "the checkpoint is from a machine of type " + manifest.machine +
                                       ", this is " + machine());
  if (auto r = cpu_can_run(manifest.cpu, this_cpu()); !r) return r;
  const auto mounts = container::real_mounts();
  if (!mounts) return fail(mounts.error());
  std::set<std::string> here;
  for (const auto& mount : *mounts) here.insert(mount.destination);
  std::vector<std::string> missing;
  for (const auto& c : manifest.containers)
    for (const auto& mount : c.mounts)
      if (!here.contains(mount.destination)) missing.push_back(mount.destination);
  if (missing.empty()) return {};
  return fail(ErrorKind::kUnfit,
              "file systems that were mounted at the checkpoint are not mounted here: " +
                  joined(missing, 8),
              "mount them and try again");
}

}  // namespace stillpoint::agent
