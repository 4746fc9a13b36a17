// Collective operations among the nodes of a job: each node gives one contribution under a key, and
// once all nodes of the operation have given theirs, the caller gets all of them.
//
// No I/O: contributions of other nodes come in through arrived(), and what they must be sent is the
// caller's business. A key may be used again and again; a fast node may be ahead of us, so its
// contributions queue.  Used by one thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/error.h"

namespace stillpoint::supervisor {

class Collectives {
 public:
  using Node = uint32_t;
  using Parts = std::vector<std::string>;         // one per node, in the order of the nodes
  using Done = std::function<void(Parts parts)>;  // may start the next operation

  // Bytes that other nodes may be ahead of us with, all operations together.
  static constexpr size_t kMostEarlyBytes = 64 << 20;

  explicit Collectives(Node self, size_t most_early_bytes = kMostEarlyBytes)
      : self_(self), most_early_bytes_(most_early_bytes) {}

  // Ours.  `done` is called from here or from a later arrived().  kProtocol if `nodes` lacks us.
  Result<> contribute(const std::string& key, std::set<Node> nodes, std::string data, Done done);
  // Another node's.  kProtocol if it is ahead of us by more than we hold for it.
  Result<> arrived(const std::string& key, Node from, std::string data);

  size_t pending() const { return operations_.size(); }

 private:
  struct Ours {
    std::set<Node> nodes;
    Done done;
  };
  struct Operation {
    std::map<Node, std::deque<std::string>> parts;
    std::deque<Ours> ours;
  };
  void complete(const std::string& key);

  Node self_;
  size_t most_early_bytes_, early_bytes_ = 0;
  std::map<std::string, Operation> operations_;
};

}  // namespace stillpoint::supervisor
