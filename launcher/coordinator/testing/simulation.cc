#include "launcher/coordinator/testing/simulation.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace stillpoint::coordinator::testing {

using std::chrono::milliseconds;

namespace {

constexpr Time kTrafficUntil{1500};
constexpr Duration kSlowest{150};  // work
constexpr Time kTooLong{60'000};
constexpr uint64_t kTooMany = 300'000;  // events

Limits short_limits() {
  Limits limits;
  for (auto bound : {&Limits::prepare, &Limits::freeze, &Limits::drain, &Limits::lock,
                     &Limits::dump, &Limits::go, &Limits::finish, &Limits::create, &Limits::connect,
                     &Limits::start, &Limits::unpack, &Limits::restore, &Limits::commit})
    limits.*bound = milliseconds(100);
  limits.pack = milliseconds(200);
  limits.undo = milliseconds(200);
  limits.hold = milliseconds(300);
  limits.slack = milliseconds(60);
  limits.retry = milliseconds(10);
  limits.most_retry = milliseconds(40);
  return limits;
}

std::vector<std::string> names(size_t members) {
  std::vector<std::string> names;
  for (size_t i = 0; i < members; i++) names.push_back("n" + std::to_string(i + 1));
  return names;
}

size_t choose_size(uint64_t draw) {
  if (draw % 10 < 6) return 1 + draw / 10 % 5;
  if (draw % 10 < 9) return 6 + draw / 10 % 7;
  return 13 + draw / 10 % 28;
}

}  // namespace

Simulation::Simulation(uint64_t seed, bool trace)
    : random_(seed),
      trace_(trace),
      limits_(short_limits()),
      nodes_(choose_size(random_())),
      cluster_(nodes_.size()),
      coordinator_(names(nodes_.size()), limits_) {
  choose();
  for (Node& node : nodes_) node.member = Member(limits_);
}

// --- What happens

void Simulation::choose() {
  left_ = roll(1, 4);
  const int kind = roll(1, 20);
  if (kind <= 3)
    faults_ = {.loss = 0.4, .doubled = 0.2, .mild = true};
  else if (kind <= 17)
    choose_faults();
  if (faults_.impatient) limits_.hold = milliseconds(roll(5, 60));
  schedule_faults();
  after(roll(0, 5), [this] { next_operation(); });
  after(1, [this] { traffic(); });
}

void Simulation::choose_faults() {
  faults_until_ = milliseconds(chance(0.4) ? 100 : 450);
  if (chance(0.5)) faults_.loss = roll(1, 30) / 100.0;
  if (chance(0.4)) faults_.doubled = roll(1, 40) / 100.0;
  if (chance(0.3)) faults_.late = roll(1, 10) / 100.0;
  if (chance(0.4)) faults_.most_delay = roll(5, 40);
  if (chance(0.2)) faults_.fail = roll(1, 8) / 100.0;
  if (chance(0.3)) faults_.slow = roll(1, 8) / 100.0;
  if (chance(0.15)) faults_.haunted = 0.2;
  if (chance(0.15)) faults_.commit_not = 0.5;
  if (chance(0.15)) faults_.commit_unknown = 0.5;
  if (chance(0.25)) faults_.crashes = roll(1, 2);
  if (chance(0.25)) faults_.cuts = roll(1, 3);
  if (chance(0.2)) faults_.coordinator_dies = true;
  if (chance(0.5)) faults_.told = 0.7;
  if (chance(0.1)) faults_.misled = 0.5;
  if (chance(0.15)) faults_.impatient = true;
}

void Simulation::schedule_faults() {
  const auto someone = [this] { return static_cast<MemberId>(roll(0, int(nodes_.size()) - 1)); };
  const auto sometime = [this] { return roll(0, int(faults_until_.count())); };
  for (int i = 0; i < faults_.crashes; i++)
    after(sometime(), [this, member = someone()] { crash(member); });
  for (int i = 0; i < faults_.cuts; i++)
    after(sometime(), [this, member = someone()] { cut(member); });
  if (faults_.coordinator_dies) after(sometime(), [this] { crash(0); });
  if (chance(faults_.misled))
    after(sometime(), [this, member = someone()] {
      if (nodes_[member].alive) apply(member, nodes_[member].member.on_coordinator_lost(now_));
    });
}

void Simulation::crash(MemberId member) {
  if (!nodes_[member].alive) return;
  say("crash of " + std::to_string(member));
  nodes_[member].alive = false;
  cluster_.crash(member);
  if (member == 0) {
    coordinator_lives_ = false;
    for (MemberId other = 1; other < nodes_.size(); other++)
      if (chance(faults_.told))
        after(roll(1, 100), [this, other] {
          if (nodes_[other].alive) apply(other, nodes_[other].member.on_coordinator_lost(now_));
        });
  } else if (chance(faults_.told)) {
    after(roll(1, 100), [this, member] {
      if (coordinator_lives_)
        apply(coordinator_.on_lost(member, Error(ErrorKind::kIo, "the connection is lost"), now_));
    });
  }
}

void Simulation::cut(MemberId member) {
  const bool heals = chance(0.6);
  const Time until = heals ? now_ + milliseconds(roll(5, 500)) : Time::max();
  say("cut of " + std::to_string(member) + (heals ? "" : " for ever"));
  nodes_[member].cuts.emplace_back(now_, until);
  if (heals || !chance(faults_.told)) return;
  after(roll(1, 100), [this, member] {
    if (coordinator_lives_)
      apply(coordinator_.on_lost(member, Error(ErrorKind::kIo, "the connection is lost"), now_));
    if (nodes_[member].alive) apply(member, nodes_[member].member.on_coordinator_lost(now_));
  });
}

void Simulation::next_operation() {
  if (!coordinator_lives_ || over_) return;
  if (left_-- == 0) {
    over_ = true;
    return;
  }
  Request request{.operation = chance(0.5) ? Operation::kLaunch : Operation::kRestart,
                  .epoch = static_cast<uint64_t>(roll(1, 3))};
  if (launched_)  // the store offers numbers of removed epochs again
    request = {.operation = Operation::kCheckpoint, .epoch = 1, .stop = chance(0.2)};
  auto actions = coordinator_.begin(request, now_);
  if (!actions) {
    if (std::ranges::all_of(nodes_, &Node::alive) && faults_.cuts == 0)
      cluster_.breaks("not begun: " + actions.error().line());
    over_ = true;
    return;
  }
  begun_ = {};
  for (const Action& action : *actions)
    if (const auto* send = std::get_if<Send>(&action)) begun_ = send->command;
  cluster_.begun(begun_);
  report_due_ = now_ + limits_.undo + milliseconds(1);
  for (const Round& round : rounds(request.operation)) report_due_ += limits_.*round.bound;
  apply(*actions);
}

void Simulation::traffic() {
  const int n = static_cast<int>(nodes_.size());
  for (int i = 0; i < 1 + n / 4 && n > 1; i++) {
    const auto from = static_cast<MemberId>(roll(0, n - 1));
    const auto to = static_cast<MemberId>(roll(0, n - 1));
    if (from == to || !cluster_.runs(from)) continue;
    after(roll(0, 8),
          [this, from, to, count = cluster_.send(from, to)] { cluster_.arrives(from, to, count); });
  }
  if (!over_ && now_ < kTrafficUntil) after(roll(1, 4), [this] { traffic(); });
}

// --- What the machines ask for

void Simulation::apply(const Actions& actions) {
  for (const Action& action : actions) {
    if (const auto* send = std::get_if<Send>(&action)) {
      cluster_.sent(send->command);
      for (const MemberId to : send->to) this->send(send->command, to);
    } else if (const auto* commit = std::get_if<Commit>(&action)) {
      this->commit(*commit);
    } else if (const auto* discard = std::get_if<Discard>(&action)) {
      cluster_.discard(discard->epoch);
    } else {
      report(std::get<Report>(action));
    }
  }
  const auto wakeup = coordinator_.next_wakeup();
  if (!wakeup || coordinator_wakeup_ == *wakeup) return;
  coordinator_wakeup_ = *wakeup;
  after(int((*wakeup - now_).count()), [this, at = *wakeup] {
    if (coordinator_wakeup_ == at) coordinator_wakeup_ = Time(-1);
    if (coordinator_lives_) apply(coordinator_.on_time(now_));
  });
}

void Simulation::apply(MemberId id, const MemberActions& actions) {
  for (const MemberAction& action : actions) {
    if (const auto* work = std::get_if<Do>(&action)) {
      this->work(id, work->work);
    } else if (const auto* off = std::get_if<CallOff>(&action)) {
      if (chance(0.6))
        after(roll(0, 10), [this, id, job = nodes_[id].job, work = off->work] {
          finish(id, job, work, false, chance(0.5));
        });
    } else {
      transmit(id, [this, id, answer = std::get<Reply>(action).answer] {
        if (coordinator_lives_) apply(coordinator_.on_answer(id, answer, now_));
      });
    }
  }
  Node& node = nodes_[id];
  const auto wakeup = node.member.next_wakeup();
  if (!wakeup || node.wakeup == *wakeup) return;
  node.wakeup = *wakeup;
  after(int((*wakeup - now_).count()), [this, id, at = *wakeup] {
    if (nodes_[id].wakeup == at) nodes_[id].wakeup = Time(-1);
    if (nodes_[id].alive) apply(id, nodes_[id].member.on_time(now_));
  });
}

void Simulation::send(const Command& command, MemberId to) {
  transmit(to, [this, command, to] {
    if (nodes_[to].alive) apply(to, nodes_[to].member.on_command(command, now_));
  });
}

// A message between a member and the coordinator, either way.
void Simulation::transmit(MemberId member, std::function<void()> arrive) {
  const auto passes = [this, member] {
    return std::ranges::none_of(nodes_[member].cuts, [this](const auto& cut) {
      return cut.first <= now_ && now_ < cut.second;
    });
  };
  const bool doubled = chance(faults_.doubled);
  for (int copy = 0; copy < 1 + doubled; copy++) {
    // A second copy may come as late as in a later attempt.
    const bool late = chance(copy == 0 ? faults_.late : 0.5);
    if (!passes() || loses(member)) continue;
    after(late ? roll(20, 400) : roll(0, faults_.most_delay), [passes, arrive] {
      if (passes()) arrive();
    });
  }
}

bool Simulation::loses(MemberId member) {
  Node& node = nodes_[member];
  if (faults_.mild && now_ < node.last_loss + limits_.prepare / 2) return false;
  if (!chance(faults_.loss)) return false;
  node.last_loss = now_;
  return true;
}

void Simulation::commit(const Commit& commit) {
  cluster_.commit_begins(commit.epoch);
  const bool lands = !chance(faults_.commit_not), told = !chance(faults_.commit_unknown);
  // Not told: it may have landed before, or lands after all, or never is known not to.
  const int when = told ? roll(1, 20) : roll(1, 400);
  after(when, [this, commit, lands, told] {
    say("commit of epoch " + std::to_string(commit.epoch) + (lands ? " lands" : " fails"));
    if (lands || told) cluster_.commit_lands(commit.epoch, lands);
    if (!told || !coordinator_lives_) return;
    apply(coordinator_.on_commit(
        commit.attempt, lands ? CommitOutcome::kPermanent : CommitOutcome::kNot, {}, now_));
  });
  if (told || chance(0.3)) return;  // or it is left to the bound
  after(roll(1, 80), [this, commit] {
    if (!coordinator_lives_) return;
    const Error why(ErrorKind::kTimeout, "the file system does not answer");
    apply(coordinator_.on_commit(commit.attempt, CommitOutcome::kUnknown, why, now_));
  });
}

void Simulation::report(const Report& report) {
  say("report: " + std::to_string(int(report.outcome)) +
      (report.cause ? " " + report.cause->line() : ""));
  cluster_.reported(report);
  if (report.attempt != begun_.attempt) cluster_.breaks("a report of another attempt");
  if (now_ > report_due_) cluster_.breaks("the report came too late");
  const bool done = report.outcome == Outcome::kDone;
  if (!done && !faults_.grave()) cluster_.breaks("failed without a fault: " + report.cause->line());
  (done ? succeeded_ : failed_)++;
  if (done && report.operation != Operation::kCheckpoint) launched_ = true;
  if (done && begun_.stop) over_ = true;
  after(roll(0, 20), [this] { next_operation(); });
}

// --- Work

void Simulation::work(MemberId id, const Work& work) {
  say(std::to_string(id) + ": " + std::string(name(work.step)) + " of attempt " +
      std::to_string(work.attempt));
  if (nodes_[id].job != 0) cluster_.breaks("two works at a time");
  const uint64_t job = nodes_[id].job = ++jobs_;
  if (work.step == Step::kFreeze) nodes_[id].held_from = now_;
  const bool can_fail =
      !is_undo(work.step) && work.step != Step::kFinish && work.step != Step::kEnd;
  const bool well = cluster_.starts(id, work) && !(can_fail && chance(faults_.fail));
  const int takes = chance(faults_.slow) ? roll(20, int(kSlowest.count())) : roll(0, 10);
  after(takes, [this, id, job, work, well] { finish(id, job, work, well, chance(0.5)); });
}

void Simulation::finish(MemberId id, uint64_t job, const Work& work, bool well, bool half) {
  Node& node = nodes_[id];
  if (!node.alive || node.job != job) return;
  node.job = 0;
  if (work.step == Step::kPack && chance(faults_.haunted)) {
    well = false;
    after(roll(1, 300), [this, id, work] { cluster_.late_pack(id, work); });
  }
  say(std::to_string(id) + ": " + std::string(name(work.step)) +
      (well ? " is done" : " has failed"));
  cluster_.ends(id, work, well, half);
  if (well) watch_hold(node, work);
  Result<std::string> result = "text of " + std::to_string(id);
  if (!well) result = fail(ErrorKind::kSystem, "it did not work");
  apply(id, node.member.done(work, std::move(result), now_));
}

// How long the job stood, with what was under way at the hold limit, and the work that ends it.
void Simulation::watch_hold(Node& node, const Work& work) {
  const bool ends = work.step == Step::kGo || work.step == Step::kFinish ||
                    work.step == Step::kEnd || is_undo(work.step);
  if (!ends || node.held_from == Time(-1)) return;
  if (!work.stop && now_ - node.held_from > limits_.hold + 2 * kSlowest)
    cluster_.breaks("a container stood still beyond the hold limit");
  node.held_from = Time(-1);
}

// --- The clock

std::string Simulation::run() {
  while (!events_.empty() && cluster_.broken().empty()) {
    const Event event = events_.top();
    events_.pop();
    now_ = event.at;
    event.act();
    if (now_ > kTooLong || order_ > kTooMany) cluster_.breaks("it never comes to rest");
  }
  if (cluster_.broken().empty()) cluster_.check_rest(coordinator_lives_);
  for (const Node& node : nodes_)
    if (node.alive && !node.member.idle()) cluster_.breaks("a member waits for ever");
  return cluster_.broken();
}

void Simulation::after(int wait, std::function<void()> act) {
  events_.push({now_ + milliseconds(std::max(wait, 0)), order_++, std::move(act)});
}

int Simulation::roll(int from, int to) {
  return from + static_cast<int>(random_() % static_cast<uint64_t>(to - from + 1));
}

bool Simulation::chance(double probability) {
  return probability > 0 && static_cast<double>(random_() % 10000) < probability * 10000;
}

void Simulation::say(const std::string& line) const {
  if (trace_)
    std::fprintf(stderr, "%6lld ms  %s\n", static_cast<long long>(now_.count()), line.c_str());
}

}  // namespace stillpoint::coordinator::testing
