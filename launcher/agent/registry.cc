#include "launcher/agent/registry.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "common/log.h"
#include "common/paths.h"
#include "criu-glue/container/cgroup.h"

namespace stillpoint::agent {

namespace fs = std::filesystem;

namespace {

Result<> make_run_directories() {
  for (const char* path : {paths::kRunDirectory, paths::kJobsDirectory})
    if (::mkdir(path, 0755) != 0 && errno != EEXIST) return fail_errno(path);
  return {};
}

// The directory's lock, or kBusy while its agent or guard lives.
Result<Fd> lock_directory(const std::string& directory) {
  auto fd = open_file(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!fd) return fd;
  if (::flock(fd->get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno == EWOULDBLOCK) return fail(ErrorKind::kBusy, directory + " is held by a running job");
  return fail_errno(directory);
}

JobNote read_note(const std::string& job) {
  JobNote note{.job = job, .cgroup = {}, .staging = {}, .uid = 0, .agent_pid = 0};
  const auto text = read_file(paths::job_note(job));
  if (!text) return note;
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  if (!json.is_object()) return note;
  const auto field = [&](const char* name) {
    const auto it = json.find(name);
    return it != json.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  note.cgroup = field("cgroup");
  note.staging = field("staging");
  return note;
}

// Of jobs and of parts of jobs (paths::part_name).
std::vector<std::string> all_claims() {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(paths::kJobsDirectory, error))
    if (entry.is_directory(error)) names.push_back(entry.path().filename().string());
  return names;
}

}  // namespace

Result<JobClaim> JobClaim::claim(const std::string& job) {
  if (auto r = make_run_directories(); !r) return fail(r.error());
  sweep_dead_jobs();
  const std::string directory = paths::job_run_directory(job);
  if (::mkdir(directory.c_str(), 0755) != 0) {
    if (errno != EEXIST) return fail_errno(directory);
    return fail(ErrorKind::kBusy, "a job named " + job + " runs on this node already",
                "see `stillpoint status`, or choose another --name");
  }
  auto lock = lock_directory(directory);
  if (!lock) return fail(lock.error());
  return JobClaim(directory, std::move(*lock));
}

Result<> JobClaim::write(const JobNote& note) const {
  const nlohmann::json json = {{"job", note.job},
                               {"cgroup", note.cgroup},
                               {"staging", note.staging},
                               {"uid", note.uid},
                               {"agent_pid", note.agent_pid}};
  const std::string path = paths::job_note(note.job), fresh = path + paths::kTentative;
  auto fd = open_file(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644);
  if (!fd) return fail(fd.error());
  if (auto r = write_all(fd->get(), json.dump()); !r) return fail(r.error().during(fresh));
  if (::rename(fresh.c_str(), path.c_str()) != 0) return fail_errno(path);
  return {};
}

std::vector<std::string> jobs_here() {
  std::vector<std::string> jobs;
  for (const std::string& name : all_claims()) jobs.push_back(paths::job_of(name));
  std::sort(jobs.begin(), jobs.end());
  jobs.erase(std::unique(jobs.begin(), jobs.end()), jobs.end());
  return jobs;
}

size_t claims_here() {
  return all_claims().size();
}

std::optional<uid_t> owner_of(const std::string& job) {
  for (const std::string& name : all_claims()) {
    if (paths::job_of(name) != job) continue;
    const auto text = read_file(paths::job_note(name)).value_or("");
    const auto note = nlohmann::json::parse(text, nullptr, false);
    if (note.is_object() && note.contains("uid") && note["uid"].is_number_unsigned())
      return note["uid"].get<uid_t>();
  }
  return std::nullopt;
}

Result<> clean_up(const JobNote& note) {
  Result<> outcome;
  std::error_code error;
  if (!note.cgroup.empty() && fs::exists(note.cgroup, error)) {
    const auto group = container::Cgroup::at(note.cgroup);
    if (!group)
      outcome = fail(group.error());
    else if (auto r = group->destroy(Deadline::in(std::chrono::seconds(20))); !r)
      outcome = fail(r.error());
  }
  if (!note.staging.empty()) {
    fs::remove_all(note.staging, error);
    if (fs::path(note.staging).parent_path() == paths::kDefaultStaging)
      fs::remove(paths::kDefaultStaging, error);
  }
  fs::remove_all(paths::job_run_directory(note.job), error);
  if (outcome && error)
    outcome = fail(system_error(paths::job_run_directory(note.job), error.value()));
  return outcome;
}

unsigned sweep_dead_jobs() {
  unsigned swept = 0;
  for (const std::string& job : all_claims()) {
    const auto lock = lock_directory(paths::job_run_directory(job));
    if (!lock) continue;  // alive
    if (auto r = clean_up(read_note(job)); !r)
      log::warning("cleaning up after job " + job + ", whose agent died: " + r.error().line());
    else
      swept++;
  }
  return swept;
}

}  // namespace stillpoint::agent
