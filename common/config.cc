#include "common/config.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <set>

#include "common/fd.h"

namespace stillpoint {

using namespace std::chrono_literals;

namespace {

constexpr size_t kMostBytes = 64 << 10;

template <typename T>
Result<> number(std::string_view value, std::string_view key, uint64_t least, uint64_t most,
                T& into) {
  const auto parsed = parse_number(value, key, least, most);
  if (!parsed) return fail(parsed.error());
  into = static_cast<T>(*parsed);
  return {};
}

Result<> duration(std::string_view value, Milliseconds least, Milliseconds most,
                  Milliseconds& into) {
  const auto parsed = parse_duration(value);
  if (!parsed) return fail(parsed.error());
  if (*parsed < least || *parsed > most)
    return fail(ErrorKind::kUsage,
                "must be from " + format_duration(least) + " to " + format_duration(most));
  into = *parsed;
  return {};
}

Result<> set_port(Config& config, std::string_view value) {
  return number(value, "port", 1, 1023, config.port);
}

Result<> set_address(Config& config, std::string_view value) {
  in_addr address{};
  const std::string text(value);
  if (::inet_pton(AF_INET, text.c_str(), &address) != 1)
    return fail(ErrorKind::kUsage, "'" + text + "' is no IPv4 address");
  if (address.s_addr == INADDR_ANY || IN_MULTICAST(ntohl(address.s_addr)) ||
      address.s_addr == INADDR_BROADCAST)
    return fail(ErrorKind::kUsage, "must be the address of this node, not " + text);
  config.address = text;
  return {};
}

Result<> set_tunnel_ports(Config& config, std::string_view value) {
  const size_t dash = value.find('-');
  if (dash == value.npos) return fail(ErrorKind::kUsage, "must be a range, as 29400-29655");
  uint16_t first = 0, last = 0;
  for (auto [text, port] :
       {std::pair{value.substr(0, dash), &first}, std::pair{value.substr(dash + 1), &last}})
    if (auto r = number(text, "each port of the range", 1024, 65535, *port); !r) return r;
  if (first > last)
    return fail(ErrorKind::kUsage, "the range '" + std::string(value) + "' is empty");
  config.first_tunnel_port = first;
  config.last_tunnel_port = last;
  return {};
}

Result<> set_staging(Config& config, std::string_view value) {
  if (!value.starts_with('/')) return fail(ErrorKind::kUsage, "must be an absolute path");
  config.staging = paths::absolute(value, "/");
  return {};
}

Result<> set_checkpoint_dir(Config& config, std::string_view value) {
  config.checkpoint_dir = value;
  return {};
}

Result<> set_keep(Config& config, std::string_view value) {
  return number(value, "keep", 0, 1'000'000, config.keep);
}

Result<> set_node_timeout(Config& config, std::string_view value) {
  return duration(value, 2s, 1h, config.node_timeout);
}

Result<> set_hold_limit(Config& config, std::string_view value) {
  return duration(value, 1s, 24h, config.hold_limit);
}

Result<> set_max_jobs(Config& config, std::string_view value) {
  return number(value, "max-jobs", 1, 10'000, config.max_jobs);
}

Result<> set_log_level(Config& config, std::string_view value) {
  static constexpr std::array<std::pair<std::string_view, log::Level>, 4> kLevels = {
      {{"debug", log::Level::kDebug},
       {"info", log::Level::kInfo},
       {"warning", log::Level::kWarning},
       {"error", log::Level::kError}}};
  for (const auto& [name, level] : kLevels)
    if (value == name) {
      config.log_level = level;
      return {};
    }
  return fail(ErrorKind::kUsage, "must be debug, info, warning or error");
}

struct Key {
  std::string_view name;
  Result<> (*set)(Config&, std::string_view value);
};
constexpr std::array<Key, 10> kKeys = {{{"port", set_port},
                                        {"address", set_address},
                                        {"tunnel-ports", set_tunnel_ports},
                                        {"staging", set_staging},
                                        {"checkpoint-dir", set_checkpoint_dir},
                                        {"keep", set_keep},
                                        {"node-timeout", set_node_timeout},
                                        {"hold-limit", set_hold_limit},
                                        {"max-jobs", set_max_jobs},
                                        {"log-level", set_log_level}}};

// Levenshtein's distance.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); i++) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); j++) {
      const size_t above = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, above + 1, diagonal + (a[i] == b[j] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}

std::unexpected<Error> unknown_key(std::string_view name) {
  const auto nearest = std::ranges::min(
      kKeys, {}, [&](const Key& key) { return distance(name.substr(0, 64), key.name); });
  return fail(ErrorKind::kUsage, "there is no key '" + std::string(name) + "'",
              "did you mean '" + std::string(nearest.name) + "'?");
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const size_t first = text.find_first_not_of(kBlank);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

Result<> take_line(Config& config, std::string_view line, std::set<std::string_view>& seen) {
  line = trimmed(line.substr(0, line.find('#')));
  if (line.empty()) return {};
  const size_t equals = line.find('=');
  if (equals == line.npos)
    return fail(ErrorKind::kUsage, "'" + std::string(line) + "' is not of the form key = value");
  const auto name = trimmed(line.substr(0, equals)), value = trimmed(line.substr(equals + 1));
  const auto key = std::ranges::find(kKeys, name, &Key::name);
  if (key == kKeys.end()) return unknown_key(name);
  if (!seen.insert(key->name).second)
    return fail(ErrorKind::kUsage, std::string(name) + " is there twice");
  if (value.empty()) return fail(ErrorKind::kUsage, std::string(name) + " has no value");
  if (auto r = key->set(config, value); !r) {
    const bool named = r.error().what().starts_with(name);
    return named ? r : Result<>(fail(r.error().during(name)));
  }
  return {};
}

}  // namespace

std::vector<std::string_view> config_keys() {
  std::vector<std::string_view> names;
  for (const Key& key : kKeys) names.push_back(key.name);
  return names;
}

Result<Config> Config::parse(std::string_view text, const std::string& path) {
  Config config;
  std::set<std::string_view> seen;
  for (size_t number = 1; !text.empty(); number++) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (auto r = take_line(config, text.substr(0, end), seen); !r)
      return fail(r.error().during(path + ":" + std::to_string(number)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return config;
}

Result<Config> Config::read(const std::string& path) {
  // Not blocked by a FIFO that somebody has put there.
  auto fd = open_file(path, O_RDONLY | O_NONBLOCK);
  if (!fd) return fail(fd.error());
  struct stat facts{};
  if (::fstat(fd->get(), &facts) != 0) return fail_errno(path);
  if (!S_ISREG(facts.st_mode)) return fail(ErrorKind::kPermission, path + " is no regular file");
  if (facts.st_uid != 0)
    return fail(ErrorKind::kPermission, path + " does not belong to root", "chown root " + path);
  if (facts.st_mode & (S_IWGRP | S_IWOTH))
    return fail(ErrorKind::kPermission, path + " can be written by others than root",
                "chmod go-w " + path);
  const auto text = read_to_end(fd->get(), kMostBytes);
  if (!text) return fail(text.error().during(path));
  return parse(*text, path);
}

Result<Config> Config::load(const std::string& named) {
  if (!named.empty()) return read(named);
  const char* instead = ::geteuid() == 0 ? ::secure_getenv("STILLPOINT_CONFIG") : nullptr;
  if (instead && *instead) return read(instead);
  auto config = read(paths::kConfiguration);
  if (!config && config.error().kind() == ErrorKind::kNotFound) return Config();
  return config;
}

Result<std::string> node_address(const Config& config) {
  if (!config.address.empty()) return config.address;
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) != 0) return fail_errno("gethostname");
  const std::string where = "set `address` in " + std::string(paths::kConfiguration);
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (const int rc = ::getaddrinfo(host, nullptr, &hints, &list); rc != 0)
    return fail(ErrorKind::kUnfit,
                "the host name " + std::string(host) + " has no IPv4 address: " + gai_strerror(rc),
                where);
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(list, ::freeaddrinfo);
  sockaddr_in address{};
  std::memcpy(&address, list->ai_addr, sizeof address);
  char text[INET_ADDRSTRLEN] = {};
  ::inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
  if (ntohl(address.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET)
    return fail(ErrorKind::kUnfit,
                "the host name " + std::string(host) + " leads to " + text +
                    ", where other nodes do not find this one",
                where);
  return std::string(text);
}

}  // namespace stillpoint
