#include "launcher/cli/options.h"

#include <gtest/gtest.h>

namespace stillpoint::cli {
namespace {

CommandLine line() {
  CommandLine l("run [options] PROGRAM", "story");
  l.options.add_options()(",n", po::value<std::string>(), "")("name", po::value<std::string>(), "")(
      ",x", po::value<std::vector<std::string>>()->composing(), "")("flag", "");
  l.hidden.add_options()("program", po::value<std::vector<std::string>>());
  l.positional.add("program", -1);
  l.program_follows = true;
  return l;
}

using Words = std::vector<std::string>;

TEST(Options, EndWhereTheProgramBegins) {
  auto p =
      parse(line(), {"-n", "4", "--name", "job", "app", "--name", "other", "-n", "9", "--", "-z"});
  ASSERT_TRUE(p) << p.error().line();
  EXPECT_EQ(p->text("-n"), "4");
  EXPECT_EQ(p->text("name"), "job");
  EXPECT_EQ(p->texts("program"), (Words{"app", "--name", "other", "-n", "9", "--", "-z"}));
}

TEST(Options, TwoDashesEndThem) {
  auto p = parse(line(), {"-n4", "--", "--strange-program", "-n", "1"});
  ASSERT_TRUE(p) << p.error().line();
  EXPECT_EQ(p->text("-n"), "4");
  EXPECT_EQ(p->texts("program"), (Words{"--strange-program", "-n", "1"}));
}

TEST(Options, RepeatedAndEmptyArguments) {
  auto p = parse(line(), {"-x", "A=1", "-x", "B", "app", "", "a b"});
  ASSERT_TRUE(p) << p.error().line();
  EXPECT_EQ(p->texts("-x"), (Words{"A=1", "B"}));
  EXPECT_EQ(p->texts("program"), (Words{"app", "", "a b"}));
}

TEST(Options, WhatDoesNotFitIsUsage) {
  for (const Words& bad : {Words{"--nam", "x", "app"}, Words{"--bogus"}, Words{"-n"},
                           Words{"--flag=1"}, Words{"--name", "a", "--name", "b", "app"}}) {
    auto p = parse(line(), bad);
    ASSERT_FALSE(p) << bad[0];
    EXPECT_EQ(p.error().kind(), ErrorKind::kUsage);
    EXPECT_NE(p.error().remedy().find("run --help"), std::string::npos);
  }
}

}  // namespace
}  // namespace stillpoint::cli
