#include "criu-glue/statefile/pipeline.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

namespace stillpoint::statefile {

namespace {

constexpr size_t kMemory = size_t{48}
                           << 20;  // for buffers; the rest of 64 MiB is HDF5's and the heap's

// Starts threads until one cannot be started; at least one must.
Result<> start(std::vector<std::jthread>& threads, unsigned count,
               const std::function<void(unsigned)>& body) {
  threads.reserve(count);
  for (unsigned i = 0; i < count; ++i) {
    try {
      threads.emplace_back([&body, i] { body(i); });
    } catch (const std::system_error& e) {
      if (i == 0) return fail(system_error("starting a thread", e.code().value()));
      break;  // a limit on processes: slower, but it works
    }
  }
  return {};
}

struct Ordered {
  std::mutex mutex;
  std::condition_variable room, done;
  uint64_t next = 0, consumed = 0;
  bool stop = false;
  std::vector<std::optional<Result<>>> results;  // by slot
};

void produce_all(Ordered& o, unsigned thread, uint64_t jobs, const ThreadWork& produce) {
  const uint64_t slots = o.results.size();
  std::unique_lock lock(o.mutex);
  for (;;) {
    o.room.wait(lock, [&] { return o.stop || o.next == jobs || o.next < o.consumed + slots; });
    if (o.stop || o.next == jobs) return;
    const uint64_t job = o.next++;
    const auto slot = static_cast<unsigned>(job % slots);
    lock.unlock();
    auto result = produce(thread, slot, job);
    lock.lock();
    o.results[slot] = std::move(result);
    if (job == o.consumed) o.done.notify_one();
  }
}

Result<> consume_all(Ordered& o, uint64_t jobs, const CallerWork& consume) {
  for (uint64_t job = 0; job < jobs; ++job) {
    const auto slot = static_cast<unsigned>(job % o.results.size());
    std::unique_lock lock(o.mutex);
    o.done.wait(lock, [&] { return o.results[slot].has_value(); });
    Result<> result = std::move(*o.results[slot]);
    o.results[slot].reset();
    lock.unlock();
    if (result) result = consume(slot, job);
    if (!result) return result;
    lock.lock();
    o.consumed = job + 1;
    o.room.notify_one();
  }
  return {};
}

struct Fed {
  std::mutex mutex;
  std::condition_variable room, filled;
  std::deque<std::pair<unsigned, uint64_t>> queue;  // slot, job; in the order of the jobs
  std::vector<unsigned> free;
  bool ended = false;  // nothing more will be queued
  std::optional<Error> error;
  uint64_t failed_job = 0;
};

void work_all(Fed& f, unsigned thread, const ThreadWork& work) {
  std::unique_lock lock(f.mutex);
  for (;;) {
    f.filled.wait(lock, [&] { return f.ended || !f.queue.empty(); });
    if (f.queue.empty()) return;
    const auto [slot, job] = f.queue.front();
    f.queue.pop_front();
    // What was queued before a job that failed is still done: it may fail as well and come first.
    const bool needed = !f.error || job < f.failed_job;
    lock.unlock();
    Result<> result;
    if (needed) result = work(thread, slot, job);
    lock.lock();
    if (!result && (!f.error || job < f.failed_job)) {
      f.error = result.error();
      f.failed_job = job;
    }
    f.free.push_back(slot);
    f.room.notify_one();
  }
}

Result<> feed_all(Fed& f, uint64_t jobs, const CallerWork& feed) {
  for (uint64_t job = 0; job < jobs; ++job) {
    std::unique_lock lock(f.mutex);
    f.room.wait(lock, [&] { return f.error || !f.free.empty(); });
    if (f.error) return {};
    const unsigned slot = f.free.back();
    f.free.pop_back();
    lock.unlock();
    if (auto r = feed(slot, job); !r) return r;
    lock.lock();
    f.queue.emplace_back(slot, job);
    f.filled.notify_one();
  }
  return {};
}

}  // namespace

Crew make_crew(unsigned threads, size_t per_thread, size_t per_slot) {
  if (threads == 0) threads = std::max(1u, std::thread::hardware_concurrency());
  const size_t budget = kMemory - std::min(kMemory, 2 * per_slot);
  const auto most = static_cast<unsigned>(budget / (per_thread + per_slot));
  threads = std::min(threads, std::max(1u, most));
  return {threads, threads + 2};
}

Result<> run_ordered(Crew crew, uint64_t jobs, const ThreadWork& produce,
                     const CallerWork& consume) {
  Ordered o;
  o.results.resize(crew.slots);
  const std::function<void(unsigned)> body = [&](unsigned thread) {
    produce_all(o, thread, jobs, produce);
  };
  std::vector<std::jthread> threads;
  const auto count = static_cast<unsigned>(std::min<uint64_t>(crew.threads, jobs));
  Result<> result;
  if (count > 0) result = start(threads, count, body);
  if (result) result = consume_all(o, jobs, consume);
  {
    std::lock_guard lock(o.mutex);
    o.stop = true;
  }
  o.room.notify_all();
  threads.clear();  // joins
  return result;
}

Result<> run_fed(Crew crew, uint64_t jobs, const CallerWork& feed, const ThreadWork& work) {
  Fed f;
  for (unsigned slot = crew.slots; slot > 0; --slot) f.free.push_back(slot - 1);
  const std::function<void(unsigned)> body = [&](unsigned thread) { work_all(f, thread, work); };
  std::vector<std::jthread> threads;
  const auto count = static_cast<unsigned>(std::min<uint64_t>(crew.threads, jobs));
  Result<> result;
  if (count > 0) result = start(threads, count, body);
  if (result) result = feed_all(f, jobs, feed);
  {
    std::lock_guard lock(f.mutex);
    f.ended = true;
  }
  f.filled.notify_all();
  threads.clear();                     // joins
  if (f.error) return fail(*f.error);  // of a job before the one that could not be fed
  return result;
}

}  // namespace stillpoint::statefile
