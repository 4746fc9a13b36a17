#include "launcher/agent/agent.h"

#include <sys/prctl.h>
#include <sys/random.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <csignal>
#include <filesystem>

#include "common/log.h"
#include "common/paths.h"
#include "launcher/agent/checkpoint.h"
#include "launcher/agent/control_server.h"
#include "launcher/agent/interval.h"
#include "launcher/agent/job.h"
#include "launcher/agent/launch.h"
#include "launcher/agent/node_facts.h"
#include "launcher/agent/restart.h"

namespace stillpoint::agent {

namespace {

std::string draw_run() {
  uint64_t number = 0;
  (void)!::getrandom(&number, sizeof number, 0);
  char text[17];
  std::snprintf(text, sizeof text, "%016lx", number);
  return text;
}

void describe_node(statefile::Manifest& about) {
  about.stillpoint_version = STILLPOINT_VERSION;
  about.kernel = kernel_release();
  about.machine = machine();
  about.cpu = this_cpu();
}

statefile::Manifest about_run(const RunRequest& request) {
  statefile::Manifest about;
  about.job = request.job;
  about.run = draw_run();
  about.uid = request.user.uid;
  about.user = request.user.name;
  about.argv = request.argv;
  about.directory = request.directory;
  about.ranks = request.ranks;
  about.tag_output = request.tag_output;
  about.interval_ms = static_cast<uint64_t>(request.policy.interval.count());
  about.keep = request.policy.keep;
  describe_node(about);
  return about;
}

std::string ranks_text(uint32_t ranks) {
  return std::to_string(ranks) + (ranks == 1 ? " rank" : " ranks");
}

// A job to be checkpointed is not started where it could not be; nor over the checkpoints of an
// earlier run.
Result<> check_store(Job& job) {
  auto acting = ActingAs::user(job.user());
  if (!acting) return fail(acting.error());
  const std::string directory =
      paths::job_directory(job.policy().directory, job.about().job, job.about().step);
  if (auto earlier = statefile::Store::open_existing(directory);
      earlier && !earlier->epochs().empty())
    return fail(
        ErrorKind::kBusy, directory + " holds checkpoints of an earlier run of " + job.about().job,
        "restart that run with `stillpoint restart`, choose another --name, or remove them");
  return {};
}

// From the first link to the end of the job.
Task<int> serve(Job& job, Checkpointer& checkpointer, IntervalTimer& interval,
                std::unique_ptr<ControlServer>& server, std::string hello) {
  log::info(hello);
  interval.start();
  auto started = ControlServer::start(job, checkpointer, interval);
  if (started)
    server = std::move(*started);
  else
    log::warning("the job runs, but cannot be asked: " + started.error().line());
  job.set_phase("running");
  co_await job.wait_end();
  // A job that failed is worth the checkpoint that has its dump already; one that is through needs
  // none.
  if (checkpointer.busy() && !(job.failed() && checkpointer.dumped())) checkpointer.cancel();
  co_await checkpointer.idle();
  const int status = co_await job.finish();
  if (server) co_await server->idle();
  co_return status;
}

void say_goodbye(const Job& job, const Checkpointer& checkpointer, int status) {
  if (status == 0 || checkpointer.last_epoch() == 0) return;
  const std::string place =
      paths::job_directory(job.policy().directory, job.about().job, job.about().step);
  const std::string epoch = std::to_string(checkpointer.last_epoch());
  if (status == kStoppedAtCheckpoint)
    log::info("job " + job.about().job + " is stopped at checkpoint " + epoch +
              "; go on with: stillpoint restart " + place);
  else
    log::info("its last checkpoint is " + epoch + "; go back to it with: stillpoint restart " +
              place);
}

// Runs one coroutine of the job to its end on this thread.
Result<int> run_to_end(asio::io_context& io, Task<Result<int>> task) {
  Result<int> outcome = fail(ErrorKind::kInternal, "the agent ended early");
  asio::co_spawn(io, std::move(task), [&](std::exception_ptr error, Result<int> result) {
    try {
      if (error) std::rethrow_exception(error);
      outcome = std::move(result);
    } catch (const std::exception& e) {
      outcome = fail(ErrorKind::kInternal, e.what());
    }
    io.stop();
  });
  io.run();
  return outcome;
}

}  // namespace

Result<int> run_job(const RunRequest& request, ProgressSink& sink) {
  ::signal(SIGPIPE, SIG_IGN);
  asio::io_context io(1);
  auto made = Job::prepare(io, about_run(request), request.user, request.policy);
  if (!made) return fail(made.error());
  Job& job = **made;
  if (auto r = check_store(job); !r) return fail(r.error());
  if (request.policy.interval.count() > 0)
    if (auto r = job.store(); !r) return fail(r.error());
  if (auto r = job.launch(request); !r) return fail(r.error());
  Checkpointer checkpointer(job);
  IntervalTimer interval(job, checkpointer, sink);
  std::unique_ptr<ControlServer> server;
  const auto life = [&]() -> Task<Result<int>> {
    if (auto r = co_await job.connect(start_message(request)); !r) co_return fail(r.error());
    if (auto error = job.start_error()) co_return fail(*error);
    co_return co_await serve(job, checkpointer, interval, server,
                             "job " + request.job + " started, " + ranks_text(request.ranks));
  };
  auto status = run_to_end(io, life());
  if (status) say_goodbye(job, checkpointer, *status);
  return status;
}

Result<int> restart_job(const RestartRequest& request, ProgressSink& sink) {
  ::signal(SIGPIPE, SIG_IGN);
  ::prctl(PR_SET_CHILD_SUBREAPER,
          1);  // CRIU's restored pid 1 becomes our child when its parent ends
  auto found = find_checkpoint(request);
  if (!found) return fail(found.error());
  asio::io_context io(1);
  statefile::Manifest about = found->manifest;
  CheckpointPolicy policy = request.policy;
  if (!request.has_interval) policy.interval = Milliseconds(about.interval_ms);
  if (!request.has_keep) policy.keep = about.keep;
  policy.directory = std::filesystem::path(found->place.job_directory).parent_path().string();
  about.interval_ms = static_cast<uint64_t>(policy.interval.count());
  about.keep = policy.keep;
  about.tag_output = about.tag_output || request.tag_output;
  about.restarted_from = found->place.epoch;
  about.containers.clear();
  describe_node(about);

  auto made = Job::prepare(io, about, request.user, policy);
  if (!made) return fail(made.error());
  Job& job = **made;
  if (auto r = job.store(); !r) return fail(r.error());
  Checkpointer checkpointer(job);
  checkpointer.restarted_from(found->place.epoch, found->manifest.created);
  IntervalTimer interval(job, checkpointer, sink);
  std::unique_ptr<ControlServer> server;
  const auto life = [&]() -> Task<Result<int>> {
    const auto start = std::chrono::steady_clock::now();
    const auto times = co_await restore_job(job, *found, sink);
    if (!times) co_return fail(times.error());
    sink.finished();
    if (auto r = co_await job.connect({}); !r) co_return fail(r.error());
    const auto took =
        std::chrono::duration_cast<Milliseconds>(std::chrono::steady_clock::now() - start);
    co_return co_await serve(
        job, checkpointer, interval, server,
        "job " + about.job + " restarted from checkpoint " + std::to_string(about.restarted_from) +
            " (" + found->manifest.created + "), " + ranks_text(about.ranks) + ", in " +
            format_duration(took) + " (reading " + format_duration(times->read) + ", checking " +
            format_duration(times->check) + ", restoring " + format_duration(times->restore) + ")");
  };
  auto status = run_to_end(io, life());
  if (status) say_goodbye(job, checkpointer, *status);
  return status;
}

}  // namespace stillpoint::agent
