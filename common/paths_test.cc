#include "common/paths.h"

#include <gtest/gtest.h>

namespace stillpoint::paths {
namespace {

TEST(JobName, OnlyPlainWords) {
  for (const char* good : {"a", "heat2d-1", "A.b_c-9"}) EXPECT_TRUE(check_job_name(good)) << good;
  for (const char* bad : {"", ".", "..", "-x", "a/b", "a b", "a\n", "../x"})
    EXPECT_FALSE(check_job_name(bad)) << bad;
  EXPECT_FALSE(check_job_name(std::string(65, 'a')));
}

TEST(PartName, LeadsBackToItsJob) {
  EXPECT_EQ(part_name("heat2d-1", 0), "heat2d-1@0");
  EXPECT_EQ(part_name("a", 4294967295), "a@4294967295");
  EXPECT_EQ(job_of(part_name("heat2d-1", 12)), "heat2d-1");
  EXPECT_EQ(job_of("heat2d-1"), "heat2d-1");
  EXPECT_FALSE(check_job_name(part_name("a", 1)));  // so no job can have the name of a part
}

TEST(Epoch, OnlyItsOwnSpelling) {
  EXPECT_EQ(epoch_of("12"), 12u);
  for (const char* bad : {"", "0", "012", "1a", "-1", "latest", "1.tentative"})
    EXPECT_FALSE(epoch_of(bad)) << bad;
}

TEST(Absolute, IsLexical) {
  EXPECT_EQ(absolute("a/../b", "/home/u"), "/home/u/b");
  EXPECT_EQ(absolute("/x//y/.", "/z"), "/x/y");
  EXPECT_EQ(absolute(".", "/home/u"), "/home/u");
  EXPECT_EQ(absolute("/", "/z"), "/");
}

}  // namespace
}  // namespace stillpoint::paths
