#include "criu-glue/container/in_flight.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <netinet/tcp.h>
#include <netlink/attr.h>
#include <netlink/idiag/idiagnl.h>
#include <netlink/msg.h>
#include <poll.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/units.h"
#include "criu-glue/container/in_namespace.h"
#include "criu-glue/container/netlink.h"
#include "criu-glue/container/tcp_info.h"

namespace stillpoint::container {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Connection, local, remote, state, bytes, packets, closed_window)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(InFlight, connections, bytes, packets, closed_windows, worst)

namespace {

using namespace std::chrono_literals;

constexpr size_t kWorst = 8;
constexpr auto kShortestPause = 1ms, kLongestPause = 20ms;
constexpr auto kGrace = 5s;  // for the last look, and for the child to say what it saw

const char* name_of(uint8_t state) {
  static constexpr const char* kNames[] = {"?",          "ESTABLISHED", "SYN_SENT",  "SYN_RECV",
                                           "FIN_WAIT1",  "FIN_WAIT2",   "TIME_WAIT", "CLOSE",
                                           "CLOSE_WAIT", "LAST_ACK",    "LISTEN",    "CLOSING"};
  return state < std::size(kNames) ? kNames[state] : "?";
}

bool is_loopback(int family, const __be32* address) {
  if (family == AF_INET) return ntohl(address[0]) >> 24 == 127;
  in6_addr six;
  std::memcpy(&six, address, sizeof six);
  return IN6_IS_ADDR_LOOPBACK(&six) ||
         (IN6_IS_ADDR_V4MAPPED(&six) && ntohl(address[3]) >> 24 == 127);
}

bool within(const inet_diag_msg& m) {
  const size_t size = m.idiag_family == AF_INET ? 4 : 16;
  return is_loopback(m.idiag_family, m.id.idiag_src) ||
         is_loopback(m.idiag_family, m.id.idiag_dst) ||
         std::memcmp(m.id.idiag_src, m.id.idiag_dst, size) == 0;
}

std::string text_of(int family, const __be32* address, __be16 port) {
  char text[INET6_ADDRSTRLEN] = "?";
  ::inet_ntop(family, address, text, sizeof text);
  const std::string host = family == AF_INET6 ? "[" + std::string(text) + "]" : text;
  return host + ":" + std::to_string(ntohs(port));
}

void add(InFlight& sum, Connection c) {
  if (c.closed_window) {
    sum.closed_windows++;
  } else {
    sum.connections++;
    sum.bytes += c.bytes;
    sum.packets += c.packets;
  }
  sum.worst.push_back(std::move(c));
  std::ranges::stable_sort(sum.worst, [](const Connection& a, const Connection& b) {
    return a.closed_window != b.closed_window ? b.closed_window : a.bytes > b.bytes;
  });
  if (sum.worst.size() > kWorst) sum.worst.resize(kWorst);
}

// One socket.  An older kernel may not tell the window: then it is taken for open.
void look_at(InFlight& sum, const inet_diag_msg& m, const nlattr* info) {
  if (within(m)) return;
  TcpInfo tcp;
  if (info)
    tcp = parse_tcp_info(
        {static_cast<const std::byte*>(nla_data(info)), static_cast<size_t>(nla_len(info))});
  const uint64_t unsent = std::min(tcp.unsent, m.idiag_wqueue);
  const uint64_t unacknowledged = m.idiag_wqueue - unsent;
  const bool being_made = m.idiag_state == TCP_SYN_SENT || m.idiag_state == TCP_SYN_RECV;
  const bool under_way = info ? tcp.unacknowledged > 0 : m.idiag_wqueue > 0;
  if (!being_made && !under_way && unsent == 0) return;
  // The kernel waits to probe; or sent, and was then told that there is no room.
  const bool closed = !being_made && ((!under_way && m.idiag_timer == IDIAGNL_TIMER_PERSIST) ||
                                      (tcp.window && *tcp.window == 0));
  add(sum, {.local = text_of(m.idiag_family, m.id.idiag_src, m.id.idiag_sport),
            .remote = text_of(m.idiag_family, m.id.idiag_dst, m.id.idiag_dport),
            .state = name_of(m.idiag_state),
            .bytes = closed ? m.idiag_wqueue : unacknowledged,
            .packets = tcp.unacknowledged,
            .closed_window = closed});
}

int take_message(nl_msg* message, void* sum) noexcept {
  nlmsghdr* header = nlmsg_hdr(message);
  if (header->nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg))) return NL_SKIP;
  inet_diag_msg m;
  std::memcpy(&m, nlmsg_data(header), sizeof m);
  if (m.idiag_family != AF_INET && m.idiag_family != AF_INET6) return NL_SKIP;
  look_at(*static_cast<InFlight*>(sum), m,
          nlmsg_find_attr(header, sizeof(inet_diag_msg), INET_DIAG_INFO));
  return NL_OK;
}

