// stillpoint list: the checkpoints in a directory.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "common/paths.h"
#include "common/units.h"
#include "launcher/cli/caller.h"
#include "launcher/cli/options.h"
#include "launcher/cli/read_checkpoint.h"

namespace stillpoint::cli {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Row {
  std::string job, path, created, error;
  uint64_t epoch = 0, stored = 0, memory = 0;
  uint32_t ranks = 0;
};

CommandLine command_line() {
  CommandLine line("list [options] [DIR]",
                   "Lists the permanent checkpoints in DIR (default: ./stillpoint-checkpoints), "
                   "oldest first.\n");
  line.options.add_options()("json", "print facts as JSON");
  line.hidden.add_options()("directory", po::value<std::string>());
  line.positional.add("directory", 1);
  return line;
}

Row row_of(const Reader& reader, const statefile::Store& store, uint64_t epoch) {
  Row row{.job = fs::path(store.directory()).filename().string(),
          .path = paths::epoch_directory(store.directory(), epoch),
          .created = {},
          .error = {},
          .epoch = epoch};
  auto read = reader.read(store, epoch);
  if (!read) {
    row.error = read.error().line();
    return row;
  }
  row.job = read->manifest.job;
  row.created = read->manifest.created;
  row.ranks = read->manifest.ranks;
  for (const auto& c : read->manifest.containers) {
    row.stored += c.statefile_size;
    for (const auto& image : c.images) row.memory += image.size;
  }
  return row;
}

Result<std::vector<Row>> rows_in(const Reader& reader, const std::string& directory) {
  std::error_code error;
  std::vector<std::string> jobs;
  for (const auto& entry : fs::directory_iterator(directory, error))
    if (entry.is_directory(error)) jobs.push_back(entry.path().string());
  if (error) return fail(system_error(directory, error.value()));
  std::sort(jobs.begin(), jobs.end());
  std::vector<Row> rows;
  for (const std::string& job : jobs) {
    auto store = statefile::Store::open_existing(job);
    if (!store) continue;
    for (const uint64_t epoch : store->epochs()) rows.push_back(row_of(reader, *store, epoch));
  }
  return rows;
}

void print(const std::vector<Row>& rows) {
  std::printf("%-24s %6s %6s  %-20s %10s %10s  %s\n", "JOB", "EPOCH", "RANKS", "CREATED", "MEMORY",
              "STORED", "PATH");
  for (const Row& r : rows) {
    if (r.error.empty())
      std::printf("%-24s %6lu %6u  %-20s %10s %10s  %s\n", r.job.c_str(), r.epoch, r.ranks,
                  r.created.c_str(), format_bytes(r.memory).c_str(), format_bytes(r.stored).c_str(),
                  r.path.c_str());
    else
      std::printf("%-24s %6lu cannot be read: %s\n", r.job.c_str(), r.epoch, r.error.c_str());
  }
}

}  // namespace

Result<int> list_command(const Arguments& arguments) {
  auto parsed = parse(command_line(), arguments);
  if (!parsed) return fail(parsed.error());
  if (parsed->help) return 0;
  const std::string given =
      parsed->has("directory") ? parsed->text("directory") : paths::kDefaultCheckpoints;
  const std::string directory = paths::absolute(given, current_directory());
  auto reader = Reader::start();
  if (!reader) return fail(reader.error());
  auto rows = rows_in(*reader, directory);
  if (!rows) return fail(rows.error());
  if (parsed->has("json")) {
    json all = json::array();
    for (const Row& r : *rows)
      all.push_back({{"job", r.job},
                     {"epoch", r.epoch},
                     {"ranks", r.ranks},
                     {"created", r.created},
                     {"memory_bytes", r.memory},
                     {"stored_bytes", r.stored},
                     {"path", r.path},
                     {"error", r.error}});
    std::cout << json{{"checkpoints", all}}.dump(2) << '\n';
  } else if (rows->empty()) {
    std::printf("no checkpoints in %s\n", directory.c_str());
  } else {
    print(*rows);
  }
  return 0;
}

}  // namespace stillpoint::cli
