// The ranks' standard streams on the main loop: thin adapters between pipes and the engines in
// output.h and input.h.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>

#include "common/fd.h"
#include "launcher/supervisor/input.h"
#include "launcher/supervisor/output.h"

namespace stillpoint::supervisor {

namespace asio = boost::asio;

// Reads one stream of one rank into the log, as long as the log has room; resume() goes on after
// that.
class OutputPipe {
 public:
  using Notice = std::function<void()>;
  // `news`: a record was added, or the end was reached.
  OutputPipe(asio::io_context& loop, Fd fd, OutputLog& log, uint32_t rank, Stream stream,
             Notice news);

  void resume();
  bool at_end() const { return !descriptor_.is_open(); }
  void close();

 private:
  void take();

  asio::posix::stream_descriptor descriptor_;
  OutputLog& log_;
  uint32_t rank_;
  Stream stream_;
  Notice news_;
  bool waiting_ = false;
};

// Writes the buffered input to rank 0, and closes its pipe at the end.
class InputPipe {
 public:
  // `progress`: bytes were passed on, or the pipe was closed.
  InputPipe(asio::io_context& loop, Fd fd, InputBuffer& buffer, std::function<void()> progress);

  void push();   // there is more in the buffer
  void close();  // rank 0 has ended, or the input has

 private:
  bool write_some();  // false: nothing more can be written now

  asio::posix::stream_descriptor descriptor_;
  InputBuffer& buffer_;
  std::function<void()> progress_;
  bool waiting_ = false;
};

}  // namespace stillpoint::supervisor
