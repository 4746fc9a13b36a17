#include "launcher/supervisor/input.h"

#include <algorithm>

namespace stillpoint::supervisor {

Result<> InputBuffer::offer(uint64_t offset, std::string_view data, bool end) {
  if (offset > received_)
    return fail(ErrorKind::kProtocol, "standard input comes from byte " + std::to_string(offset) +
                                          ", expected is byte " + std::to_string(received_));
  data.remove_prefix(std::min<uint64_t>(data.size(), received_ - offset));
  if (ended_ && !data.empty())
    return fail(ErrorKind::kProtocol, "standard input goes on behind its end");
  if (buffer_.size() + data.size() > kMost)
    return fail(ErrorKind::kProtocol, "more standard input than the window allows");
  received_ += data.size();
  if (!broken_) buffer_.append(data);
  ended_ = ended_ || end;
  return {};
}

void InputBuffer::passed(size_t bytes) {
  buffer_.erase(0, bytes);
}

void InputBuffer::close() {
  broken_ = true;
  buffer_.clear();
  buffer_.shrink_to_fit();
}

}  // namespace stillpoint::supervisor
