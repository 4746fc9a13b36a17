// What the protocol is about, without the protocol: containers that run, stand or are locked, the
// messages of the application between them, and the store of the checkpoints.  It does what the
// members' work says and says which promise was broken first.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launcher/coordinator/coordinator.h"
#include "launcher/coordinator/member.h"

namespace stillpoint::coordinator::testing {

class Cluster {
 public:
  explicit Cluster(size_t members);

  // Empty as long as all promises hold.
  const std::string& broken() const { return broken_; }

  // The coordinator's side.
  void begun(const Command& first);
  void sent(const Command& command);
  void commit_begins(uint64_t epoch);
  void commit_lands(uint64_t epoch, bool permanent);  // may be long after it was given up
  void discard(uint64_t epoch);
  void reported(const Report& report);

  // The members' side: work that begins, and that ends well or badly.  `half`: what fails has had
  // its effect nevertheless.  False if the work could not succeed.
  bool starts(MemberId member, const Work& work);
  void ends(MemberId member, const Work& work, bool well, bool half);
  // A packer that was thought dead writes after all.
  void late_pack(MemberId member, const Work& work);
  void crash(MemberId member);

  // The application's.
  bool runs(MemberId member) const;
  uint64_t send(MemberId from, MemberId to);
  void arrives(MemberId from, MemberId to, uint64_t count);

  // When all has come to rest.
  void check_rest(bool coordinator_lives);
  void breaks(const std::string& promise);

 private:
  struct Dump {
    uint64_t attempt = 0;
    std::vector<uint64_t> sent, received;  // per peer
  };
  struct Container {
    bool alive = true;  // its agent
    bool exists = false, started = false, frozen = false, locked = false, ended = false;
    uint64_t staging = 0;  // attempts, 0: none
    uint64_t locked_in = 0, restored_in = 0;
    std::vector<uint64_t> sent, received;
    Dump dump;
  };
  struct Epoch {
    uint64_t attempt = 0;
    bool stop = false, there = true, permanent = false;
    bool maybe = false;           // the commit was begun and is not known to have failed
    bool unknown = false;         // a stop that ends without its end
    std::vector<uint64_t> files;  // per member: the attempt that wrote it
  };
  void freeze(Container& container, const Work& work);
  void dump_starts(MemberId member, const Work& work);
  void dump_ends(MemberId member, const Work& work);
  void go(Container& container, const Work& work);
  void let_go(Container& container, const Work& work);
  void write(MemberId member, const Work& work);
  void remove_file(MemberId member, const Work& work);
  void remove_container(Container& container);

  std::vector<Container> containers_;
  std::map<uint64_t, Epoch> store_;
  std::map<uint64_t, Outcome> outcomes_;               // by attempt
  std::map<uint64_t, std::vector<bool>> unconfirmed_;  // by attempt
  std::map<uint64_t, Command> attempts_;
  std::string broken_;
};

}  // namespace stillpoint::coordinator::testing
