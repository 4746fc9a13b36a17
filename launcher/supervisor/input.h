// Standard input on its way from the agent to rank 0.
//
// Offsets count the bytes of the whole input, so that after a lost link the agent goes on where we
// are: what comes twice is dropped, a gap is an error.  Bounded: the agent keeps to the window
// (wire::kStdinWindow) beyond passed_on(); twice that is refused.  No I/O.  Used by one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/error.h"
#include "common/wire/versions.h"

namespace stillpoint::supervisor {

class InputBuffer {
 public:
  static constexpr size_t kMost = 2 * wire::kStdinWindow;

  // kProtocol for a gap, for more than is allowed, or for bytes behind the end.
  Result<> offer(uint64_t offset, std::string_view data, bool end);

  std::string_view pending() const { return buffer_; }  // to be written to rank 0
  void passed(size_t bytes);                            // that much of it was written
  void close();                                         // rank 0 does not read: discard

  bool finished() const { return (ended_ && buffer_.empty()) || broken_; }  // close the pipe
  bool closed() const { return ended_ || broken_; }  // the agent need not send any more
  uint64_t received() const { return received_; }
  uint64_t passed_on() const { return received_ - buffer_.size(); }

 private:
  std::string buffer_;
  uint64_t received_ = 0;
  bool ended_ = false, broken_ = false;
};

}  // namespace stillpoint::supervisor
