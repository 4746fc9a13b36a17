#include "launcher/peer/munge.h"

#include <gtest/gtest.h>
#include <munge.h>

#include "launcher/peer/testing/fixture.h"

namespace stillpoint::peer {
namespace {

using namespace testing;

TEST(Munge, SaysWhoAndCarriesThePayload) {
  const Munged munged;
  const Munge munge(munged.socket());
  const std::string payload("any\0bytes", 9);
  const auto credential = munge.encode_now(payload, 0);
  ASSERT_TRUE(credential) << credential.error().line();
  asio::io_context io;
  const auto decoded = run(io, munge.decode(*credential, Deadline::in(20s)));
  ASSERT_TRUE(decoded) << decoded.error().line();
  EXPECT_EQ(decoded->uid, ::geteuid());
  EXPECT_EQ(decoded->gid, ::getegid());
  EXPECT_EQ(decoded->payload, payload);
  EXPECT_FALSE(decoded->host.empty());
}

TEST(Munge, TakesACredentialOnce) {
  const Munged munged;
  const Munge munge(munged.socket());
  const auto credential = munge.encode_now("x", 0);
  ASSERT_TRUE(munge.decode_now(*credential));
  const auto again = munge.decode_now(*credential);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind(), ErrorKind::kPermission);
  EXPECT_TRUE(contains(again.error(), "used before")) << again.error().line();
}

TEST(Munge, RefusesWhatIsForSomebodyElse) {
  const Munged munged;
  const Munge munge(munged.socket());
  const auto decoded = munge.decode_now(*munge.encode_now("x", 4711));
  ASSERT_FALSE(decoded);
  EXPECT_TRUE(contains(decoded.error(), "another user")) << decoded.error().line();
}

TEST(Munge, ExpiredMeansClocks) {
  const Munged munged;
  munge_ctx_t context = ::munge_ctx_create();
  ::munge_ctx_set(context, MUNGE_OPT_SOCKET, munged.socket().c_str());
  ::munge_ctx_set(context, MUNGE_OPT_TTL, 1);
  char* credential = nullptr;
  ASSERT_EQ(::munge_encode(&credential, context, nullptr, 0), EMUNGE_SUCCESS);
  ::munge_ctx_destroy(context);
  ::sleep(3);  // it counts whole seconds
  const auto decoded = Munge(munged.socket()).decode_now(credential);
  std::free(credential);
  ASSERT_FALSE(decoded);
  EXPECT_TRUE(contains(decoded.error(), "expired; set the clocks")) << decoded.error().line();
}

TEST(Munge, TellsTheKeyFromNonsense) {
  const Munged ours, theirs(std::string(64, 'z'));
  const Munge munge(ours.socket());
  const auto wrong_key = munge.decode_now(*Munge(theirs.socket()).encode_now("x", 0));
  ASSERT_FALSE(wrong_key);
  EXPECT_EQ(wrong_key.error().kind(), ErrorKind::kPermission);
  EXPECT_TRUE(contains(wrong_key.error(), "another key")) << wrong_key.error().line();
  for (const char* text : {"x", "MUNGE:AwQFAAC:", "MUNGE:!!!:"}) {
    const auto nonsense = munge.decode_now(text);
    ASSERT_FALSE(nonsense) << text;
    EXPECT_EQ(nonsense.error().kind(), ErrorKind::kProtocol) << nonsense.error().line();
  }
}

TEST(Munge, SaysThatItDoesNotRun) {
  const auto none = Munge("/tmp/no-such-directory/socket").encode_now("x", 0);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind(), ErrorKind::kUnfit);
  EXPECT_TRUE(contains(none.error(), "start it")) << none.error().line();
}

TEST(Munge, HangingDaemonEndsAtTheDeadline) {
  const Munged munged;
  const Munge munge(munged.socket());
  munged.stop();
  asio::io_context io;
  const auto late = run(io, munge.encode("x", 0, Deadline::in(200ms)));
  munged.go_on();
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind(), ErrorKind::kTimeout);
}

}  // namespace
}  // namespace stillpoint::peer
