// Waiting inside coroutines: an event that can be awaited with a deadline, and a worker's result.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>

#include "common/deadline.h"
#include "common/error.h"
#include "common/worker.h"

namespace stillpoint {

namespace asio = boost::asio;
template <typename T = void>
using Task = asio::awaitable<T>;

// Set by one, awaited by any number; stays set until reset.  One io_context, one thread.
class Event {
 public:
  explicit Event(const asio::any_io_executor& executor)
      : timer_(std::make_shared<asio::steady_timer>(executor,
                                                    asio::steady_timer::time_point::max())) {}
  void set();
  void reset() { set_ = false; }
  bool is_set() const { return set_; }
  Task<> wait();
  Task<bool> wait(Deadline deadline);  // false: the deadline came first

 private:
  // Shared with the handler that ends a bounded wait, which may be queued when the event goes.
  std::shared_ptr<asio::steady_timer> timer_;
  bool set_ = false;
};

// Calls `tick` again and again while it lives, and never after.
class Ticker {
 public:
  Ticker(const asio::any_io_executor& executor, std::chrono::milliseconds interval,
         std::function<void()> tick);
  ~Ticker();
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;

 private:
  struct State;
  static void arm(const std::shared_ptr<State>& state);
  // Shared with the timer's handler, which may be queued already when this object goes.
  std::shared_ptr<State> state_;
};

// Calls `each(0)` to `each(n - 1)` at once; returns when all have ended.
Task<> for_all(const asio::any_io_executor& executor, size_t n, std::function<Task<>(size_t)> each);

// Awaits the worker; at the deadline it is killed (kTimeout).  `on_progress` is called when it
// reports.
Task<Result<std::string>> finish(Worker worker, Deadline deadline,
                                 std::function<void(WorkDone)> on_progress = {});

}  // namespace stillpoint
