// For the tests of this folder: coroutines that run to their end, members that answer as they are
// told to, and a front end that remembers.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/units.h"
#include "launcher/agent/front_end.h"
#include "launcher/agent/member_port.h"

namespace stillpoint::agent::testing {

using namespace std::chrono_literals;

// Runs the loop until the coroutine has ended, 60 s at most, and gives what it returned.
template <typename T>
T run(asio::io_context& io, Task<T> task) {
  std::optional<T> result;
  asio::co_spawn(io, std::move(task), [&](const std::exception_ptr& e, T value) {
    if (e) std::rethrow_exception(e);
    result.emplace(std::move(value));
    io.stop();
  });
  io.restart();
  io.run_for(60s);
  if (!result) throw std::runtime_error("the coroutine does not end");
  return std::move(*result);
}

inline void run(asio::io_context& io, Task<> task) {
  run(io, [](Task<> inner) -> Task<bool> {
    co_await std::move(inner);
    co_return true;
  }(std::move(task)));
}

// What is due now, and what follows from it at once.
inline void settle(asio::io_context& io) {
  io.restart();
  io.poll();
}

inline Task<> pause(Milliseconds time) {
  Event never(co_await asio::this_coro::executor);
  (void)co_await never.wait(Deadline::in(time));
}

// A member, from both sides: what it was told, and what it says.
struct FakeMember {
  explicit FakeMember(asio::io_context& context) : io(context) {}
  FakeMember(const FakeMember&) = delete;

  asio::io_context& io;
  MemberEvents events;
  std::vector<std::string> commands;  // names of the steps, in order
  std::map<coordinator::Step, std::string> details;
  std::vector<link::ToSupervisor> told;
  std::vector<control::RankStatus> ranks;
  bool silent = false;  // when asked for its ranks
  int left = 0;
  Result<> leaves;
  // None: it does not answer.
  std::function<std::optional<Result<std::string>>(const coordinator::Command&)> answer =
      [](const auto&) { return Result<std::string>(); };

  std::unique_ptr<MemberPort> port();

  void lose(const std::string& why) const { events.lost(Error(ErrorKind::kIo, why)); }
  void end(int status, const std::string& reason = {}) const {
    link::FromSupervisor news;
    news.mutable_ended()->set_status(status);
    news.mutable_ended()->set_reason(reason);
    events.news(news);
  }
};

class FakePort : public MemberPort {
 public:
  explicit FakePort(FakeMember& fake) : fake_(fake) {}

  void command(const coordinator::Command& command, const std::string& details) override {
    fake_.commands.emplace_back(coordinator::name(command.step));
    fake_.details[command.step] = details;
    if (auto result = fake_.answer(command))
      asio::post(fake_.io, [&fake = fake_, command, result = std::move(*result)] {
        fake.events.answered({command.attempt, command.step, result});
      });
  }
  void tell(const link::ToSupervisor& message) override { fake_.told.push_back(message); }
  Task<Result<std::vector<control::RankStatus>>> look(Deadline) override {
    if (fake_.silent) co_return fail(ErrorKind::kTimeout, "no answer");
    co_return fake_.ranks;
  }
  Task<Result<>> leave(Deadline) override {
    fake_.left++;
    co_return fake_.leaves;
  }

 private:
  FakeMember& fake_;
};

inline std::unique_ptr<MemberPort> FakeMember::port() {
  return std::make_unique<FakePort>(*this);
}

class FakeFrontEnd : public FrontEnd, public ProgressSink {
 public:
  FrontEndEvents events;
  std::vector<std::string> calls;  // in order
  bool drains = true;

  void serve(FrontEndEvents taken, bool tag) override {
    events = std::move(taken);
    calls.push_back(tag ? "serve tagged" : "serve");
  }
  void output(uint32_t part, const link::Output& record) override {
    calls.push_back("output " + std::to_string(part) + " " + record.data());
  }
  Task<Result<WrittenBytes>> hold() override { co_return WrittenBytes{}; }
  void release() override { calls.push_back("release"); }
  void drop() override { calls.push_back("drop"); }
  Task<bool> drained(Deadline) override { co_return drains; }
  void input_opened(uint64_t taken, bool closed) override {
    calls.push_back("input " + std::to_string(taken) + (closed ? " closed" : " open"));
  }
  void input_suspended() override { calls.push_back("input suspended"); }
  void input_taken(const link::StdinTaken& news) override {
    calls.push_back("taken " + std::to_string(news.offset()));
  }
  ProgressSink& progress() override { return *this; }
  Task<> finish(Result<int>) override { co_return; }

  void update(const std::string& phase, uint64_t done, uint64_t total) override {
    calls.push_back(phase + " " + std::to_string(done) + "/" + std::to_string(total));
  }
  void finished() override { calls.push_back("finished"); }
};

}  // namespace stillpoint::agent::testing
