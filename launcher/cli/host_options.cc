#include "launcher/cli/host_options.h"

#include <sstream>

#include "common/fd.h"
#include "launcher/cli/caller.h"
#include "launcher/cli/check_hosts.h"
#include "launcher/cli/policy_options.h"

namespace stillpoint::cli {

namespace {

constexpr uint64_t kMostSlots = 65536;
constexpr size_t kMostHostfile = 1 << 20;

Result<job::Host> host(const std::string& name, const std::string& slots) {
  job::Host made;
  if (name.empty()) return fail(ErrorKind::kUsage, "a host without a name");
  made.set_name(name);
  if (slots.empty()) return made;
  auto number = parse_number(slots, "the slots of " + name, 1, kMostSlots);
  if (!number) return fail(number.error());
  made.set_slots(static_cast<uint32_t>(*number));
  return made;
}

Result<std::vector<job::Host>> from_list(const std::string& list) {
  auto names = split_hosts(list);
  if (!names) return fail(names.error());
  std::vector<job::Host> hosts;
  for (const std::string& text : *names) {
    const size_t colon = text.find(':');
    auto one = host(text.substr(0, colon), colon == text.npos ? "" : text.substr(colon + 1));
    if (!one || (colon != text.npos && colon + 1 == text.size()))
      return fail(ErrorKind::kUsage, "--hosts: '" + text + "' is no host",
                  "write --hosts a,b or --hosts a:2,b:2");
    hosts.push_back(*one);
  }
  return hosts;
}

Result<std::vector<job::Host>> from_file(const std::string& path) {
  auto text = read_file(path, kMostHostfile);
  if (!text) return fail(text.error().during("--hostfile"));
  std::vector<job::Host> hosts;
  std::istringstream lines(*text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    number++;
    std::istringstream words(line.substr(0, line.find('#')));
    std::string name, slots, more;
    words >> name >> slots >> more;
    if (name.empty()) continue;
    const bool counted = slots.starts_with("slots=") && slots.size() > 6;
    auto one = host(name, counted ? slots.substr(6) : "");
    if (!one || !more.empty() || !(counted || slots.empty()))
      return fail(ErrorKind::kUsage,
                  path + ", line " + std::to_string(number) + ": '" + line + "' is no host",
                  "write a line as: node7 slots=4");
    hosts.push_back(*one);
  }
  return hosts;
}

}  // namespace

void add_host_options(po::options_description& options) {
  options.add_options()("hosts", po::value<std::string>()->value_name("A,B:2,..."),
                        "on these nodes, where stillpointd runs; with how many ranks on each")(
      "hostfile", po::value<std::string>()->value_name("FILE"),
      "the same from a file with lines as: node7 slots=4");
}

bool names_hosts(const Parsed& parsed) {
  return parsed.has("hosts") || parsed.has("hostfile");
}

Result<std::vector<job::Host>> hosts_from(const Parsed& parsed) {
  if (parsed.has("hosts") && parsed.has("hostfile"))
    return fail(ErrorKind::kUsage, "--hosts and --hostfile say the same: give one");
  auto hosts =
      parsed.has("hosts") ? from_list(parsed.text("hosts")) : from_file(parsed.text("hostfile"));
  if (hosts && hosts->empty()) return fail(ErrorKind::kUsage, "no hosts are named");
  return hosts;
}

Result<job::LeadJob> lead_request(const Parsed& parsed, const std::vector<job::Host>& hosts) {
  auto policy = policy_from(parsed);
  if (!policy) return fail(policy.error());
  auto user = acting_user(parsed.text("user"));
  if (!user) return fail(user.error());
  job::LeadJob request;
  request.set_uid(user->uid);
  request.set_tag_output(parsed.has("tag-output"));
  for (const job::Host& host : hosts) *request.add_hosts() = host;
  auto& wire = *request.mutable_policy();
  wire.set_interval_ms(static_cast<uint64_t>(policy->interval.count()));
  wire.set_directory(policy->directory);
  if (parsed.has("checkpoint-keep")) wire.set_keep(policy->keep);
  if (parsed.has("hold-limit"))
    wire.set_hold_limit_ms(static_cast<uint64_t>(policy->hold_limit.count()));
  if (parsed.has("staging")) wire.set_staging(policy->staging);
  return request;
}

}  // namespace stillpoint::cli
