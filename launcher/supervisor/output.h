// The ranks' output on its way to the agent: numbered records, kept until the agent has
// acknowledged them, so that a link that is lost, or a copy restored from a checkpoint, loses and
// doubles nothing.
//
// Bounded: while full() the caller reads no more from the ranks, whose pipes then fill and make
// them wait. No I/O.  Used by one thread.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "common/error.h"

namespace stillpoint::supervisor {

enum class Stream { kOut, kErr };

struct OutputRecord {
  uint64_t number = 0;
  uint32_t rank = 0;
  Stream stream = Stream::kOut;
  std::string data;
};

class OutputLog {
 public:
  static constexpr size_t kWindow = 1 << 20;
  static constexpr size_t kRecordCost = 128;  // what a record takes besides its data

  explicit OutputLog(size_t window = kWindow) : window_(window) {}

  // One more record of any size may be appended as long as the log is not full.
  bool full() const { return held_ >= window_; }
  // For what comes without being read from a pipe, and cannot wait: dropped from here on.
  bool overfull() const { return held_ >= 2 * window_; }
  void append(uint32_t rank, Stream stream, std::string data);

  // The next record to send on the present link, or none.  sent() moves on.
  const OutputRecord* next() const;
  void sent() { cursor_++; }

  // Every record below `next` is written out: forgotten.  kProtocol for records that were never
  // sent.
  Result<> acknowledge(uint64_t next);
  // A new link, whose agent holds every record below `taken`: sends again from there, or from the
  // oldest that is kept.  kProtocol for records that do not exist.
  Result<> resume(uint64_t taken);

  uint64_t end() const { return first_ + records_.size(); }  // number of the record to come

 private:
  size_t window_, held_ = 0;
  uint64_t first_ = 0;   // number of the oldest record kept
  uint64_t cursor_ = 0;  // number of the next to send
  std::deque<OutputRecord> records_;
};

}  // namespace stillpoint::supervisor
