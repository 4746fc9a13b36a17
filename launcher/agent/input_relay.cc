#include "launcher/agent/input_relay.h"

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
constexpr size_t kMostPending = 128 << 10;

bool is_regular(int fd) {
  struct stat s{};
  return ::fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
}

// A job in the background must not read the terminal: the kernel would stop us with SIGTTIN.
bool in_background() {
  return ::isatty(STDIN_FILENO) && ::tcgetpgrp(STDIN_FILENO) != ::getpgrp();
}

}  // namespace

InputRelay::InputRelay(const asio::any_io_executor& executor,
                       std::function<void(const link::Stdin&)> send)
    : executor_(executor), send_(std::move(send)), room_(executor) {}

void InputRelay::opened(uint64_t taken, bool closed) {
  linked_ = true;
  closed_ = closed_ || closed;
  if (!started_) {
    started_ = true;
    base_ = taken;
    struct stat s{};
    const bool passes = taken > 0 && is_regular(STDIN_FILENO) && ::fstat(STDIN_FILENO, &s) == 0;
    if (passes && ::lseek(STDIN_FILENO, 0, SEEK_CUR) == 0)
      ::lseek(STDIN_FILENO, std::min(static_cast<off_t>(taken), s.st_size), SEEK_SET);
    if (!closed_) asio::co_spawn(executor_, read_loop(), asio::detached);
    return;
  }
  drop_taken(taken);
  sent_ = base_;  // what was on its way when the link closed goes again
  end_sent_ = false;
  send_pending();
}

void InputRelay::taken(const link::StdinTaken& news) {
  closed_ = closed_ || news.closed();
  drop_taken(news.offset());
}

void InputRelay::drop_taken(uint64_t offset) {
  if (offset > base_) {
    const size_t n = std::min<size_t>(offset - base_, pending_.size());
    pending_.erase(0, n);
    base_ += n;
    sent_ = std::max(sent_, base_);
  }
  if (closed_ || pending_.size() < kMostPending) room_.set();
}

void InputRelay::send_pending() {
  if (!linked_ || closed_) return;
  const uint64_t end = base_ + pending_.size();
  if (sent_ < end || (ended_ && !end_sent_)) {
    link::Stdin message;
    message.set_offset(sent_);
    message.set_data(pending_.substr(sent_ - base_));
    message.set_end(ended_);
    end_sent_ = ended_;
    sent_ = end;
    send_(message);
  }
}

Task<size_t> InputRelay::read_some(char* buffer, size_t most) {
  for (;;) {
    if (poll_) co_await poll_->async_wait(asio::posix::stream_descriptor::wait_read, kQuietly);
    if (in_background()) {
      // Looked at again from time to time: the shell may bring us to the foreground.
      asio::steady_timer pause(executor_, std::chrono::seconds(1));
      co_await pause.async_wait(kQuietly);
      continue;
    }
    const ssize_t n = ::read(STDIN_FILENO, buffer, most);
    if (n >= 0) co_return static_cast<size_t>(n);
    if (errno != EINTR && errno != EAGAIN) co_return 0;
  }
}

Task<> InputRelay::read_loop() {
  if (!is_regular(STDIN_FILENO)) {
    boost::system::error_code error;
    poll_.emplace(executor_);
    poll_->assign(::dup(STDIN_FILENO), error);
    if (error) poll_.reset();  // /dev/null and the like: always readable
  }
  char buffer[32768];
  while (!closed_ && !ended_) {
    if (pending_.size() >= kMostPending) {
      room_.reset();
      co_await room_.wait();
      continue;
    }
    const size_t n = co_await read_some(buffer, sizeof buffer);
    pending_.append(buffer, n);
    ended_ = n == 0;
    send_pending();
  }
}

}  // namespace stillpoint::agent
