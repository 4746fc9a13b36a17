// A job's coordinator and members over a network that loses, delays, doubles and reorders, on nodes
// that die, with work that fails, takes long or goes on after its end: all of it from one seed.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "launcher/coordinator/member.h"
#include "launcher/coordinator/testing/cluster.h"

namespace stillpoint::coordinator::testing {

// What goes wrong in a run.
struct Faults {
  double loss = 0, doubled = 0;  // of each message
  double late = 0;               // messages that take up to 400 ms
  int most_delay = 3;            // ms, of the others
  double fail = 0, slow = 0;     // of each work
  double haunted = 0;            // packers that fail and write after all
  double commit_not = 0, commit_unknown = 0;
  int crashes = 0, cuts = 0;  // of members
  bool coordinator_dies = false;
  double told = 0;         // of losses the others are told about
  double misled = 0;       // members told of a loss that is none
  bool impatient = false;  // a short hold limit
  bool mild = false;       // messages are lost, but at most two of a link in one round

  // If not, every operation has to succeed.
  bool grave() const {
    if (mild) return false;
    return loss + doubled + late + fail + slow + haunted + commit_not + commit_unknown + misled >
               0 ||
           crashes + cuts > 0 || coordinator_dies || impatient;
  }
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed, bool trace = false);

  // The first promise broken; empty if all were kept.
  std::string run();
  const Faults& faults() const { return faults_; }
  int succeeded() const { return succeeded_; }
  int failed() const { return failed_; }

 private:
  struct Node {
    Member member;
    bool alive = true;
    std::vector<std::pair<Time, Time>> cuts;  // from, to
    Time last_loss{-1000};                    // of a message, to or from it
    uint64_t job = 0;                         // the work under way; 0: none
    Time wakeup{-1};
    Time held_from{-1};
  };
  struct Event {
    Time at;
    uint64_t order;
    std::function<void()> act;
    bool operator<(const Event& other) const {
      return std::pair(other.at, other.order) < std::pair(at, order);
    }
  };

  // scenario
  void choose();
  void choose_faults();
  void schedule_faults();
  void crash(MemberId member);
  void cut(MemberId member);
  void next_operation();
  void traffic();

  // what the machines ask for
  void apply(const Actions& actions);
  void apply(MemberId member, const MemberActions& actions);
  void send(const Command& command, MemberId to);
  void commit(const Commit& commit);
  void report(const Report& report);
  void work(MemberId member, const Work& work);
  void finish(MemberId member, uint64_t job, const Work& work, bool well, bool half);
  void watch_hold(Node& node, const Work& work);
  void transmit(MemberId member, std::function<void()> arrive);
  bool loses(MemberId member);

  void after(int milliseconds, std::function<void()> act);
  int roll(int from, int to);  // both included
  bool chance(double probability);
  void say(const std::string& line) const;

  std::mt19937_64 random_;
  bool trace_;
  Limits limits_;
  Faults faults_;
  std::vector<Node> nodes_;
  Cluster cluster_;
  Coordinator coordinator_;
  bool coordinator_lives_ = true;
  Time coordinator_wakeup_{-1};

  Time now_{0};
  uint64_t order_ = 0, jobs_ = 0;
  std::priority_queue<Event> events_;
  Command begun_;
  Time report_due_{0}, faults_until_{0};
  bool launched_ = false, over_ = false;
  int left_ = 0;  // operations to come
  int succeeded_ = 0, failed_ = 0;
};

}  // namespace stillpoint::coordinator::testing
