// The ranks' output, from the supervisors' records to our own stdout and stderr, in the order in
// which they come.
//
// A record is acknowledged once it is written out.  While the relay is held, nothing is: what comes
// waits here.  So `acknowledged()` of a held relay is exactly what a job restarted from a dump
// taken meanwhile will not print again, and a job that ends with that dump prints nothing beyond
// it.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <deque>
#include <functional>
#include <optional>
#include <string>

#include "common/async/event.h"
#include "common/wire/link.pb.h"
#include "launcher/agent/front_end.h"

namespace stillpoint::agent {

class OutputRelay {
 public:
  // `acknowledge(part, next)`: every record of that part below next is written out.  `reader_gone`:
  // once, when nobody reads our standard output any more (a pipe that was closed).
  OutputRelay(const asio::any_io_executor& executor, bool tag,
              std::function<void(uint32_t, uint64_t)> acknowledge,
              std::function<void()> reader_gone);

  void take(uint32_t part, const link::Output& record);
  WrittenBytes acknowledged() const { return acknowledged_; }
  Task<bool> drained(Deadline deadline);  // everything taken is written; false: not by then

  // Returns when nothing is being written; false: a reader has stopped reading, and the record
  // under way (written in part, perhaps, and not acknowledged) goes on when it reads again.
  Task<bool> hold(Deadline deadline);
  void release();
  void drop();  // what waits here is in the dump, and never to be written: the job ends with it

 private:
  // One of our own descriptors.  Written without O_NONBLOCK (it is shared with whoever gave it to
  // us): a pipe or terminal is awaited and then given at most PIPE_BUF bytes, which do not block.
  struct Sink {
    int fd;
    bool closed = false;  // the reader has gone: what follows is dropped
    std::optional<asio::posix::stream_descriptor> poll;
    bool at_line_start = true;
    uint64_t bytes = 0;
  };
  struct Pending {
    uint32_t part;
    uint64_t number;
    Sink* sink;
    std::string text;
  };
  static Sink make_sink(const asio::any_io_executor& executor, int fd);
  std::string tagged(Sink& sink, const link::Output& record) const;
  void go_on();
  Task<> write_loop();
  Task<> write(Sink& sink, std::string_view text);

  asio::any_io_executor executor_;
  bool tag_;
  std::function<void(uint32_t, uint64_t)> acknowledge_;
  std::function<void()> reader_gone_;
  Sink out_, err_;
  std::deque<Pending> pending_;
  bool writing_ = false, held_ = false;
  WrittenBytes acknowledged_;
  Event idle_;     // nothing waits
  Event resting_;  // nothing is being written
};

}  // namespace stillpoint::agent
