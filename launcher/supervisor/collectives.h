// Collective operations among the nodes of a job: each node gives one contribution under a key, and
// once all nodes of the operation have given theirs, every one of them gets all.
//
// The contributions travel along a tree over the operation's nodes (fan.h; place 0 is the lowest):
// each node waits for those below it, hands its own and theirs up in one bundle, and what comes
// down from place 0 is all of them.  So a node has to do with few others, however many there are.
//
// No I/O: what must be sent goes out through Outlet, what has come is given to gathered() and
// spread().  A key may be used again and again; a fast node may be ahead of us, so its bundles
// queue.  Used by one thread.
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

  struct Part {
    Node node = 0;
    std::string data;
  };
  using Bundle = std::vector<Part>;

  class Outlet {
   public:
    virtual ~Outlet() = default;
    virtual void gather(Node above, const std::string& key, const Bundle& parts) = 0;
    virtual void spread(const std::vector<Node>& below, const std::string& key,
                        const Bundle& all) = 0;
  };

  // Bytes that other nodes may be ahead of us with, all operations together.
  static constexpr size_t kMostEarlyBytes = 256 << 20;

  Collectives(Node self, Outlet& outlet, size_t most_early_bytes = kMostEarlyBytes)
      : self_(self), outlet_(outlet), most_early_bytes_(most_early_bytes) {}

  // Ours.  `done` is called from here or from a later call.  kProtocol if `nodes` lacks us.
  Result<> contribute(const std::string& key, const std::set<Node>& nodes, std::string data,
                      Done done);
  // From a node below us.  kProtocol if it is ahead of us by more than we hold for it, or if what
  // it brings is not what the operation is about.
  Result<> gathered(const std::string& key, Node from, Bundle parts);
  // From the node above us: an operation is complete.  kProtocol if we wait for none such.
  Result<> spread(const std::string& key, Node from, Bundle all);

  size_t pending() const { return operations_.size(); }

 private:
  struct Ours {
    std::vector<Node> nodes;  // ascending
    uint32_t place = 0;       // ours among them
    std::string data;
    Done done;
    bool handed_up = false;

    std::vector<Node> below() const;
  };
  struct Operation {
    std::map<Node, std::deque<Bundle>> below;
    std::deque<Ours> ours;
  };
  Result<> advance(const std::string& key);
  Bundle collect(const std::string& key, Operation& operation, Ours& ours);
  Result<> complete(const std::string& key, Bundle all);

  Node self_;
  Outlet& outlet_;
  size_t most_early_bytes_, early_bytes_ = 0;
  std::map<std::string, Operation> operations_;
};

}  // namespace stillpoint::supervisor
