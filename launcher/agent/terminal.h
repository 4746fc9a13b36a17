// The front end in the process of the user's command: its standard streams and signals.
#pragma once

#include <boost/asio/signal_set.hpp>
#include <optional>

#include "launcher/agent/front_end.h"
#include "launcher/agent/input_relay.h"
#include "launcher/agent/output_relay.h"

namespace stillpoint::agent {

class Terminal : public FrontEnd {
 public:
  Terminal(const asio::any_io_executor& executor, ProgressSink& progress)
      : executor_(executor), progress_(progress) {}

  void serve(FrontEndEvents events, bool tag) override;
  void output(uint32_t part, const link::Output& record) override;
  Task<Result<WrittenBytes>> hold() override;
  void release() override { output_->release(); }
  void drop() override { output_->drop(); }
  Task<bool> drained(Deadline deadline) override;
  void input_opened(uint64_t taken, bool closed) override { input_->opened(taken, closed); }
  void input_suspended() override { input_->suspend(); }
  void input_taken(const link::StdinTaken& news) override { input_->taken(news); }
  ProgressSink& progress() override { return progress_; }
  Task<> finish(Result<int>) override { co_return; }  // who made us has it already

 private:
  Task<> watch_signals();

  asio::any_io_executor executor_;
  ProgressSink& progress_;
  FrontEndEvents events_;
  std::optional<OutputRelay> output_;
  std::optional<InputRelay> input_;
};

}  // namespace stillpoint::agent
