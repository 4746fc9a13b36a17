#include "common/config.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "common/fd.h"

namespace stillpoint {
namespace {

using namespace std::chrono_literals;

std::string refusal(const std::string& text) {
  const auto config = Config::parse(text, "/x.conf");
  return config ? "taken" : config.error().line();
}

TEST(Config, EveryKeyIsRead) {
  const auto config = Config::parse(
      "# comment\n\n  port=300 # why\r\naddress = 10.88.0.1\ntunnel-ports = 30000-30001\n"
      "staging = /fast//x/\ncheckpoint-dir = /scratch/my checkpoints\nkeep = 0\nnode-timeout = 5s\n"
      "hold-limit = 1:30\nmax-jobs = 7\nlog-level = debug",
      "/x.conf");
  ASSERT_TRUE(config) << config.error().line();
  EXPECT_EQ(config->port, 300);
  EXPECT_EQ(config->address, "10.88.0.1");
  EXPECT_EQ(config->first_tunnel_port, 30000);
  EXPECT_EQ(config->last_tunnel_port, 30001);
  EXPECT_EQ(config->staging, "/fast/x");
  EXPECT_EQ(config->checkpoint_dir, "/scratch/my checkpoints");
  EXPECT_EQ(config->keep, 0u);
  EXPECT_EQ(config->node_timeout, 5s);
  EXPECT_EQ(config->hold_limit, 90s);
  EXPECT_EQ(config->max_jobs, 7u);
  EXPECT_EQ(config->log_level, log::Level::kDebug);
}

TEST(Config, ErrorsNameFileLineAndKey) {
  EXPECT_EQ(refusal("port = 300\n\nkepe = 3\n"),
            "/x.conf:3: there is no key 'kepe'; did you mean 'keep'?");
  EXPECT_EQ(refusal("node_timeout = 3s"),
            "/x.conf:1: there is no key 'node_timeout'; did you mean 'node-timeout'?");
  EXPECT_EQ(refusal("nonsense"), "/x.conf:1: 'nonsense' is not of the form key = value");
  EXPECT_EQ(refusal("keep = 1\nkeep = 2"), "/x.conf:2: keep is there twice");
  EXPECT_EQ(refusal("keep = # 1"), "/x.conf:1: keep has no value");
  for (const char* bad : {"port = 0",
                          "port = 1024",
                          "port = 6818",
                          "port = x",
                          "address = n1",
                          "address = 0.0.0.0",
                          "address = 224.0.0.1",
                          "address = ::1",
                          "tunnel-ports = 5",
                          "tunnel-ports = 2000-1999",
                          "tunnel-ports = 80-90",
                          "tunnel-ports = 1-99999",
                          "staging = fast",
                          "keep = -1",
                          "node-timeout = 0s",
                          "node-timeout = 1s",
                          "node-timeout = soon",
                          "hold-limit = 2d",
                          "max-jobs = 0",
                          "log-level = loud",
                          "= 3"}) {
    const std::string key = std::string(bad).substr(0, std::string(bad).find(' '));
    const auto said = refusal(bad);
    EXPECT_TRUE(said.starts_with("/x.conf:1: ")) << bad << ": " << said;
    EXPECT_NE(said.find(key == "=" ? "key" : key), said.npos) << bad << ": " << said;
  }
}

class ConfigFile : public ::testing::Test {
 protected:
  ConfigFile() { std::ofstream(path_) << "keep = 5\n"; }
  ~ConfigFile() override { ::unlink(path_.c_str()); }
  std::string refused() const {
    const auto config = Config::read(path_);
    return config ? "taken" : config.error().line();
  }
  const std::string path_ = "/tmp/stillpoint-config-" + std::to_string(::getpid());
};

TEST_F(ConfigFile, IsRootsAlone) {
  ASSERT_EQ(::geteuid(), 0u) << "this test needs root";
  ::chmod(path_.c_str(), 0644);
  EXPECT_EQ(refused(), "taken");
  for (const mode_t mode : {0664u, 0646u}) {
    ::chmod(path_.c_str(), mode);
    EXPECT_NE(refused().find("can be written by others"), std::string::npos) << refused();
  }
  ::chmod(path_.c_str(), 0644);
  ASSERT_EQ(::chown(path_.c_str(), 65534, 0), 0);
  EXPECT_NE(refused().find("does not belong to root"), std::string::npos) << refused();
  EXPECT_NE(Config::read("/tmp").error().line().find("no regular file"), std::string::npos);
}

TEST_F(ConfigFile, EnvironmentNamesAnotherForRoot) {
  ASSERT_EQ(::geteuid(), 0u) << "this test needs root";
  ::setenv("STILLPOINT_CONFIG", path_.c_str(), 1);
  EXPECT_EQ(Config::load()->keep, 5u);
  ASSERT_EQ(::seteuid(65534), 0);
  const auto of_user = Config::load();
  ASSERT_EQ(::seteuid(0), 0);
  EXPECT_TRUE(!of_user || of_user->keep != 5u);
  ::setenv("STILLPOINT_CONFIG", "/no/such/file", 1);
  EXPECT_EQ(Config::load().error().kind(), ErrorKind::kNotFound);
  ::unsetenv("STILLPOINT_CONFIG");
  EXPECT_EQ(Config::load(path_)->keep, 5u);
}

TEST(NodeAddress, IsTheConfiguredOneOrThatOfTheHostName) {
  Config config;
  config.address = "10.88.0.7";
  EXPECT_EQ(node_address(config).value_or(""), "10.88.0.7");
  config.address.clear();
  const auto own = node_address(config);  // depends on the machine: an address, or what to do
  if (own)
    EXPECT_FALSE(own->starts_with("127."));
  else
    EXPECT_NE(own.error().line().find("set `address`"), std::string::npos) << own.error().line();
}

std::string shared_file(const std::string& name) {
  return read_file(std::string(STILLPOINT_SHARE) + "/" + name).value_or("");
}

TEST(ConfigDocuments, ExampleHoldsEveryKeyAndIsTheDefaults) {
  const std::string example = shared_file("stillpoint.conf");
  ASSERT_FALSE(example.empty());
  EXPECT_TRUE(Config::parse(example, "stillpoint.conf"));
  // What stands there commented out is a setting, too.
  std::string all;
  std::istringstream lines(example);
  const std::regex setting("#?([a-z-]+ = .*)");
  std::set<std::string> keys;
  for (std::string line; std::getline(lines, line);)
    if (std::smatch match; std::regex_match(line, match, setting)) {
      all += match.str(1) + "\n";
      keys.insert(match.str(1).substr(0, match.str(1).find(' ')));
    }
  const auto names = config_keys();
  EXPECT_EQ(keys, std::set<std::string>(names.begin(), names.end()));
  const auto config = Config::parse(all, "stillpoint.conf");
  ASSERT_TRUE(config) << config.error().line();
  const Config defaults;
  EXPECT_EQ(config->port, defaults.port);
  EXPECT_EQ(config->first_tunnel_port, defaults.first_tunnel_port);
  EXPECT_EQ(config->last_tunnel_port, defaults.last_tunnel_port);
  EXPECT_EQ(config->staging, defaults.staging);
  EXPECT_EQ(config->checkpoint_dir, defaults.checkpoint_dir);
  EXPECT_EQ(config->keep, defaults.keep);
  EXPECT_EQ(config->node_timeout, defaults.node_timeout);
  EXPECT_EQ(config->hold_limit, defaults.hold_limit);
  EXPECT_EQ(config->max_jobs, defaults.max_jobs);
  EXPECT_EQ(config->log_level, defaults.log_level);
}

TEST(ConfigDocuments, PageExplainsEveryKeyAndNoOther) {
  std::string page = shared_file("man/stillpoint.conf.5");
  ASSERT_FALSE(page.empty());
  const size_t from = page.find(".SH KEYS"), to = page.find("\n.SH ", from + 1);
  ASSERT_NE(from, page.npos);
  page = std::regex_replace(page.substr(from, to - from), std::regex("\\\\-"), "-");
  std::set<std::string> keys;
  const std::regex entry("\\.TP\n\\.BI? \"?([a-z-]+)");
  for (std::sregex_iterator i(page.begin(), page.end(), entry), end; i != end; ++i)
    keys.insert(i->str(1));
  const auto names = config_keys();
  EXPECT_EQ(keys, std::set<std::string>(names.begin(), names.end()));
}

}  // namespace
}  // namespace stillpoint
