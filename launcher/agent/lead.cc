#include "launcher/agent/lead.h"

#include <sys/random.h>

#include <boost/asio/co_spawn.hpp>
#include <filesystem>

#include "common/log.h"
#include "common/paths.h"
#include "launcher/agent/checkpoint.h"
#include "launcher/agent/control_server.h"
#include "launcher/agent/interval.h"
#include "launcher/agent/node_facts.h"

namespace stillpoint::agent {

namespace {

constexpr size_t kTokenBytes = 32;
constexpr std::chrono::seconds kStoreWait{20};

std::string draw(size_t bytes) {
  std::string random(bytes, '\0');
  (void)!::getrandom(random.data(), bytes, 0);
  return random;
}

std::string draw_run() {
  std::string text;
  for (const char byte : draw(8)) {
    char hex[3];
    std::snprintf(hex, sizeof hex, "%02x", static_cast<unsigned char>(byte));
    text += hex;
  }
  return text;
}

// Of the job's network, new at each start: who is left over of an earlier one cannot speak into it.
uint32_t draw_vni() {
  const std::string random = draw(3);
  uint32_t vni = 0;
  for (const char byte : random) vni = vni << 8 | static_cast<unsigned char>(byte);
  return std::max(vni, 1u);
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

link::Start start_message(const RunRequest& request) {
  link::Start start;
  for (const std::string& arg : request.argv) start.add_argv(arg);
  for (const std::string& variable : request.env) start.add_env(variable);
  start.set_directory(request.directory);
  start.set_ranks(request.ranks);
  start.set_job(request.job);
  start.set_umask(request.umask);
  start.set_token(draw(kTokenBytes));
  return start;
}

std::string counted(size_t n, const std::string& what) {
  return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

std::string size_text(const Job& job, uint32_t ranks) {
  return counted(ranks, "rank") +
         (job.seats().size() > 1 ? " in " + counted(job.seats().size(), "container") : "");
}

// A job is not started over the checkpoints of an earlier run.
Result<> check_store(Job& job) {
  auto worker = Worker::start(
      "looking at the checkpoint directory", &job.user(), [&](Progress&) -> Result<std::string> {
        const auto earlier = statefile::Store::open_existing(job.directory());
        return std::string(earlier && !earlier->epochs().empty() ? "used" : "");
      });
  if (!worker) return fail(worker.error());
  auto used = worker->finish(Deadline::in(kStoreWait));
  if (!used) return fail(used.error());
  if (used->empty()) return {};
  return fail(ErrorKind::kBusy,
              job.directory() + " holds checkpoints of an earlier run of " + job.about().job,
              "restart that run with `stillpoint restart`, choose another --name, or remove them");
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

// A job with what serves it.
class Life {
 public:
  Life(const Surroundings& around, statefile::Manifest about, Identity user,
       CheckpointPolicy policy, std::vector<Seat> seats)
      : around_(around),
        job_(around.io.get_executor(), std::move(about), std::move(user), std::move(policy),
             around.front, std::move(seats)),
        checkpointer_(job_),
        interval_(job_, checkpointer_, around.front.progress()) {}

  Job& job() { return job_; }
  Checkpointer& checkpointer() { return checkpointer_; }

  // `begin` brings the job to run, and returns what is to be said then.
  Result<int> live(const std::string& checkpoint, const statefile::Manifest* dumped,
                   std::function<Task<Result<std::string>>()> begin) {
    return run_to_end(around_.io, whole(checkpoint, dumped, std::move(begin)));
  }

 private:
  Task<Result<int>> whole(std::string checkpoint, const statefile::Manifest* dumped,
                          std::function<Task<Result<std::string>>()> begin) {
    auto status = co_await life(std::move(checkpoint), dumped, std::move(begin));
    if (status) say_goodbye(*status);
    co_await around_.front.finish(status);
    co_return status;
  }
  Task<Result<int>> life(std::string checkpoint, const statefile::Manifest* dumped,
                         std::function<Task<Result<std::string>>()> begin);
  Task<int> serve(std::string hello);
  void say_goodbye(int status) const;

  const Surroundings& around_;
  Job job_;
  Checkpointer checkpointer_;
  IntervalTimer interval_;
  std::unique_ptr<ControlServer> server_;
};

Task<Result<int>> Life::life(std::string checkpoint, const statefile::Manifest* dumped,
                             std::function<Task<Result<std::string>>()> begin) {
  const uint32_t vni = job_.seats().size() > 1 ? draw_vni() : 0;
  auto gathered = co_await job_.gather([&](uint32_t index, MemberEvents events) {
    PartSpec spec{.name = job_.about().job,
                  .index = index,
                  .about = job_.about(),
                  .user = job_.user(),
                  .policy = job_.policy(),
                  .tunnel = {},
                  .checkpoint = checkpoint,
                  .dumped = {},
                  .record = {}};
    if (vni) spec.tunnel.emplace(Tunnel{.vni = vni, .local = {}, .ports = {}});
    if (dumped) {
      spec.record = dumped->containers[index];
      spec.dumped = *dumped;
      spec.dumped.containers.clear();
    }
    return around_.make(std::move(spec), job_.seats()[index], std::move(events));
  });
  Result<std::string> hello;
  if (!gathered)
    hello = fail(gathered.error());
  else
    hello = co_await begin();
  if (!hello) {
    co_await job_.disband();
    co_return fail(hello.error());
  }
  co_return co_await serve(*hello);
}

// From the first link to the end of the job.
Task<int> Life::serve(std::string hello) {
  log::info(hello);
  interval_.start();
  auto started = ControlServer::start(job_, checkpointer_, interval_);
  if (started)
    server_ = std::move(*started);
  else
    log::warning("the job runs, but cannot be asked: " + started.error().line());
  job_.set_phase("running");
  co_await job_.wait_end();
  // A job that failed is worth the checkpoint that has its dump already; one that is through needs
  // none.
  if (checkpointer_.busy() && !(job_.failed() && checkpointer_.dumped())) checkpointer_.cancel();
  co_await checkpointer_.idle();
  const int status = co_await job_.finish();
  if (server_) co_await server_->idle();
  co_return status;
}

void Life::say_goodbye(int status) const {
  if (status == 0 || checkpointer_.last_epoch() == 0) return;
  const std::string epoch = std::to_string(checkpointer_.last_epoch());
  if (status == kStoppedAtCheckpoint)
    log::info("job " + job_.about().job + " is stopped at checkpoint " + epoch +
              "; go on with: stillpoint restart " + job_.directory());
  else
    log::info("its last checkpoint is " + epoch + "; go back to it with: stillpoint restart " +
              job_.directory());
}

}  // namespace

Result<int> lead_run(const Surroundings& around, const RunRequest& request,
                     std::vector<Seat> seats) {
  Life life(around, about_run(request), request.user, request.policy, std::move(seats));
  Job& job = life.job();
  if (auto r = check_store(job); !r) return fail(r.error());
  if (request.policy.interval.count() > 0)
    if (auto r = job.store(); !r) return fail(r.error());
  return life.live({}, nullptr, [&]() -> Task<Result<std::string>> {
    if (auto r = co_await job.launch(start_message(request)); !r) co_return fail(r.error());
    co_return "job " + request.job + " started, " + size_text(job, request.ranks);
  });
}

Result<int> lead_restart(const Surroundings& around, const RestartRequest& request,
                         const FoundCheckpoint& found, std::vector<Seat> seats) {
  statefile::Manifest about = found.manifest;
  CheckpointPolicy policy = request.policy;
  if (!request.has_interval) policy.interval = Milliseconds(about.interval_ms);
  if (!request.has_keep) policy.keep = about.keep;
  policy.directory = std::filesystem::path(found.place.job_directory).parent_path().string();
  about.interval_ms = static_cast<uint64_t>(policy.interval.count());
  about.keep = policy.keep;
  about.tag_output = about.tag_output || request.tag_output;
  about.restarted_from = found.place.epoch;
  about.containers.clear();
  describe_node(about);

  Life life(around, std::move(about), request.user, policy, std::move(seats));
  Job& job = life.job();
  if (auto r = job.store(); !r) return fail(r.error());
  life.checkpointer().restarted_from(found.place.epoch, found.manifest.created);
  const std::string place = paths::epoch_directory(found.place.job_directory, found.place.epoch);
  return life.live(place, &found.manifest, [&]() -> Task<Result<std::string>> {
    const auto start = std::chrono::steady_clock::now();
    job.show_progress(&around.front.progress());
    const auto times = co_await job.restart(found.place.epoch);
    job.show_progress(nullptr);
    if (!times) co_return fail(times.error());
    const auto took =
        std::chrono::duration_cast<Milliseconds>(std::chrono::steady_clock::now() - start);
    co_return "job " + job.about().job + " restarted from checkpoint " +
        std::to_string(found.place.epoch) + " (" + found.manifest.created + "), " +
        size_text(job, job.about().ranks) + ", in " + format_duration(took) + " (reading " +
        format_duration(times->read) + ", checking " + format_duration(times->check) +
        ", restoring " + format_duration(times->restore) + ")";
  });
}

}  // namespace stillpoint::agent
