#include "launcher/supervisor/pipes.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

namespace stillpoint::supervisor {

namespace {

using Descriptor = asio::posix::stream_descriptor;
using ErrorCode = boost::system::error_code;

constexpr size_t kMostRead = 64 << 10;

bool come_again() {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

void close_quietly(Descriptor& descriptor) {
  ErrorCode ignored;
  descriptor.close(ignored);
}

}  // namespace

OutputPipe::OutputPipe(asio::io_context& loop, Fd fd, OutputLog& log, uint32_t rank, Stream stream,
                       Notice news)
    : descriptor_(loop, fd.release()),
      log_(log),
      rank_(rank),
      stream_(stream),
      news_(std::move(news)) {}

void OutputPipe::resume() {
  if (waiting_ || at_end() || log_.full()) return;
  waiting_ = true;
  descriptor_.async_wait(Descriptor::wait_read, [this](const ErrorCode& error) {
    if (error == asio::error::operation_aborted) return;
    waiting_ = false;
    take();
    resume();
  });
}

// One read for each time that the pipe is ready, so that a talkative rank does not starve the
// others.
void OutputPipe::take() {
  if (at_end() || log_.full()) return;
  char buffer[kMostRead];
  const ssize_t n = ::read(descriptor_.native_handle(), buffer, sizeof buffer);
  if (n < 0 && come_again()) return;
  if (n > 0)
    log_.append(rank_, stream_, std::string(buffer, static_cast<size_t>(n)));
  else
    close();
  news_();
}

void OutputPipe::close() {
  close_quietly(descriptor_);
}

InputPipe::InputPipe(asio::io_context& loop, Fd fd, InputBuffer& buffer,
                     std::function<void()> progress)
    : descriptor_(loop, fd.release()), buffer_(buffer), progress_(std::move(progress)) {}

void InputPipe::push() {
  if (!descriptor_.is_open()) return buffer_.close();
  while (!waiting_ && write_some()) {
  }
  if (buffer_.finished()) return close();
  if (waiting_ || buffer_.pending().empty()) return;
  waiting_ = true;
  descriptor_.async_wait(Descriptor::wait_write, [this](const ErrorCode& error) {
    if (error == asio::error::operation_aborted) return;
    waiting_ = false;
    push();
    progress_();
  });
}

bool InputPipe::write_some() {
  const std::string_view pending = buffer_.pending();
  if (pending.empty()) return false;
  const ssize_t n = ::write(descriptor_.native_handle(), pending.data(), pending.size());
  if (n < 0 && come_again()) return false;
  if (n < 0) {
    buffer_.close();  // EPIPE: nobody reads
    return false;
  }
  buffer_.passed(static_cast<size_t>(n));
  return true;
}

void InputPipe::close() {
  if (!descriptor_.is_open()) return;
  close_quietly(descriptor_);
  buffer_.close();
  progress_();
}

}  // namespace stillpoint::supervisor
