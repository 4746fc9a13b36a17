#include "launcher/cli/check_hosts.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/config.h"
#include "launcher/peer/client.h"

namespace stillpoint::cli {

using namespace std::chrono_literals;

namespace {

constexpr auto kCallTime = 8s;     // until a node has said who it is
constexpr auto kAnswerTime = 35s;  // the node looks at itself: `criu check` may take 20 s
constexpr size_t kAtATime = 64;

struct Asked {
  std::string host;
  Result<peer::NodeReply> node = fail(ErrorKind::kInternal, "not asked");

  bool fit() const { return node && node->unfit().empty(); }
};

Task<Result<peer::NodeReply>> ask_node(std::string host, const Config& config) {
  peer::CallOptions options;
  options.limits.node_timeout = config.node_timeout;
  auto connection =
      co_await peer::call(host, config.port, std::move(options), Deadline::in(kCallTime));
  if (!connection) co_return fail(connection.error());
  peer::Request request;
  request.mutable_node();
  auto reply = co_await peer::ask(**connection, std::move(request), Deadline::in(kAnswerTime));
  if (!reply) co_return fail(reply.error().during(host));
  if (!reply->has_node())
    co_return fail(ErrorKind::kProtocol, host + ": an answer to another question");
  (void)co_await (*connection)->close(Deadline::in(2s));
  co_return std::move(*reply->mutable_node());
}

// Several of these share the work.
Task<> ask_rest(std::vector<Asked>& all, size_t& next, const Config& config) {
  while (next < all.size()) {
    Asked& one = all[next++];
    one.node = co_await ask_node(one.host, config);
  }
}

// Names and versions come from another node.
std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return text;
}

void print(const Asked& one) {
  if (!one.node) {
    // The host stands in front of the line already.
    std::string why = one.node.error().line();
    if (why.starts_with(one.host + ": ")) why.erase(0, one.host.size() + 2);
    std::printf("NOT  %-16s %s\n", one.host.c_str(), printable(why).c_str());
    return;
  }
  const auto& node = *one.node;
  std::string line;
  for (const auto& unfit : node.unfit())
    line +=
        (line.empty() ? "" : "; ") + unfit.name() + ": " + unfit.found() + " -> " + unfit.remedy();
  if (line.empty()) {
    line = "stillpoint " + node.stillpoint() + ", Linux " + node.kernel() + ", CRIU " +
           node.criu() + ", up " + format_duration(Milliseconds(node.uptime() * 1000));
    for (int i = 0; i < node.jobs_size(); i++) line += (i == 0 ? ", jobs: " : ", ") + node.jobs(i);
  }
  std::printf("%-4s %-16s %s\n", one.fit() ? "ok" : "NOT", one.host.c_str(),
              printable(line).c_str());
}

nlohmann::json as_json(const Asked& one) {
  nlohmann::json out = {{"host", one.host}, {"ok", one.fit()}};
  if (!one.node) {
    out["error"] = one.node.error().what();
    out["remedy"] = one.node.error().remedy();
    return out;
  }
  const auto& node = *one.node;
  out["node"] = node.host();
  out["stillpoint"] = node.stillpoint();
  out["kernel"] = node.kernel();
  out["criu"] = node.criu();
  out["uptime_s"] = node.uptime();
  out["jobs"] = std::vector<std::string>(node.jobs().begin(), node.jobs().end());
  out["unfit"] = nlohmann::json::array();
  for (const auto& unfit : node.unfit())
    out["unfit"].push_back(
        {{"name", unfit.name()}, {"found", unfit.found()}, {"remedy", unfit.remedy()}});
  return out;
}

}  // namespace

Result<std::vector<std::string>> split_hosts(const std::string& list) {
  std::vector<std::string> hosts;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    const std::string host = list.substr(at, end - at);
    if (host.empty() || host.find_first_of(" \t\n") != host.npos)
      return fail(ErrorKind::kUsage,
                  "--hosts takes names of nodes with commas between, not '" + list + "'");
    if (std::ranges::find(hosts, host) != hosts.end())
      return fail(ErrorKind::kUsage, "--hosts names " + host + " twice");
    hosts.push_back(host);
    if (hosts.size() > 4096) return fail(ErrorKind::kUsage, "--hosts names more than 4096 nodes");
    at = end + 1;
  }
  return hosts;
}

Result<int> check_hosts(const std::string& list, bool json) {
  auto hosts = split_hosts(list);
  if (!hosts) return fail(hosts.error());
  auto config = Config::load();
  if (!config) return fail(config.error());
  std::vector<Asked> all;
  for (auto& host : *hosts) all.push_back({.host = std::move(host)});
  asio::io_context io(1);
  size_t next = 0;
  for (size_t i = 0; i < std::min(all.size(), kAtATime); i++)
    asio::co_spawn(io, ask_rest(all, next, *config), asio::detached);
  io.run();
  const bool fit = std::ranges::all_of(all, &Asked::fit);
  nlohmann::json nodes = nlohmann::json::array();
  for (const Asked& one : all) {
    if (json)
      nodes.push_back(as_json(one));
    else
      print(one);
  }
  if (json)
    std::cout << nlohmann::json{{"fit", fit}, {"nodes", nodes}}.dump(
                     2, ' ', false, nlohmann::json::error_handler_t::replace)
              << '\n';
  return fit ? 0 : static_cast<int>(ErrorKind::kUnfit);
}

}  // namespace stillpoint::cli
