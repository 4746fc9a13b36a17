// The agent's part in the tests: a supervisor in namespaces of its own, and a link to it that is
// used step by step.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/deadline.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/process.h"
#include "common/wire/frame.h"
#include "common/wire/link.pb.h"

namespace stillpoint::supervisor::testing {

// One link to a supervisor.  Every call throws std::runtime_error when it takes longer than half a
// minute.
class FakeAgent {
 public:
  // Connects (or takes a socket that is connected), and exchanges Hellos.
  FakeAgent(const std::string& socket_path, uint64_t output_taken);
  FakeAgent(Fd connected, uint64_t output_taken);

  const link::Hello& hello() const { return hello_; }
  void send(const link::ToSupervisor& message);
  void send_raw(const std::string& bytes);
  void acknowledge(uint64_t next);
  void feed(uint64_t offset, const std::string& data, bool end);
  void signal(int number);
  // The next message; none once the supervisor has closed the link.
  std::optional<link::FromSupervisor> receive();
  // Parks: takes messages until Parked and the end of the stream.  The messages before it.
  std::vector<link::FromSupervisor> park();

 private:
  Fd socket_;
  wire::FrameReader frames_;
  link::Hello hello_;
};

// What a job has said and how it has ended, gathered over as many links as it takes.
struct Gathered {
  std::string out, err;                     // all ranks, as it came
  std::map<uint32_t, std::string> by_rank;  // standard output
  uint64_t next = 0;                        // record expected
  uint64_t repeated = 0;                    // records that had come before
  uint64_t stdin_taken = 0;
  bool stdin_closed = false;
  std::vector<int32_t> pids;
  std::optional<link::StartFailed> start_failed;
  std::optional<link::Ended> ended;
  link::State state;
  bool state_came = false;

  void take(const link::FromSupervisor& message);  // throws if a record is missing
};

// A supervisor as pid 1 of new pid, mount, network, ipc and uts namespaces, as an ordinary user.
// Needs root.  Ended by the destructor, with all that it has started.
class TestSupervisor {
 public:
  struct Host {
    std::string name = "node0";
    int network = -1;  // a network namespace to live in, instead of a new one; not owned
  };
  explicit TestSupervisor(const std::string& tick_ms = "1000");  // length of its seconds
  TestSupervisor(const std::string& tick_ms, const Host& host);
  ~TestSupervisor();

  pid_t pid() const { return init_; }  // as seen from here
  const std::string& directory() const {
    return directory_;
  }  // writable for the user; private to this test
  FakeAgent call(uint64_t output_taken = 0) const { return FakeAgent(socket_path_, output_taken); }
  std::string complaints() const;                // what the supervisor wrote to its standard error
  Exit wait();                                   // for it to leave by itself
  uint64_t memory() const;                       // resident bytes
  std::vector<std::string> descriptors() const;  // what its open descriptors are

  // A job with this command; environment: PATH, HOME and `env`.
  link::ToSupervisor start_message(uint32_t ranks, std::vector<std::string> argv,
                                   std::vector<std::string> env = {}) const;
  void kill();  // with everything in its namespaces
  // Runs one from its start to its end.  The supervisor is told Bye.
  Gathered run(uint32_t ranks, const std::vector<std::string>& argv,
               const std::vector<std::string>& env = {});

 private:
  std::string directory_, socket_path_;
  Child outer_;
  pid_t init_ = 0;
};

// Takes messages and acknowledges output until `done` says so.
template <typename Done>
void gather(FakeAgent& agent, Gathered& all, Done done) {
  while (!done()) {
    auto message = agent.receive();
    if (!message) throw std::runtime_error("the supervisor closed the link");
    all.take(*message);
    if (message->has_output()) agent.acknowledge(all.next);
  }
}

}  // namespace stillpoint::supervisor::testing
