// The user's command, from the side of a lead in another process: what the lead has for the user
// goes over the connection that the command has made, and what the user says comes back.
#pragma once

#include <memory>

#include "launcher/agent/front_end.h"
#include "launcher/peer/connection.h"
#include "launcher/peer/outbox.h"

namespace stillpoint::remote {

class RemoteFrontEnd : public agent::FrontEnd {
 public:
  RemoteFrontEnd(const asio::any_io_executor& executor,
                 std::unique_ptr<peer::Connection> connection);
  ~RemoteFrontEnd() override;

  void say(int level, const std::string& text);
  bool finished() const;

  void serve(agent::FrontEndEvents events, bool tag) override;
  void output(uint32_t part, const link::Output& record) override;
  Task<Result<agent::WrittenBytes>> hold() override;
  void release() override;
  void drop() override;
  Task<bool> drained(Deadline deadline) override;
  void input_opened(uint64_t taken, bool closed) override;
  void input_suspended() override;
  void input_taken(const link::StdinTaken& news) override;
  agent::ProgressSink& progress() override;
  Task<> finish(Result<int> status) override;

 private:
  struct State;
  static Task<> read_loop(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace stillpoint::remote
