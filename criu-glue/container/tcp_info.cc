#include "criu-glue/container/tcp_info.h"

#include <linux/tcp.h>

#include <algorithm>
#include <cstring>

namespace stillpoint::container {

TcpInfo parse_tcp_info(std::span<const std::byte> bytes) {
  tcp_info tcp{};
  const size_t size = std::min(sizeof tcp, bytes.size());
  if (size > 0) std::memcpy(&tcp, bytes.data(), size);
  TcpInfo info{.unacknowledged = tcp.tcpi_unacked, .unsent = tcp.tcpi_notsent_bytes, .window = {}};
  if (size >= offsetof(tcp_info, tcpi_snd_wnd) + sizeof tcp.tcpi_snd_wnd)
    info.window = tcp.tcpi_snd_wnd;
  return info;
}

}  // namespace stillpoint::container
