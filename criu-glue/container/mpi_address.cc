#include "criu-glue/container/mpi_address.h"

#include <arpa/inet.h>

#include <cstdio>
#include <new>

#include "criu-glue/container/mpi_network.h"

namespace stillpoint::container::mpi_network {

namespace {

constexpr uint32_t kSubnet = 0x64400000;  // 100.64.0.0; the only place that says so

Netlink<nl_addr> build(int family, const void* bytes, size_t size) {
  nl_addr* address = nl_addr_build(family, bytes, size);
  if (!address) throw std::bad_alloc();  // in a Worker, which makes it an error
  return Netlink<nl_addr>(address);
}

}  // namespace

in_addr ip_of(uint32_t index) {
  return in_addr{htonl(kSubnet + index + 1)};
}

Mac mac_bytes(uint32_t index) {  // locally administered; 0x53 0x50 is "SP"
  const uint32_t host = index + 1;
  return {0x02, 0x53, 0x50, 0x00, static_cast<uint8_t>(host >> 8), static_cast<uint8_t>(host)};
}

Result<> check_index(uint32_t index) {
  if (index >= kMostContainers)
    return fail(ErrorKind::kUsage, "container " + std::to_string(index) + ": a job has at most " +
                                       std::to_string(kMostContainers) + " containers");
  return {};
}

Result<std::string> address_of(uint32_t index) {
  if (auto r = check_index(index); !r) return fail(r.error());
  char text[INET_ADDRSTRLEN];
  const in_addr address = ip_of(index);
  return std::string(::inet_ntop(AF_INET, &address, text, sizeof text));
}

Result<std::string> mac_of(uint32_t index) {
  if (auto r = check_index(index); !r) return fail(r.error());
  const Mac m = mac_bytes(index);
  char text[18];
  std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
                m[5]);
  return std::string(text);
}

Result<in_addr> parse_node(const std::string& text) {
  in_addr address{};
  const bool whole = text.find('\0') == text.npos;
  const bool parsed = whole && ::inet_pton(AF_INET, text.c_str(), &address) == 1;
  const uint32_t host = ntohl(address.s_addr);
  if (!parsed || host >> 24 == 0 || host >= 0xe0000000)
    return fail(ErrorKind::kUsage,
                "'" + text.substr(0, 64) + "' is not the IPv4 address of a node");
  return address;
}

Netlink<nl_addr> netlink_address(in_addr address) {
  return build(AF_INET, &address, sizeof address);
}

Netlink<nl_addr> netlink_address(const Mac& mac) {
  return build(AF_LLC, mac.data(), mac.size());
}

}  // namespace stillpoint::container::mpi_network
