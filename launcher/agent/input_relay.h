// Our own standard input, to rank 0 through the supervisor.
//
// Bytes are kept until the supervisor says that it has taken them, so that none is lost over a
// closed link.  A restarted job goes on in its input where it was: if our input is a file, what the
// job had taken before the checkpoint is passed over; any other input is taken as the continuation.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <optional>
#include <string>

#include "common/async/event.h"
#include "common/wire/link.pb.h"

namespace stillpoint::agent {

class InputRelay {
 public:
  InputRelay(const asio::any_io_executor& executor, std::function<void(const link::Stdin&)> send);

  // The link is open: the supervisor holds `taken` bytes, and wants no more if `closed`.
  void opened(uint64_t taken, bool closed);
  void suspend() { linked_ = false; }  // the link is closed for now
  void taken(const link::StdinTaken& news);

 private:
  Task<> read_loop();
  Task<size_t> read_some(char* buffer, size_t most);  // 0: the end
  void send_pending();
  void drop_taken(uint64_t offset);

  asio::any_io_executor executor_;
  std::function<void(const link::Stdin&)> send_;
  std::optional<asio::posix::stream_descriptor> poll_;  // none: a file
  std::string pending_;  // bytes from offset base_ on that were not taken yet
  uint64_t base_ = 0, sent_ = 0;
  bool started_ = false, linked_ = false, ended_ = false, end_sent_ = false, closed_ = false;
  Event room_;
};

}  // namespace stillpoint::agent