// In the namespace.  libnl asks and receives; the answer is read here, because libnl's own copy of
// tcp_info is returned by value in the size it was built with.
Result<InFlight> look() {
  constexpr uint16_t kUninteresting = 1 << TCP_TIME_WAIT | 1 << TCP_CLOSE | 1 << TCP_LISTEN;
  const Netlink<nl_sock> socket(nl_socket_alloc());
  if (!socket) return fail(ErrorKind::kSystem, "sock_diag: out of memory");
  if (const int rc = idiagnl_connect(socket.get()); rc < 0)
    return fail_netlink("connecting to sock_diag", rc);
  InFlight sum;
  nl_socket_modify_cb(socket.get(), NL_CB_VALID, NL_CB_CUSTOM, take_message, &sum);
  int rc = idiagnl_send_simple(socket.get(), NLM_F_DUMP, AF_INET,
                               static_cast<uint16_t>(IDIAGNL_SS_ALL & ~kUninteresting),
                               1 << (INET_DIAG_INFO - 1));
  if (rc >= 0) rc = nl_recvmsgs_default(socket.get());
  if (rc < 0) return fail_netlink("listing TCP sockets", rc);
  return sum;
}

Result<std::string> look_until(Deadline deadline, bool once) {
  for (auto pause = kShortestPause;; pause = std::min(2 * pause, kLongestPause)) {
    auto seen = look();
    if (!seen) return fail(seen.error());
    if (once || seen->nothing() || deadline.passed()) return nlohmann::json(*seen).dump();
    ::poll(nullptr, 0, std::min(static_cast<int>(pause.count()), deadline.poll_timeout()));
  }
}

Result<InFlight> ask(int ns, const std::string& what, Deadline until, bool once, Deadline bound) {
  auto text = in_namespace(ns, what, [&] { return look_until(until, once); }, bound);
  if (!text) return fail(text.error());
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  if (json.is_discarded()) return fail(ErrorKind::kInternal, what + ": a garbled answer");
  return json.get<InFlight>();
}

}  // namespace

std::string InFlight::describe() const {
  if (nothing()) return "nothing in flight";
  std::string text = std::to_string(connections) +
                     (connections == 1 ? " connection" : " connections") + " with " +
                     format_bytes(bytes) + " unacknowledged";
  const Connection& c = worst.front();
  return text + ", as " + c.local + " -> " + c.remote + " (" + c.state + ", " +
         format_bytes(c.bytes) + ")";
}

Result<InFlight> in_flight(int ns, Deadline deadline) {
  return ask(ns, "looking at what is in flight", deadline, true, deadline);
}

Result<InFlight> drained(int ns, Deadline deadline) {
  const auto left = deadline.at() - Deadline::Clock::now();
  return ask(ns, "waiting for what is in flight", deadline, false, Deadline::in(left + kGrace));
}

}  // namespace stillpoint::container
