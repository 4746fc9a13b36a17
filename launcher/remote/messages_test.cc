#include "launcher/remote/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <random>

namespace stillpoint::remote {
namespace {

using namespace std::chrono_literals;
using coordinator::Answer;
using coordinator::Command;
using coordinator::Operation;
using coordinator::Step;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kZero("/a\0b", 4);

Identity me() {
  return identity_of(::getuid()).value();
}

Config config() {
  Config config;
  config.keep = 7;
  config.staging = "/node/staging";
  config.hold_limit = 5min;
  config.first_tunnel_port = 1000, config.last_tunnel_port = 1003;
  return config;
}

// ---- commands and answers

TEST(Messages, CommandsGoThere) {
  const Command command{.attempt = 3,
                        .epoch = 1ULL << 40,
                        .operation = Operation::kRestart,
                        .step = Step::kRestore,
                        .stop = true};
  const std::string details("de\0tails", 8);
  const auto wire = to_wire(command, details);
  EXPECT_EQ(wire.details(), details);
  EXPECT_EQ(command_from(wire).value(), command);
  EXPECT_EQ(command_from(to_wire(Command{}, "")).value(), Command{});
}

TEST(Messages, AnswersComeBack) {
  const auto yes = answer_from(to_wire(Answer{9, Step::kCreate, std::string("10.0.0.2")}));
  ASSERT_TRUE(yes);
  EXPECT_EQ(yes->attempt, 9u);
  EXPECT_EQ(yes->step, Step::kCreate);
  EXPECT_EQ(yes->result.value(), "10.0.0.2");
  const auto no =
      answer_from(to_wire(Answer{9, Step::kDump, fail(ErrorKind::kNoSpace, "full", "make room")}));
  ASSERT_TRUE(no);
  ASSERT_FALSE(no->result);
  EXPECT_EQ(no->result.error().kind(), ErrorKind::kNoSpace);
  EXPECT_EQ(no->result.error().what(), "full");
  EXPECT_EQ(no->result.error().remedy(), "make room");
}

TEST(Messages, NumbersThatAreNoStepAreRefused) {
  for (const uint32_t number : {256u, 257u, UINT32_MAX}) {
    job::Command command;
    command.set_step(number);
    EXPECT_EQ(command_from(command).error().kind(), ErrorKind::kProtocol) << number;
    command.set_step(0);
    command.set_operation(number);
    EXPECT_EQ(command_from(command).error().kind(), ErrorKind::kProtocol) << number;
    job::Answer answer;
    answer.set_step(number);
    EXPECT_EQ(answer_from(answer).error().kind(), ErrorKind::kProtocol) << number;
  }
}

TEST(Messages, AFailureIsNeverSuccess) {
  for (const int kind : {0, 256, -1, -256, 65536 + 256, INT32_MIN}) {
    job::Failure wire;
    wire.set_kind(kind);
    EXPECT_EQ(error_from(wire).kind(), ErrorKind::kProtocol) << kind;
  }
  job::Failure wire;
  wire.set_kind(130);  // ended by a signal
  EXPECT_EQ(error_from(wire).exit_status(), 130);
}

// ---- policies

agent::CheckpointPolicy policy() {
  return {
      .interval = 90s, .directory = "/shared/c", .keep = 0, .staging = "/s", .hold_limit = 1min};
}

TEST(Messages, APolicyGoesThere) {
  const auto back = policy_from(to_wire(policy()), config());
  ASSERT_TRUE(back) << back.error().line();
  EXPECT_EQ(back->interval, 90s);
  EXPECT_EQ(back->directory, "/shared/c");
  EXPECT_EQ(back->keep, 0u);  // which means all, not "not given"
  EXPECT_EQ(back->staging, "/s");
  EXPECT_EQ(back->hold_limit, 1min);
}

TEST(Messages, WhatAPolicyDoesNotSayIsTheNodes) {
  job::Policy wire;
  wire.set_directory("/c");
  const auto back = policy_from(wire, config());
  ASSERT_TRUE(back) << back.error().line();
  EXPECT_EQ(back->interval, 0ms);
  EXPECT_EQ(back->keep, 7u);
  EXPECT_EQ(back->staging, "/node/staging");
  EXPECT_EQ(back->hold_limit, 5min);
}

template <typename T>
using Spoil = std::function<void(T&)>;

TEST(Messages, PoliciesAreChecked) {
  const uint64_t late = (uint64_t{1} << 53) + 1;
  for (const Spoil<job::Policy>& spoil : {
           Spoil<job::Policy>([](auto& p) { p.set_directory("relative"); }),
           Spoil<job::Policy>([](auto& p) { p.clear_directory(); }),
           Spoil<job::Policy>([](auto& p) { p.set_directory(kZero); }),
           Spoil<job::Policy>([](auto& p) { p.set_staging("../s"); }),
           Spoil<job::Policy>([](auto& p) { p.set_staging(kZero); }),
           Spoil<job::Policy>([=](auto& p) { p.set_interval_ms(late); }),
           Spoil<job::Policy>([](auto& p) { p.set_interval_ms(UINT64_MAX); }),
           Spoil<job::Policy>([=](auto& p) { p.set_hold_limit_ms(late); }),
       }) {
    job::Policy wire = to_wire(policy());
    spoil(wire);
    const auto back = policy_from(wire, config());
    ASSERT_FALSE(back) << wire.directory() << " " << wire.staging() << " " << wire.interval_ms();
    EXPECT_EQ(back.error().kind(), ErrorKind::kProtocol);
  }
}

// ---- parts

statefile::Manifest facts() {
  statefile::Manifest m;
  m.job = "ring";
  m.run = "4f2a";
  m.user = "physicist";
  m.argv = {"./ring", "caf\xe9"};
  m.directory = "/home/physicist";
  m.ranks = 4;
  m.cpu = {"Some CPU", {"avx"}};
  return m;
}

statefile::ContainerRecord record() {
  statefile::ContainerRecord c;
  c.index = 2;
  c.hostname = "n3";
  c.statefile = "c2.h5";
  c.ranks = {{.rank = 1, .pid = 12, .program = "./ring"}};
  c.in_flight = {.connections = 4, .bytes = 70, .closed_windows = 1};
  return c;
}

agent::PartSpec part() {
  return {.name = "ring@2",
          .index = 2,
          .about = facts(),
          .user = me(),
          .policy = policy(),
          .tunnel = agent::Tunnel{.vni = 77, .local = {}, .ports = {}},
          .checkpoint = "/shared/c/ring.0/3",
          .dumped = facts(),
          .record = record()};
}

TEST(Messages, APartGoesThere) {
  const auto wire = to_wire(part());
  const auto back = part_from(wire, config(), "10.1.2.3");
  ASSERT_TRUE(back) << back.error().line();
  EXPECT_EQ(back->name, "ring@2");
  EXPECT_EQ(back->user.uid, ::getuid());
  EXPECT_EQ(back->about.argv, facts().argv);
  EXPECT_EQ(back->policy.directory, "/shared/c");
  EXPECT_EQ(back->checkpoint, "/shared/c/ring.0/3");
  ASSERT_TRUE(back->record && back->tunnel);
  EXPECT_EQ(back->record->in_flight.bytes, 70u);
  EXPECT_EQ(back->dumped.cpu.flags, facts().cpu.flags);
  EXPECT_EQ(back->tunnel->vni, 77u);
  EXPECT_EQ(back->tunnel->local, "10.1.2.3");
  EXPECT_EQ(back->tunnel->ports.first, 1000);
  EXPECT_EQ(back->tunnel->ports.last, 1003);
  EXPECT_EQ(to_wire(*back).SerializeAsString(), wire.SerializeAsString());
}

TEST(Messages, APartOfAFreshJobHasNoRecord) {
  auto spec = part();
  spec.record.reset();
  spec.tunnel.reset();
  spec.checkpoint.clear();
  const auto back = part_from(to_wire(spec), config(), "10.1.2.3");
  ASSERT_TRUE(back) << back.error().line();
  EXPECT_FALSE(back->record);
  EXPECT_FALSE(back->tunnel);
}

TEST(Messages, PartsAreChecked) {
  struct Case {
    Spoil<job::PartOfJob> spoil;
    ErrorKind kind;
  };
  auto elsewhere = facts();
  elsewhere.job = "../ring";
  for (const auto& [spoil, kind] : {
           Case{[](auto& p) { p.clear_about(); }, ErrorKind::kDamaged},
           Case{[](auto& p) { p.set_about("[]"); }, ErrorKind::kDamaged},
           Case{[&](auto& p) { p.set_about(to_json(elsewhere)); }, ErrorKind::kDamaged},
           Case{[](auto& p) { p.set_uid(4294967294); }, ErrorKind::kNotFound},
           Case{[](auto& p) { p.mutable_policy()->set_directory("c"); }, ErrorKind::kProtocol},
           Case{[](auto& p) { p.clear_policy(); }, ErrorKind::kProtocol},
           Case{[](auto& p) { p.set_checkpoint("shared/c"); }, ErrorKind::kProtocol},
           Case{[](auto& p) { p.set_checkpoint(kZero); }, ErrorKind::kProtocol},
           Case{[](auto& p) { p.clear_checkpoint(); }, ErrorKind::kProtocol},
           Case{[](auto& p) { p.mutable_record()->pop_back(); }, ErrorKind::kDamaged},
           Case{[](auto& p) { p.set_record("{}"); }, ErrorKind::kDamaged},
           Case{[](auto& p) { p.set_dumped("{}"); }, ErrorKind::kDamaged},
       }) {
    auto wire = to_wire(part());
    spoil(wire);
    const auto back = part_from(wire, config(), "10.1.2.3");
    ASSERT_FALSE(back) << wire.SerializeAsString();
    EXPECT_EQ(back.error().kind(), kind) << back.error().line();
  }
  auto wire = to_wire(part());
  wire.set_uid(4294967294);
  EXPECT_THAT(part_from(wire, config(), "").error().line(), HasSubstr("the same users"));
}

// ---- what a lead is asked for

job::LeadJob run() {
  job::LeadJob wire;
  *wire.mutable_policy() = to_wire(policy());
  wire.set_tag_output(true);
  auto& run = *wire.mutable_run();
  run.set_job("ring");
  run.add_argv("./ring");
  run.add_argv("");
  run.add_env("A=1");
  run.set_directory("/home");
  run.set_umask(07027);
  run.set_ranks(4);
  return wire;
}

TEST(Messages, ARunIsAskedFor) {
  const auto request = run_from(run(), me(), config());
  ASSERT_TRUE(request) << request.error().line();
  EXPECT_EQ(request->job, "ring");
  EXPECT_EQ(request->user.uid, ::getuid());
  EXPECT_THAT(request->argv, ElementsAre("./ring", ""));
  EXPECT_THAT(request->env, ElementsAre("A=1"));
  EXPECT_EQ(request->directory, "/home");
  EXPECT_EQ(request->umask, 027u);
  EXPECT_EQ(request->ranks, 4u);
  EXPECT_TRUE(request->tag_output);
  EXPECT_EQ(request->policy.interval, 90s);
}

// The system's names are bytes; protobuf's strings are UTF-8 alone.
TEST(Messages, BytesThatAreNotUtf8Arrive) {
  const std::string name = "/caf\xe9";
  auto asked = run();
  asked.mutable_run()->set_argv(1, name);
  asked.mutable_run()->set_env(0, name);
  asked.mutable_run()->set_directory(name);
  asked.mutable_policy()->set_directory(name);
  asked.mutable_policy()->set_staging(name);
  job::LeadJob lead;
  ASSERT_TRUE(lead.ParseFromString(asked.SerializeAsString()));
  EXPECT_EQ(run_from(lead, me(), config())->argv[1], name);
  auto spec = part();
  spec.checkpoint = spec.about.directory = name;
  job::PartOfJob wire;
  ASSERT_TRUE(wire.ParseFromString(to_wire(spec).SerializeAsString()));
  EXPECT_EQ(part_from(wire, config(), "")->about.directory, name);
  job::FromPart said;
  *said.mutable_answer() = to_wire(Answer{9, Step::kDump, fail(ErrorKind::kIo, name, name)});
  EXPECT_TRUE(said.ParseFromString(said.SerializeAsString()));
  said.mutable_ranks()->add_rank()->set_program(name);
  EXPECT_TRUE(said.ParseFromString(said.SerializeAsString()));
  said.mutable_news()->mutable_ended()->set_reason(name);
  EXPECT_TRUE(said.ParseFromString(said.SerializeAsString()));
}

TEST(Messages, RunsAreChecked) {
  using Lead = Spoil<job::LeadJob>;
  for (const Lead& spoil : {
           Lead([](auto& l) { l.mutable_run()->set_job("../ring"); }),
           Lead([](auto& l) { l.mutable_run()->set_job("ring@1"); }),
           Lead([](auto& l) { l.mutable_run()->clear_job(); }),
           Lead([](auto& l) { l.mutable_run()->clear_argv(); }),
           Lead([](auto& l) { l.mutable_run()->set_argv(0, ""); }),
           Lead([](auto& l) { l.mutable_run()->set_argv(1, kZero); }),
           Lead([](auto& l) { l.mutable_run()->set_env(0, kZero); }),
           Lead([](auto& l) { l.mutable_run()->set_directory("home"); }),
           Lead([](auto& l) { l.mutable_run()->set_directory(kZero); }),
           Lead([](auto& l) { l.mutable_run()->set_ranks(0); }),
           Lead([](auto& l) { l.mutable_run()->set_ranks(65537); }),
           Lead([](auto& l) { l.mutable_run()->set_ranks(UINT32_MAX); }),
           Lead([](auto& l) { l.clear_policy(); }),
           Lead([](auto& l) { l.clear_run(); }),
       }) {
    auto wire = run();
    spoil(wire);
    EXPECT_FALSE(run_from(wire, me(), config())) << wire.SerializeAsString();
  }
}

job::LeadJob restart() {
  job::LeadJob wire;
  wire.mutable_policy()->set_directory("/c");
  wire.mutable_restart()->set_checkpoint("ring");
  wire.mutable_restart()->set_directory("/home");
  return wire;
}

TEST(Messages, ARestartIsAskedFor) {
  auto wire = restart();
  auto request = restart_from(wire, me(), config());
  ASSERT_TRUE(request) << request.error().line();
  EXPECT_EQ(request->checkpoint, "ring");
  EXPECT_EQ(request->directory, "/home");
  EXPECT_FALSE(request->has_interval || request->has_keep || request->tag_output);
  wire.mutable_restart()->set_has_interval(true);
  wire.mutable_policy()->set_keep(0);
  request = restart_from(wire, me(), config());
  ASSERT_TRUE(request);
  EXPECT_TRUE(request->has_interval && request->has_keep);
  EXPECT_EQ(request->policy.keep, 0u);
}

TEST(Messages, RestartsAreChecked) {
  using Lead = Spoil<job::LeadJob>;
  for (const Lead& spoil : {
           Lead([](auto& l) { l.mutable_restart()->clear_checkpoint(); }),
           Lead([](auto& l) { l.mutable_restart()->set_checkpoint(kZero); }),
           Lead([](auto& l) { l.mutable_restart()->set_directory("home"); }),
           Lead([](auto& l) { l.mutable_restart()->set_directory(kZero); }),
           Lead([](auto& l) { l.mutable_policy()->set_directory("c"); }),
           Lead([](auto& l) { l.clear_restart(); }),
       }) {
    auto wire = restart();
    spoil(wire);
    const auto request = restart_from(wire, me(), config());
    ASSERT_FALSE(request);
    EXPECT_EQ(request.error().kind(), ErrorKind::kProtocol);
  }
}

// ---- anything at all

class Mutator {
 public:
  std::string spoil(std::string text) {
    for (uint32_t changes = 1 + below(4); changes > 0 && !text.empty(); changes--) {
      const size_t at = below(text.size());
      switch (below(4)) {
        case 0:
          text[at] = static_cast<char>(below(256));
          break;
        case 1:
          text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
          break;
        case 2:
          text.erase(at, 1 + below(9));
          break;
        case 3:
          text.insert(at, 1 + below(9), static_cast<char>(below(256)));
          break;
      }
    }
    return text;
  }

