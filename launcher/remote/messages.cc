#include "launcher/remote/messages.h"

#include "common/paths.h"

namespace stillpoint::remote {

namespace {

constexpr uint32_t kMostRanks = 65536;

Error nonsense(const std::string& what) {
  return Error(ErrorKind::kProtocol, what);
}

Result<> check_absolute(const std::string& path, const std::string& what) {
  if (path.starts_with('/') && path.find('\0') == path.npos) return {};
  return fail(nonsense(what + " is not an absolute path"));
}

bool has_zero(const std::string& text) {
  return text.find('\0') != text.npos;
}

}  // namespace

job::Command to_wire(const coordinator::Command& command, const std::string& details) {
  job::Command wire;
  wire.set_attempt(command.attempt);
  wire.set_epoch(command.epoch);
  wire.set_operation(static_cast<uint32_t>(command.operation));
  wire.set_step(static_cast<uint32_t>(command.step));
  wire.set_stop(command.stop);
  wire.set_details(details);
  return wire;
}

Result<coordinator::Command> command_from(const job::Command& wire) {
  if (wire.operation() > 255 || wire.step() > 255) return fail(nonsense("a command that is none"));
  return coordinator::Command{.attempt = wire.attempt(),
                              .epoch = wire.epoch(),
                              .operation = static_cast<coordinator::Operation>(wire.operation()),
                              .step = static_cast<coordinator::Step>(wire.step()),
                              .stop = wire.stop()};
}

job::Answer to_wire(const coordinator::Answer& answer) {
  job::Answer wire;
  wire.set_attempt(answer.attempt);
  wire.set_step(static_cast<uint32_t>(answer.step));
  if (answer.result)
    wire.set_text(*answer.result);
  else
    *wire.mutable_failure() = to_wire(answer.result.error());
  return wire;
}

Result<coordinator::Answer> answer_from(const job::Answer& wire) {
  if (wire.step() > 255) return fail(nonsense("an answer that is none"));
  coordinator::Answer answer{
      .attempt = wire.attempt(), .step = static_cast<coordinator::Step>(wire.step()), .result = {}};
  if (wire.has_failure())
    answer.result = fail(error_from(wire.failure()));
  else
    answer.result = wire.text();
  return answer;
}

job::Failure to_wire(const Error& error) {
  job::Failure wire;
  wire.set_kind(static_cast<int>(error.kind()));
  wire.set_what(error.what());
  wire.set_remedy(error.remedy());
  return wire;
}

// A kind is an exit status, also one of a job that a signal ended: never 0, nor what becomes 0.
Error error_from(const job::Failure& wire) {
  const bool good = wire.kind() > 0 && wire.kind() < 256;
  return Error(good ? static_cast<ErrorKind>(wire.kind()) : ErrorKind::kProtocol, wire.what(),
               wire.remedy());
}

job::Policy to_wire(const agent::CheckpointPolicy& policy) {
  job::Policy wire;
  wire.set_interval_ms(static_cast<uint64_t>(policy.interval.count()));
  wire.set_directory(policy.directory);
  wire.set_keep(policy.keep);
  wire.set_hold_limit_ms(static_cast<uint64_t>(policy.hold_limit.count()));
  wire.set_staging(policy.staging);
  return wire;
}

Result<agent::CheckpointPolicy> policy_from(const job::Policy& wire, const Config& config) {
  constexpr uint64_t kMost = uint64_t{1} << 53;
  if (wire.interval_ms() > kMost || wire.hold_limit_ms() > kMost)
    return fail(nonsense("a time that is none"));
  if (auto r = check_absolute(wire.directory(), "the checkpoint directory"); !r)
    return fail(r.error());
  if (!wire.staging().empty())
    if (auto r = check_absolute(wire.staging(), "the staging directory"); !r)
      return fail(r.error());
  const auto hold = Milliseconds(static_cast<int64_t>(wire.hold_limit_ms()));
  return agent::CheckpointPolicy{
      .interval = Milliseconds(static_cast<int64_t>(wire.interval_ms())),
      .directory = wire.directory(),
      .keep = wire.has_keep() ? wire.keep() : config.keep,
      .staging = wire.staging().empty() ? config.staging : wire.staging(),
      .hold_limit = hold.count() ? hold : config.hold_limit};
}

job::PartOfJob to_wire(const agent::PartSpec& spec) {
  job::PartOfJob wire;
  wire.set_index(spec.index);
  wire.set_about(statefile::to_json(spec.about));
  wire.set_uid(spec.user.uid);
  *wire.mutable_policy() = to_wire(spec.policy);
  if (spec.tunnel) wire.set_vni(spec.tunnel->vni);
  wire.set_checkpoint(spec.checkpoint);
  if (!spec.record) return wire;
  wire.set_record(statefile::to_json(*spec.record));
  wire.set_dumped(statefile::to_json(spec.dumped));
  return wire;
}

Result<agent::PartSpec> part_from(const job::PartOfJob& wire, const Config& config,
                                  const std::string& address) {
  auto about = statefile::facts_from_json(wire.about());
  if (!about) return fail(about.error());
  auto user = identity_of(wire.uid());
  if (!user) return fail(user.error().advise("the nodes of a cluster need the same users"));
  auto policy = policy_from(wire.policy(), config);
  if (!policy) return fail(policy.error());
  agent::PartSpec spec{.name = paths::part_name(about->job, wire.index()),
                       .index = wire.index(),
                       .about = std::move(*about),
                       .user = std::move(*user),
                       .policy = std::move(*policy),
                       .tunnel = {},
                       .checkpoint = wire.checkpoint(),
                       .dumped = {},
                       .record = {}};
  if (wire.vni())
    spec.tunnel =
        agent::Tunnel{wire.vni(), address, {config.first_tunnel_port, config.last_tunnel_port}};
  if (wire.record().empty()) return spec;
  if (auto r = check_absolute(spec.checkpoint, "the checkpoint"); !r) return fail(r.error());
  auto dumped = statefile::facts_from_json(wire.dumped());
  if (!dumped) return fail(dumped.error());
  spec.dumped = std::move(*dumped);
  auto record = statefile::container_from_json(wire.record());
  if (!record) return fail(record.error());
  spec.record = std::move(*record);
  return spec;
}

Result<agent::RunRequest> run_from(const job::LeadJob& wire, Identity user, const Config& config) {
  const job::RunJob& run = wire.run();
  if (auto r = paths::check_job_name(run.job()); !r) return fail(r.error());
  auto policy = policy_from(wire.policy(), config);
  if (!policy) return fail(policy.error());
  if (auto r = check_absolute(run.directory(), "the working directory"); !r) return fail(r.error());
  agent::RunRequest request{.job = run.job(),
                            .user = std::move(user),
                            .argv = {run.argv().begin(), run.argv().end()},
                            .env = {run.env().begin(), run.env().end()},
                            .directory = run.directory(),
                            .umask = run.umask() & 0777,
                            .ranks = run.ranks(),
                            .tag_output = wire.tag_output(),
                            .policy = std::move(*policy)};
  if (request.argv.empty() || request.argv[0].empty()) return fail(nonsense("no program to run"));
  if (request.ranks < 1 || request.ranks > kMostRanks) return fail(nonsense("no number of ranks"));
  for (const auto* texts : {&request.argv, &request.env})
    for (const std::string& text : *texts)
      if (has_zero(text)) return fail(nonsense("a zero in an argument or variable"));
  return request;
}

Result<agent::RestartRequest> restart_from(const job::LeadJob& wire, Identity user,
                                           const Config& config) {
  const job::RestartJob& restart = wire.restart();
  auto policy = policy_from(wire.policy(), config);
  if (!policy) return fail(policy.error());
  if (auto r = check_absolute(restart.directory(), "the directory"); !r) return fail(r.error());
  if (restart.checkpoint().empty() || has_zero(restart.checkpoint()))
    return fail(nonsense("no checkpoint"));
  return agent::RestartRequest{.checkpoint = restart.checkpoint(),
                               .directory = restart.directory(),
                               .user = std::move(user),
                               .has_interval = restart.has_interval(),
                               .has_keep = wire.policy().has_keep(),
                               .tag_output = wire.tag_output(),
                               .policy = std::move(*policy)};
}

}  // namespace stillpoint::remote
