#include "launcher/coordinator/testing/cluster.h"

#include <algorithm>
#include <utility>

namespace stillpoint::coordinator::testing {

Cluster::Cluster(size_t members) : containers_(members) {
  for (Container& container : containers_) {
    container.sent.resize(members);
    container.received.resize(members);
  }
}

void Cluster::breaks(const std::string& promise) {
  if (broken_.empty()) broken_ = promise;
}

// --- The coordinator's side

void Cluster::begun(const Command& first) {
  attempts_[first.attempt] = first;
  if (first.operation != Operation::kCheckpoint) return;
  if (store_.contains(first.epoch)) breaks("an epoch is used for a second attempt");
  Epoch& epoch = store_[first.epoch];
  epoch.attempt = first.attempt;
  epoch.stop = first.stop;
  epoch.files.resize(containers_.size());
}

void Cluster::sent(const Command& command) {
  const auto found = attempts_.find(command.attempt);
  if (found == attempts_.end() || found->second.epoch != command.epoch)
    breaks("a command of no attempt or with another epoch");
  // In a stop that is the word of a coordinator which does not know what became of the commit.
  if (command.step == Step::kFinish && store_[command.epoch].stop)
    store_[command.epoch].unknown = true;
}

void Cluster::commit_begins(uint64_t number) {
  store_[number].maybe = true;
}

void Cluster::commit_lands(uint64_t number, bool permanent) {
  Epoch& epoch = store_[number];
  if (!permanent) {
    epoch.maybe = false;
    return;
  }
  epoch.permanent = true;
  for (const Container& container : containers_)
    if (epoch.stop && !epoch.unknown && container.alive && container.started && !container.frozen)
      breaks("a container runs beyond the checkpoint that is to be its end");
  if (!epoch.there ||
      std::ranges::any_of(epoch.files, [&](uint64_t f) { return f != epoch.attempt; }))
    breaks("permanent, but not every container's statefile of that attempt is there");
}

void Cluster::discard(uint64_t number) {
  Epoch& epoch = store_[number];
  if (epoch.maybe || epoch.permanent) breaks("what may be permanent is discarded");
  epoch.there = false;
  std::ranges::fill(epoch.files, 0);
}

void Cluster::reported(const Report& report) {
  if (!outcomes_.emplace(report.attempt, report.outcome).second)
    breaks("an operation is reported twice");
  auto& unconfirmed = unconfirmed_[report.attempt];
  unconfirmed.resize(containers_.size());
  for (const auto& entry : report.unconfirmed) unconfirmed[entry.member] = true;
  if ((report.outcome == Outcome::kDone) == report.cause.has_value())
    breaks("a failure without a cause, or a cause without a failure");
  if (report.operation != Operation::kCheckpoint) return;
  Epoch& epoch = store_[report.epoch];
  if (report.outcome == Outcome::kDone && !epoch.permanent) breaks("done, but not permanent");
  if (report.outcome == Outcome::kFailed && (epoch.permanent || epoch.there))
    breaks("failed, but still in the store");
  if (epoch.unknown != (epoch.stop && report.outcome == Outcome::kUnknown))
    breaks("a stop ended as if its commit were unknown, or was not told to");
}

// --- The members' side

bool Cluster::starts(MemberId member, const Work& work) {
  Container& container = containers_[member];
  switch (work.step) {
    case Step::kFreeze:
      return container.started;
    case Step::kLock:
      if (!container.frozen) breaks("locked while it runs");
      return true;
    case Step::kDump:
      dump_starts(member, work);
      return true;
    case Step::kPack:
      if (container.dump.attempt != work.attempt) breaks("packed without a dump of the attempt");
      if (container.staging != work.attempt) breaks("packed without staging");
      return true;
    case Step::kGo:
      if (work.operation == Operation::kRestart &&
          std::ranges::any_of(containers_,
                              [&](const Container& c) { return c.restored_in != work.attempt; }))
        breaks("a restarted container resumes before all are restored");
      return true;
    case Step::kConnect:
    case Step::kStart:
    case Step::kRestore:
      if (!container.exists) breaks("work on a container that is not there");
      return true;
    default:
      return true;
  }
}

void Cluster::ends(MemberId member, const Work& work, bool well, bool half) {
  Container& container = containers_[member];
  if (!container.alive || (!well && !half)) return;
  switch (work.step) {
    case Step::kPrepare:
    case Step::kUnpack:
      container.staging = work.attempt;
      break;
    case Step::kFreeze:
      freeze(container, work);
      break;
    case Step::kLock:
      container.locked = true;
      if (well) container.locked_in = work.attempt;
      break;
    case Step::kDump:
      if (well) dump_ends(member, work);
      break;
    case Step::kPack:
      if (well) write(member, work);
      break;
    case Step::kGo:
      if (well) go(container, work);
      break;
    case Step::kFinish:
      let_go(container, work);
      container.staging = 0;
      break;
    case Step::kEnd:
      remove_container(container);
      container.ended = true;
      break;
    case Step::kAbort:
      remove_file(member, work);
      let_go(container, work);
      container.staging = 0;
      break;
    case Step::kCreate:
      if (container.exists) breaks("a container is created over another");
      container.exists = true;
      container.restored_in = 0;
      break;
    case Step::kStart:
      container.started = true;
      break;
    case Step::kRestore:
      container.locked = container.frozen = true;
      if (well) container.restored_in = work.attempt;
      break;
    case Step::kDestroy:
      remove_container(container);
      break;
    case Step::kDrain:
    case Step::kConnect:
    case Step::kCommit:
      break;
  }
}

void Cluster::freeze(Container& container, const Work& work) {
  if (container.frozen) breaks("frozen twice");
  if (container.staging != work.attempt) breaks("frozen without staging");
  container.frozen = true;
}

void Cluster::dump_starts(MemberId member, const Work& work) {
  Container& container = containers_[member];
  if (!container.frozen || !container.locked) breaks("dumped while it runs or receives");
  for (const Container& other : containers_)
    if (other.locked_in != work.attempt) breaks("dumped before all have locked");
  container.dump = {work.attempt, container.sent, container.received};
}

void Cluster::dump_ends(MemberId member, const Work& work) {
  Container& container = containers_[member];
  if (!container.frozen || !container.locked || container.dump.sent != container.sent ||
      container.dump.received != container.received)
    breaks("the container moved while it was dumped");
  for (MemberId peer = 0; peer < containers_.size(); peer++) {
    const Dump& other = containers_[peer].dump;
    if (other.attempt != work.attempt) continue;
    if (container.dump.received[peer] > other.sent[member] ||
        other.received[member] > container.dump.sent[peer])
      breaks("the cut is not consistent: a dump has received what its sender's has not sent");
  }
}

void Cluster::go(Container& container, const Work& work) {
  if (work.operation == Operation::kRestart) {
    container.staging = 0;
    container.started = true;
  }
  let_go(container, work);
}

void Cluster::let_go(Container& container, const Work& work) {
  const auto epoch = store_.find(work.epoch);
  if (work.operation == Operation::kCheckpoint && epoch != store_.end() && work.stop &&
      epoch->second.permanent && !epoch->second.unknown && container.started && container.frozen)
    breaks("a container runs on beyond the checkpoint that is to be its end");
  container.locked = container.frozen = false;
}

void Cluster::write(MemberId member, const Work& work) {
  Epoch& epoch = store_[work.epoch];
  if (!epoch.there) return;  // a directory that vanished is not made anew
  if (epoch.permanent && epoch.files[member] != work.attempt)
    breaks("a permanent statefile is overwritten");
  epoch.files[member] = work.attempt;
}

void Cluster::late_pack(MemberId member, const Work& work) {
  write(member, work);
}

void Cluster::remove_file(MemberId member, const Work& work) {
  Epoch& epoch = store_[work.epoch];
  if (epoch.maybe || epoch.permanent) breaks("a statefile that may be permanent is removed");
  epoch.files[member] = 0;
}

void Cluster::remove_container(Container& container) {
  container.exists = container.started = container.frozen = container.locked = false;
  container.staging = 0;
}

void Cluster::crash(MemberId member) {
  Container& container = containers_[member];
  remove_container(container);
  container.alive = false;
}

// --- The application

bool Cluster::runs(MemberId member) const {
  const Container& container = containers_[member];
  return container.started && !container.frozen && !container.locked;
}

uint64_t Cluster::send(MemberId from, MemberId to) {
  return ++containers_[from].sent[to];
}

// What was dropped before comes again, as TCP does: the count is of all sent so far.  A frozen
// container still receives: the kernel does it.
void Cluster::arrives(MemberId from, MemberId to, uint64_t count) {
  Container& container = containers_[to];
  if (!container.alive || !container.started || container.locked) return;
  container.received[from] = std::max(container.received[from], count);
}

// --- At rest

void Cluster::check_rest(bool coordinator_lives) {
  for (MemberId member = 0; member < containers_.size(); member++) {
    const Container& container = containers_[member];
    const std::string who = "container " + std::to_string(member);
    if (!container.alive) continue;
    if (container.frozen || container.locked) breaks(who + " stands still for ever");
    if (container.staging != 0) breaks(who + " keeps its staging");
    if (container.exists && !container.started) breaks(who + " was left half made");
  }
  if (!coordinator_lives) return;
  for (const auto& [attempt, command] : attempts_) {
    const auto outcome = outcomes_.find(attempt);
    if (outcome == outcomes_.end()) {
      breaks("an operation was never reported");
      continue;
    }
    // Only the last attempt's end can still be seen on the containers.
    if (attempt != attempts_.rbegin()->first) continue;
    const bool gone = command.operation == Operation::kCheckpoint
                          ? command.stop && outcome->second == Outcome::kDone
                          : outcome->second == Outcome::kFailed;
    for (MemberId member = 0; member < containers_.size(); member++)
      if (gone && containers_[member].exists && !unconfirmed_[attempt][member])
        breaks("container " + std::to_string(member) + " is still there");
      else if (!gone && containers_[member].alive && !containers_[member].started &&
               !containers_[member].ended && command.operation != Operation::kCheckpoint)
        breaks("container " + std::to_string(member) + " does not run");
  }
}

}  // namespace stillpoint::coordinator::testing
