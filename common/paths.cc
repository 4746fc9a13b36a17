#include "common/paths.h"

#include <charconv>
#include <filesystem>

namespace stillpoint::paths {

namespace {

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

}  // namespace

Result<> check_job_name(std::string_view name) {
  bool good = !name.empty() && name.size() <= 64 && is_word(name.front());
  for (char c : name) good = good && (is_word(c) || c == '.' || c == '_' || c == '-');
  if (good) return {};
  return fail(ErrorKind::kUsage, "'" + std::string(name) + "' cannot be the name of a job",
              "use 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit");
}

std::string join(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.ends_with('/')) path += '/';
  return path.append(name);
}

std::string part_name(std::string_view job, uint32_t index) {
  return std::string(job) + "@" + std::to_string(index);
}

std::string job_of(std::string_view name) {
  return std::string(name.substr(0, name.find('@')));
}

std::string job_run_directory(std::string_view job) {
  return join(kJobsDirectory, job);
}
std::string control_socket(std::string_view job) {
  return join(job_run_directory(job), "control.sock");
}
std::string job_note(std::string_view job) {
  return join(job_run_directory(job), "job.json");
}

std::string job_directory(std::string_view checkpoints, std::string_view job, uint32_t step) {
  return join(checkpoints, std::string(job) + "." + std::to_string(step));
}

std::string epoch_directory(std::string_view job_directory, uint64_t epoch) {
  return join(job_directory, std::to_string(epoch));
}

std::string statefile(uint32_t container) {
  return "c" + std::to_string(container) + ".h5";
}

std::optional<uint64_t> epoch_of(std::string_view name) {
  uint64_t epoch = 0;
  const auto [end, ec] = std::from_chars(name.data(), name.data() + name.size(), epoch);
  if (ec != std::errc() || end != name.data() + name.size() || epoch == 0) return std::nullopt;
  if (std::to_string(epoch) != name) return std::nullopt;  // no leading zeros
  return epoch;
}

std::string absolute(std::string_view path, std::string_view base) {
  std::filesystem::path p(path);
  if (p.is_relative()) p = std::filesystem::path(base) / p;
  std::string text = p.lexically_normal().string();
  while (text.size() > 1 && text.ends_with('/')) text.pop_back();
  return text;
}

}  // namespace stillpoint::paths
