// The supervisor's Start: what it checks, and what it sets up before the ranks run.
#include <pmix_common.h>

#include <boost/asio/post.hpp>
#include <utility>

#include "launcher/supervisor/supervisor.h"

namespace stillpoint::supervisor {

namespace {

constexpr auto kExecTime =
    std::chrono::seconds(60);  // to load a program's file, from whatever file server

Result<Placement> placement_of(const link::Start& start) {
  if (start.nodes().empty()) return Placement::make(start.hostname(), start.ranks());
  std::vector<Placement::Node> nodes;
  for (const link::Node& node : start.nodes())
    nodes.push_back({node.hostname(), node.address(), {node.ranks().begin(), node.ranks().end()}});
  return Placement::make(std::move(nodes), start.node(), start.ranks());
}

}  // namespace

Result<> Supervisor::start(const link::Start& request) {
  if (job_.began()) return fail(ErrorKind::kProtocol, "a second Start");
  auto placement = placement_of(request);
  job_.begin(placement ? placement->here().ranks : std::vector<uint32_t>());
  Result<> started;
  if (!placement)
    started = fail(placement.error());
  else if (started = check_start(request); started)
    started = start_ranks(request, *placement);
  if (started) {
    tell_started();
    return {};
  }
  link::FromSupervisor message;
  message.mutable_start_failed()->set_reason(started.error().line());
  message.mutable_start_failed()->set_status(started.error().exit_status());
  link_.send(message);
  job_.end({started.error().exit_status(), started.error().line()});
  return {};
}

void Supervisor::tell_started() {
  link::FromSupervisor message;
  for (const Job::Rank& rank : job_.ranks()) {
    message.mutable_started()->add_pids(rank.pid);
    message.mutable_started()->add_ranks(rank.number);
  }
  link_.send(message);
  if (input_.closed()) tell_input_taken();  // rank 0 is on another node
}

Result<> Supervisor::check_start(const link::Start& request) const {
  const auto refuse = [](const std::string& what) {
    return fail(ErrorKind::kUsage, "the job cannot be started: " + what);
  };
  if (request.argv().empty() || request.argv(0).empty()) return refuse("no program is named");
  if (!request.directory().starts_with('/')) return refuse("its directory is no absolute path");
  if (request.job().empty() || request.job().size() > PMIX_MAX_NSLEN)
    return refuse("its name has " + std::to_string(request.job().size()) + " characters");
  if (request.nodes_size() > 1 && request.token().size() < kLeastToken)
    return refuse("its nodes have no token to know each other by");
  return {};
}

Result<> Supervisor::start_ranks(const link::Start& request, const Placement& placement) {
  placement_ = placement;
  argv_.assign(request.argv().begin(), request.argv().end());
  const auto here = static_cast<uint32_t>(placement.here().ranks.size());
  Launch launch{.argv = argv_,
                .env = {request.env().begin(), request.env().end()},
                .directory = request.directory(),
                .ranks = placement.ranks(),
                .nodes = static_cast<uint32_t>(placement.nodes().size()),
                .local_ranks = here,
                .oversubscribed = request.processors() && here > request.processors()};
  if (auto r = start_mesh(request, placement); !r) return r;
  auto pmix = PmixServer::start(
      {request.job(), placement, session_directory_, launch},
      [this](PmixServer::Task task) { asio::post(loop_, std::move(task)); }, pmix_events());
  if (!pmix) return fail(pmix.error());
  pmix_ = std::move(*pmix);
  for (uint32_t local = 0; local < here; local++)
    if (auto r = start_one(launch, request, placement.here().ranks[local], local); !r) return r;
  if (placement.node_of(0) != placement.self()) {
    input_.close();
  } else if (const std::string warning = network_warning(launch); !warning.empty()) {
    output_.append(0, Stream::kErr, warning);
    pump_output();
  }
  return {};
}

Result<> Supervisor::start_mesh(const link::Start& request, const Placement& placement) {
  if (placement.alone()) return {};
  auto mesh =
      Mesh::start(loop_, placement, request.job(), request.token(),
                  {.received = [this](uint32_t from, const mesh::Message& m) { heard(from, m); },
                   .lost = [this](uint32_t node, const std::string& why) { lost(node, why); }});
  if (!mesh) return fail(mesh.error());
  mesh_ = std::move(*mesh);
  return {};
}

PmixServer::Events Supervisor::pmix_events() {
  return {.connected = [this](uint32_t rank) { job_.connected(rank); },
          .finalized = [this](uint32_t rank) { job_.finalized(rank); },
          .aborted =
              [this](uint32_t rank, int code) {
                job_.aborted(rank, code);
                if (!job_.settling()) pmix_->release_aborted();
              },
          .said =
              [this](uint32_t rank, Stream stream, std::string text) {
                if (output_.overfull()) return;
                output_.append(rank, stream, std::move(text));
                pump_output();
              },
          .send =
              [this](const std::vector<uint32_t>& nodes, const mesh::Message& m) {
                if (mesh_) mesh_->send(nodes, m);
              },
          .send_all =
              [this](const mesh::Message& m) {
                if (mesh_) mesh_->send_all(m);
              }};
}

Result<> Supervisor::start_one(const Launch& launch, const link::Start& request, uint32_t rank,
                               uint32_t local_rank) {
  auto pmix_env = pmix_->register_rank(rank);
  if (!pmix_env) return fail(pmix_env.error());
  RankSpec spec{.argv = launch.argv,
                .env = rank_environment(launch, rank, local_rank, *pmix_env),
                .directory = launch.directory,
                .wants_input = rank == 0,
                .umask = std::nullopt,
                .descriptors = descriptors_};
  if (request.has_umask()) spec.umask = static_cast<mode_t>(request.umask() & 0777);
  auto process = start_rank(spec, Deadline::in(kExecTime));
  if (!process) return fail(process.error());
  job_.rank_started(rank, process->pid);
  adopt_streams(rank, std::move(*process));
  return {};
}

void Supervisor::adopt_streams(uint32_t rank, RankProcess process) {
  const auto add = [&](Fd fd, Stream stream) {
    output_pipes_.push_back(std::make_unique<OutputPipe>(loop_, std::move(fd), output_, rank,
                                                         stream, [this] { pump_output(); }));
    output_pipes_.back()->resume();
  };
  add(std::move(process.out), Stream::kOut);
  add(std::move(process.err), Stream::kErr);
  if (!process.in) return;
  input_pipe_ = std::make_unique<InputPipe>(loop_, std::move(process.in), input_,
                                            [this] { tell_input_taken(); });
  input_pipe_->push();
}

}  // namespace stillpoint::supervisor
