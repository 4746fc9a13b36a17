// stillpoint checkpoint: asks a running job for a checkpoint and waits until it is permanent.
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "common/log.h"
#include "launcher/cli/control_client.h"
#include "launcher/cli/options.h"
#include "launcher/cli/progress_bar.h"

namespace stillpoint::cli {

namespace {

CommandLine command_line() {
  CommandLine line("checkpoint [options] JOB",
                   "Checkpoints the running job JOB and waits until the checkpoint is permanent; "
                   "prints its directory.\n"
                   "The job's user and root may do this.\n");
  line.options.add_options()(
      "stop", "end the job once the checkpoint is permanent; nothing runs beyond it")(
      "timeout", po::value<std::string>()->value_name("T"),
      "wait no longer than this (default: 1 day)")("json", "print facts as JSON");
  line.hidden.add_options()("job", po::value<std::string>());
  line.positional.add("job", 1);
  return line;
}

}  // namespace

Result<int> checkpoint_command(const Arguments& arguments) {
  auto parsed = parse(command_line(), arguments);
  if (!parsed) return fail(parsed.error());
  if (parsed->help) return 0;
  const std::string job = parsed->text("job");
  if (job.empty())
    return fail(ErrorKind::kUsage, "no job given", "see stillpoint checkpoint --help");
  auto timeout = parse_duration(parsed->has("timeout") ? parsed->text("timeout") : "1d");
  if (!timeout) return fail(timeout.error().during("--timeout"));

  control::Request request;
  request.mutable_checkpoint()->set_stop(parsed->has("stop"));
  ProgressBar bar;
  auto reply = ask(job, request, Deadline::in(*timeout),
                   [&](const control::Progress& p) { bar.update(p.phase(), p.done(), p.total()); });
  bar.finished();
  if (!reply) return fail(reply.error().during("checkpoint of " + job));
  const auto& c = reply->checkpoint();
  if (parsed->has("json")) {
    const nlohmann::json facts = {{"job", job},
                                  {"epoch", c.epoch()},
                                  {"path", c.path()},
                                  {"stop_ms", c.stop_ms()},
                                  {"total_ms", c.total_ms()},
                                  {"memory_bytes", c.memory_bytes()},
                                  {"stored_bytes", c.stored_bytes()},
                                  {"stopped", c.stopped()}};
    std::cout << facts.dump(2) << '\n';
  } else {
    std::cout << c.path() << '\n';
  }
  return 0;
}

}  // namespace stillpoint::cli
