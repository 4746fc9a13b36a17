#include "launcher/cli/host_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace stillpoint::cli {
namespace {

using ::testing::HasSubstr;

Parsed parsed(const Arguments& arguments) {
  CommandLine line("run", "");
  add_host_options(line.options);
  return parse(std::move(line), arguments).value();
}

// "a b:2"
std::string text(const Result<std::vector<job::Host>>& hosts) {
  if (!hosts) return "error: " + hosts.error().line();
  std::string all;
  for (const auto& host : *hosts)
    all += (all.empty() ? "" : " ") + host.name() +
           (host.slots() ? ":" + std::to_string(host.slots()) : "");
  return all;
}

Result<std::vector<job::Host>> listed(const std::string& list) {
  return hosts_from(parsed({"--hosts", list}));
}

class Hostfile : public ::testing::Test {
 protected:
  ~Hostfile() override { ::unlink(path_.c_str()); }
  Result<std::vector<job::Host>> read(const std::string& content) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << content;
    return hosts_from(parsed({"--hostfile", path_}));
  }
  std::string path_ = ::testing::TempDir() + "hostfile-" + std::to_string(::getpid());
};

TEST(Hosts, AreAListWithOrWithoutSlots) {
  EXPECT_EQ(text(listed("a")), "a");
  EXPECT_EQ(text(listed("n2,n1,10.0.0.7")), "n2 n1 10.0.0.7");
  EXPECT_EQ(text(listed("a:2,b:65536")), "a:2 b:65536");
  EXPECT_FALSE(names_hosts(parsed({})));
  EXPECT_TRUE(names_hosts(parsed({"--hosts", "a"})));
  EXPECT_TRUE(names_hosts(parsed({"--hostfile", "f"})));
}

TEST(Hosts, NonsenseIsUsage) {
  for (const char* bad : {"", ",", "a,", ",a", "a,,b", "a b", "a, b", ":2", "a:", "a:0", "a:-1",
                          "a:x", "a:2:3", "a:65537", "a:99999999999999999999", "a,a"}) {
    const auto hosts = listed(bad);
    ASSERT_FALSE(hosts) << bad;
    EXPECT_EQ(hosts.error().kind(), ErrorKind::kUsage) << bad;
    EXPECT_THAT(hosts.error().line(), HasSubstr("--hosts")) << bad;
  }
}

TEST(Hosts, AreGivenOnce) {
  const auto both = hosts_from(parsed({"--hosts", "a", "--hostfile", "f"}));
  ASSERT_FALSE(both);
  EXPECT_EQ(both.error().kind(), ErrorKind::kUsage);
}

TEST_F(Hostfile, HasAHostALineAndComments) {
  EXPECT_EQ(text(read("# the rack\n\nn1 slots=2\n  n2\tslots=4 # the large one\n#n3\nn4#\n")),
            "n1:2 n2:4 n4");
  EXPECT_EQ(text(read("n1\r\nn2 slots=3\r\n")), "n1 n2:3");
  EXPECT_EQ(text(read("last")), "last");
}

TEST_F(Hostfile, NonsenseIsUsageAndNamesTheLine) {
  for (const char* bad : {"n2 4", "n2 slots=", "n2 slots=0", "n2 slots=x", "n2 slots=2 max=4",
                          "n2 slots = 2", "n2 slots=65537", "n2 Slots=2", "n2 slots=2x"}) {
    const auto hosts = read("n1 slots=2\n# comment\n" + std::string(bad) + "\n");
    ASSERT_FALSE(hosts) << bad;
    EXPECT_EQ(hosts.error().kind(), ErrorKind::kUsage);
    EXPECT_THAT(hosts.error().line(), HasSubstr(path_ + ", line 3: ")) << bad;
  }
  for (const char* empty : {"", "\n", "# nobody\n"})
    EXPECT_THAT(text(read(empty)), HasSubstr("no hosts are named"));
}

TEST_F(Hostfile, HasToBeThereAndOfASaneSize) {
  const auto none = hosts_from(parsed({"--hostfile", path_ + ".none"}));
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind(), ErrorKind::kNotFound);
  EXPECT_THAT(none.error().line(), HasSubstr("--hostfile"));
  EXPECT_FALSE(read(std::string((1 << 20) + 1, '#')));
}

}  // namespace
}  // namespace stillpoint::cli
