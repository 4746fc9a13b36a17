// Which rank of a job is on which node, and where the nodes' supervisors are found.  Checked once,
// when it is made; nodes and ranks are numbered from 0.  No I/O.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"

namespace stillpoint::supervisor {

class Placement {
 public:
  static constexpr uint32_t kMostNodes = 4096;
  static constexpr uint32_t kMostRanks = 1 << 18;      // of a job
  static constexpr uint32_t kMostRanksOfANode = 4096;  // PMIx has 16 bits for them

  struct Node {
    std::string hostname;         // no two are the same: PMIx tells nodes apart by it
    std::string address;          // IPv4, on the container network; not used in a job of one node
    std::vector<uint32_t> ranks;  // ascending
  };

  // A job on one node.
  static Result<Placement> make(std::string hostname, uint32_t ranks);
  // On several, of which we are number `self`.  Every rank from 0 to `ranks` - 1 is on one of them,
  // and none is idle.  kUsage otherwise.
  static Result<Placement> make(std::vector<Node> nodes, uint32_t self, uint32_t ranks);

  uint32_t self() const { return self_; }
  uint32_t ranks() const { return static_cast<uint32_t>(places_.size()); }
  const std::vector<Node>& nodes() const { return nodes_; }
  const Node& here() const { return nodes_[self_]; }
  bool alone() const { return nodes_.size() == 1; }

  bool knows(uint32_t rank) const { return rank < places_.size(); }
  uint32_t node_of(uint32_t rank) const { return places_[rank].node; }  // of one that it knows
  uint32_t local_rank(uint32_t rank) const { return places_[rank].local; }

 private:
  struct Place {
    uint32_t node = 0, local = 0;
  };
  Placement(std::vector<Node> nodes, uint32_t self, std::vector<Place> places)
      : nodes_(std::move(nodes)), self_(self), places_(std::move(places)) {}

  std::vector<Node> nodes_;
  uint32_t self_ = 0;
  std::vector<Place> places_;  // by rank
};

// "0-3,7,9-10": ascending numbers in the shortest form.
std::string compact(const std::vector<uint32_t>& numbers);
// "0,1,2,3"
std::string listed(const std::vector<uint32_t>& numbers);

}  // namespace stillpoint::supervisor