 private:
  uint32_t below(size_t n) { return static_cast<uint32_t>(random_() % n); }
  std::mt19937 random_{20261121};
};

bool is_path(const std::string& text) {
  return text.starts_with('/') && text.find('\0') == text.npos;
}

TEST(Messages, WhateverIsAcceptedMakesSense) {
  Mutator mutator;
  const std::string leads[] = {run().SerializeAsString(), restart().SerializeAsString()};
  const std::string whole = to_wire(part()).SerializeAsString();
  const Identity user = me();
  int accepted = 0;
  for (int i = 0; i < 4000; i++) {
    job::LeadJob lead;
    if (lead.ParseFromString(mutator.spoil(leads[i % 2]))) {
      if (const auto r = run_from(lead, user, config())) {
        accepted++;
        EXPECT_TRUE(is_path(r->directory) && is_path(r->policy.directory));
        EXPECT_TRUE(r->ranks >= 1 && r->ranks <= 65536 && !r->argv.empty());
        EXPECT_TRUE(r->policy.interval >= 0ms && r->policy.hold_limit > 0ms);
      }
      if (const auto r = restart_from(lead, user, config())) {
        accepted++;
        EXPECT_TRUE(is_path(r->directory) && is_path(r->policy.directory));
      }
    }
    job::PartOfJob wire;
    if (!wire.ParseFromString(mutator.spoil(whole))) continue;
    if (const auto r = part_from(wire, config(), "10.1.2.3")) {
      accepted++;
      EXPECT_TRUE(is_path(r->policy.directory) && is_path(r->policy.staging));
      EXPECT_TRUE(!r->record || is_path(r->checkpoint));
    }
  }
  EXPECT_GT(accepted, 100);  // else the mutations only ever met the parsers
}

TEST(Messages, SpoiledCommandsAndAnswersDoNoHarm) {
  Mutator mutator;
  const auto command = to_wire(Command{.attempt = 3, .epoch = 4, .step = Step::kGo}, "details");
  const auto yes = to_wire(Answer{9, Step::kCreate, std::string("text")});
  const auto no = to_wire(Answer{9, Step::kCreate, fail(ErrorKind::kIo, "what", "remedy")});
  for (int i = 0; i < 4000; i++) {
    job::Command c;
    if (c.ParseFromString(mutator.spoil(command.SerializeAsString()))) (void)command_from(c);
    job::Answer a;
    if (a.ParseFromString(mutator.spoil((i % 2 ? yes : no).SerializeAsString()))) {
      const auto answer = answer_from(a);
      if (answer && !answer->result) {
        EXPECT_LE(answer->result.error().line().size(), 200u);
      }
    }
  }
}

}  // namespace
}  // namespace stillpoint::remote
