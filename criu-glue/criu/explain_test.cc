// The log lines are those of CRIU 4.2.1, as provoked by container_criu_test.
#include "criu-glue/criu/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace stillpoint::criu {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kRlimit =
    "(00.074576) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation "
    "not permitted\n";

TEST(Explain, TheFirstErrorIsTheCauseAndConsequencesAreLeftOut) {
  const Error e = explain(
      "dump", std::string("(00.000033) sockets: Probing sock diag modules\n") + kRlimit +
                  "(00.1) Error (criu/files-ext.c:98): Can't dump file 3 of that type [20600] (chr "
                  "10:229)\n"
                  "(00.1) Warn  (criu/a.c:1): whatever\n"
                  "(00.1) Error (criu/cr-dump.c:1734): Dump files (pid: 11240) failed with -1\n"
                  "(00.1) Error (criu/cr-dump.c:2155): Dumping FAILED.\n");
  EXPECT_EQ(e.what(), "CRIU's dump failed: Can't dump file 3 of that type [20600] (chr 10:229)");
  EXPECT_EQ(e.kind(), ErrorKind::kUnfit);
  EXPECT_THAT(e.remedy(), HasSubstr("device"));
}

struct Case {
  const char* line;
  ErrorKind kind;
  const char* advice;
};

TEST(Explain, KnowsTheUsualCauses) {
  const Case cases[] = {
      {"(00.04)      1: Error (criu/files-reg.c:2175): File tmp/x/file has bad size 5 (expect 0)",
       ErrorKind::kDamaged, "put it back"},
      {"(00.04)      1: Error (criu/files-reg.c:2267): Can't open file tmp/x/file on restore: No "
       "such file or directory",
       ErrorKind::kNotFound, "put it back"},
      {"(00.1) Error (criu/files-ext.c:98): Can't dump file 3 of that type [600] (anon "
       "anon_inode:[userfaultfd])",
       ErrorKind::kUnfit, "userfaultfd"},
      {"(00.1) Error (criu/files-ext.c:98): Can't dump file 3 of that type [600] (anon "
       "anon_inode:[perf_event])",
       ErrorKind::kUnfit, "profiler"},
      {"(00.1) Error (criu/pie/parasite.c:1): send_fds failed (-22)", ErrorKind::kUnfit,
       "io_uring"},
      {"(00.1) Error (criu/sk-inet.c:185): inet: In-flight connection (l) for 56152",
       ErrorKind::kBusy, "next checkpoint"},
      {"(00.1) Error (criu/files-reg.c:1): Can't create link remap for /tmp/x/link. Use link-remap "
       "option",
       ErrorKind::kUnfit, "another"},
      {"(00.1) Error (criu/page-xfer.c:1): Unable to spice data: No space left on device",
       ErrorKind::kNoSpace, "free"},
      {"(00.1) Error (criu/files-reg.c:1790): Can't lookup mount=24 for fd=10 path=/x",
       ErrorKind::kUnfit, "outside"},
      {"(00.1) Error (criu/cr-dump.c:388): Can't get rlimit 0: Operation not permitted",
       ErrorKind::kPermission, "check"},
  };
  for (const Case& c : cases) {
    const Error e = explain("restore", std::string(kRlimit) + c.line + "\n");
    EXPECT_EQ(e.kind(), c.kind) << e.line();
    EXPECT_THAT(e.remedy(), HasSubstr(c.advice)) << e.line();
    EXPECT_THAT(e.what(), Not(HasSubstr("Error ("))) << e.line();
    EXPECT_THAT(e.what(), Not(HasSubstr("RLIMIT"))) << e.line();
  }
}

TEST(Explain, AnUnknownCauseIsShownWithoutAdvice) {
  const Error e = explain("dump", "(00.1) Error (criu/x.c:1): the sky fell\n");
  EXPECT_EQ(e.line(), "CRIU's dump failed: the sky fell");
  EXPECT_EQ(e.kind(), ErrorKind::kSystem);
}

TEST(Explain, ShowsConsequencesWhereThereIsNothingElse) {
  EXPECT_EQ(explain("dump", "(00.1) Error (criu/cr-dump.c:2155): Dumping FAILED.\n").what(),
            "CRIU's dump failed: Dumping FAILED");
  EXPECT_THAT(explain("dump", "").what(), HasSubstr("does not say why"));
}

TEST(Explain, IsBoundedAndOneLine) {
  std::string log;
  for (int i = 0; i < 1000; i++)
    log +=
        "(00.1) Error (criu/x.c:1): " + std::to_string(i) + std::string(5000, 'x') + "\x1b[31m\n";
  log += "(00.1) Error (no end";
  const Error e = explain("dump", log);
  EXPECT_LT(e.line().size(), 1200u);
  EXPECT_THAT(e.line(), Not(HasSubstr("\n")));
  EXPECT_THAT(explain("dump", "Error (").what(), EndsWith("Error ("));
}

}  // namespace
}  // namespace stillpoint::criu
