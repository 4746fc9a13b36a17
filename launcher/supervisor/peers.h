// The connections among the supervisors of a job: who calls whom, who is let in, how messages are
// cut into frames and put together again, and when a peer is lost.  An engine without I/O; mesh.h
// has the sockets.
//
//   unknown -> calling <-> resting -> up -> lost
//          `-> greeted ------------'
//
//   calling    a call is under way, or the peer has not welcomed us yet.
//   resting    a call has failed (the peer has not begun, its mpi0 is not there yet, it is slow):
//              tried again at the next tick, until kCallTicks have passed.
//   greeted    the peer has called, and we have welcomed it.  It may have given that call up by
//              then, so nothing is sent until it welcomes us in turn.
//   up         both have welcomed each other.  It stays so until the connection breaks: no silence
//              is too long, because a node that is frozen for a dump is silent, too.  A node that
//              vanishes without a word is for the agents to notice.
//
// Calls are made when there is something to send, and at once to the node above us in the tree of
// all nodes, so that every node has somebody who sees it go.  If two call each other at the same
// time, the call of the lower one stands.  Used by one thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "common/wire/frame.h"
#include "common/wire/mesh.pb.h"

namespace stillpoint::supervisor {

class Peers {
 public:
  using Node = uint32_t;
  using Connection = uint64_t;  // the adapter's name for one; never used again
  using Payload = std::shared_ptr<const std::string>;  // one message; it may go to many

  static constexpr int kCallTicks = 60;           // for a connection to a peer to come about
  static constexpr int kAttemptTicks = 5;         // for one call
  static constexpr int kHelloTicks = 10;          // for a caller to say who it is
  static constexpr size_t kMostGreeting = 4096;   // bytes of a caller that has not been let in
  static constexpr size_t kMostStrangers = 64;    // callers that have not, beyond one a node
  static constexpr size_t kFragment = 256 << 10;  // bytes of a message in one frame

  struct Limits {
    size_t message = 256 << 20;   // bytes of one
    size_t queued = 1024U << 20;  // bytes for a peer that does not read
  };
  struct Group {
    Node self = 0, nodes = 1;
    std::string job, token;
  };

  class Actions {
   public:
    virtual ~Actions() = default;
    virtual void call(Node node) = 0;                  // answered by called() or call_failed()
    virtual void stop_call(Node node) = 0;             // no answer is wanted any more
    virtual void writable(Connection connection) = 0;  // next() has something
    virtual void close(Connection connection) = 0;     // at once; no more is heard of it
    virtual void received(Node from, std::string message) = 0;
    virtual void lost(Node node, std::string why) = 0;  // once; nothing is sent to it any more
    virtual void complain(const std::string& what) = 0;
  };

  Peers(Group group, Actions& actions) : Peers(std::move(group), actions, Limits{}) {}
  Peers(Group group, Actions& actions, Limits limits)
      : group_(std::move(group)), actions_(actions), limits_(limits) {}

  void begin();  // calls the node above us
  void send(Node to, Payload message);
  void send_all(const Payload& message);  // to every other node, along the tree
  void tick();

  // From the adapter.
  void called(Node node, Connection connection);
  void call_failed(Node node, const std::string& why);
  void accepted(Connection connection);
  void arrived(Connection connection, std::string_view bytes);
  void closed(Connection connection, const std::string& why);
  // The next frame to be written there, or none for now.
  std::optional<std::string> next(Connection connection);

  bool up(Node node) const;

 private:
  enum class State { kUnknown, kCalling, kResting, kGreeted, kUp, kLost };
  struct Item {
    Payload message;
    bool to_all = false;
    size_t sent = 0;
  };
  struct Peer {
    State state = State::kUnknown;
    std::optional<Connection> connection;  // by which we called, or were called, or that is up
    bool called_by_us = false;             // up by our call
    int ticks_left = 0, attempt_left = 0;
    std::string why;  // the last call failed
    std::deque<Item> queue;
    size_t queued = 0;
  };
  struct Line {
    std::optional<Node> node;  // none: a caller that has not said
    bool welcomed = false;     // by us: a call of the peer's
    bool up = false, closing = false;
    int ticks = 0;
    size_t greeting = 0;  // bytes taken before it was let in
    wire::FrameReader frames;
    std::deque<std::string> first;  // frames that go before messages
    std::string message;            // what has come of the one under way
  };

  void call(Node node);
  void rest(Node node, const std::string& why);
  void queue(Node to, Item item);
  std::vector<Node> neighbours() const;
  void say(Connection connection, const mesh::Frame& frame);
  Result<> take(Connection connection, Line& line, const std::string& payload);
  Result<> take_hello(Connection connection, Line& line, const mesh::Hello& hello);
  Result<> take_answer(Connection connection, Line& line, const mesh::Frame& frame);
  Result<> take_fragment(Line& line, const mesh::Fragment& fragment);
  void refuse(Connection connection, const std::string& reason);
  void welcome(Connection connection);
  void raise(Node node, Connection connection, Line& line);
  void hang_up(Connection connection);
  void lose(Node node, const std::string& why);
  void bound_strangers();

  Group group_;
  Actions& actions_;
  Limits limits_;
  std::map<Node, Peer> peers_;
  std::map<Connection, Line> lines_;
};

}  // namespace stillpoint::supervisor
