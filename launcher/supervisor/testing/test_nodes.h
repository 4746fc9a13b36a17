// A job over several nodes in the tests: a network namespace for each node with an mpi0 of its own,
// all of them on one bridge; in each a supervisor, and this test as the agents of all.  Needs root.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/fd.h"
#include "launcher/supervisor/testing/fake_agent.h"

namespace stillpoint::supervisor::testing {

class TestNetwork {
 public:
  explicit TestNetwork(size_t nodes);
  int node(size_t index) const { return nodes_[index].get(); }  // its network namespace
  static std::string address(size_t index);

  // Runs `act` in a node's network namespace.
  template <typename Act>
  void in_node(size_t index, Act act) const {
    in_namespace(nodes_[index].get(), [&] {
      act();
      return 0;
    });
  }

 private:
  static void in_namespace(int network, const std::function<int()>& act);
  static void shell_in(int network, const std::string& script);

  Fd hub_;
  std::vector<Fd> nodes_;
};

// The ranks of each node.
using Spread = std::vector<std::vector<uint32_t>>;

class TestNodes {
 public:
  explicit TestNodes(Spread spread, const std::string& tick_ms = "1000");

  static std::string name(size_t node) { return "n" + std::to_string(node); }
  const TestNetwork& network() const { return network_; }
  const std::string& directory() const { return supervisors_.front()->directory(); }
  TestSupervisor& supervisor(size_t node) { return *supervisors_[node]; }
  FakeAgent& agent(size_t node) { return *agents_[node]; }
  Gathered& gathered(size_t node) { return gathered_[node]; }

  link::ToSupervisor start_message(size_t node, const std::vector<std::string>& argv,
                                   const std::vector<std::string>& env = {}) const;
  // Starts the job on all nodes; end of standard input included.
  void start(const std::vector<std::string>& argv, const std::vector<std::string>& env = {});
  void await_end(size_t node);
  void bye();
  // All of it; what the ranks have said, of all nodes.
  std::map<uint32_t, std::string> run(const std::vector<std::string>& argv,
                                      const std::vector<std::string>& env = {});
  std::string errors() const;  // what came on standard error, of all nodes
  // Every node's: "0", or "139 rank 3 was killed ...".
  std::vector<std::string> endings() const;

 private:
  Spread spread_;
  TestNetwork network_;
  std::vector<std::unique_ptr<TestSupervisor>> supervisors_;
  std::vector<std::unique_ptr<FakeAgent>> agents_;
  std::vector<Gathered> gathered_;
};

}  // namespace stillpoint::supervisor::testing
