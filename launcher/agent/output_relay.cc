#include "launcher/agent/output_relay.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>

namespace stillpoint::agent {

namespace {
constexpr auto kQuietly = asio::as_tuple(asio::use_awaitable);
}

OutputRelay::OutputRelay(const asio::any_io_executor& executor, bool tag,
                         std::function<void(uint32_t, uint64_t)> acknowledge,
                         std::function<void()> reader_gone)
    : executor_(executor),
      tag_(tag),
      acknowledge_(std::move(acknowledge)),
      reader_gone_(std::move(reader_gone)),
      out_(make_sink(executor, STDOUT_FILENO)),
      err_(make_sink(executor, STDERR_FILENO)),
      idle_(executor),
      resting_(executor) {
  idle_.set();
  resting_.set();
}

OutputRelay::Sink OutputRelay::make_sink(const asio::any_io_executor& executor, int fd) {
  Sink sink{.fd = fd, .poll = {}};
  struct stat s{};
  if (::fstat(fd, &s) != 0) {
    sink.closed = true;
    return sink;
  }
  // Files and /dev/null cannot be polled and never block for long.
  const bool pollable = S_ISFIFO(s.st_mode) || S_ISSOCK(s.st_mode) || ::isatty(fd);
  if (pollable) {
    sink.poll.emplace(executor);
    boost::system::error_code error;
    sink.poll->assign(::dup(fd), error);
    if (error) sink.poll.reset();
  }
  return sink;
}

std::string OutputRelay::tagged(Sink& sink, const link::Output& record) const {
  if (!tag_) return record.data();
  const std::string tag = "[1," + std::to_string(record.rank()) +
                          (record.stream() == link::STDOUT ? "]<stdout>: " : "]<stderr>: ");
  std::string text;
  for (const char c : record.data()) {
    if (sink.at_line_start) text += tag;
    text += c;
    sink.at_line_start = c == '\n';
  }
  return text;
}

void OutputRelay::take(uint32_t part, const link::Output& record) {
  Sink& sink = record.stream() == link::STDOUT ? out_ : err_;
  pending_.push_back({part, record.number(), &sink, tagged(sink, record)});
  idle_.reset();
  go_on();
}

void OutputRelay::go_on() {
  if (writing_ || held_ || pending_.empty()) return;
  writing_ = true;
  resting_.reset();
  asio::co_spawn(executor_, write_loop(), asio::detached);
}

Task<bool> OutputRelay::hold(Deadline deadline) {
  held_ = true;
  co_return co_await resting_.wait(deadline);
}

void OutputRelay::release() {
  held_ = false;
  go_on();
}

void OutputRelay::drop() {
  if (writing_) return pending_.resize(1);  // whose reader may have a part of it already
  pending_.clear();
  idle_.set();
}

Task<bool> OutputRelay::drained(Deadline deadline) {
  co_return co_await idle_.wait(deadline);
}

Task<> OutputRelay::write_loop() {
  while (!pending_.empty() && !held_) {
    Pending record = std::move(pending_.front());
    co_await write(*record.sink, record.text);
    pending_.pop_front();
    record.sink->bytes += record.text.size();
    acknowledged_ = {out_.bytes, err_.bytes};
    acknowledge_(record.part, record.number + 1);
  }
  writing_ = false;
  resting_.set();
  if (pending_.empty()) idle_.set();
}

Task<> OutputRelay::write(Sink& sink, std::string_view text) {
  while (!text.empty() && !sink.closed) {
    if (sink.poll)
      co_await sink.poll->async_wait(asio::posix::stream_descriptor::wait_write, kQuietly);
    const size_t most = sink.poll ? std::min<size_t>(text.size(), PIPE_BUF) : text.size();
    const ssize_t n = ::write(sink.fd, text.data(), most);
    if (n >= 0) {
      text.remove_prefix(static_cast<size_t>(n));
    } else if (errno != EINTR && !(errno == EAGAIN && sink.poll)) {
      sink.closed = true;
      if (errno == EPIPE && &sink == &out_) reader_gone_();
    }
  }
}

}  // namespace stillpoint::agent
