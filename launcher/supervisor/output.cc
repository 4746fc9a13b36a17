#include "launcher/supervisor/output.h"

#include <algorithm>
#include <utility>

namespace stillpoint::supervisor {

void OutputLog::append(uint32_t rank, Stream stream, std::string data) {
  held_ += data.size() + kRecordCost;
  records_.push_back({end(), rank, stream, std::move(data)});
}

const OutputRecord* OutputLog::next() const {
  return cursor_ < end() ? &records_[cursor_ - first_] : nullptr;
}

Result<> OutputLog::acknowledge(uint64_t next) {
  if (next > cursor_)
    return fail(ErrorKind::kProtocol, "output up to record " + std::to_string(next) +
                                          " was acknowledged, sent up to " +
                                          std::to_string(cursor_));
  for (; first_ < next; first_++) {
    held_ -= records_.front().data.size() + kRecordCost;
    records_.pop_front();
  }
  return {};
}

Result<> OutputLog::resume(uint64_t taken) {
  if (taken > end())
    return fail(ErrorKind::kProtocol, "the agent holds output up to record " +
                                          std::to_string(taken) + ", there are " +
                                          std::to_string(end()));
  cursor_ = std::max(first_, taken);
  return {};
}

}  // namespace stillpoint::supervisor
