// The engines behind the ranks' standard streams: OutputLog and InputBuffer.
#include <gtest/gtest.h>

#include "launcher/supervisor/input.h"
#include "launcher/supervisor/output.h"

namespace stillpoint::supervisor {
namespace {

// Sends all that is to be sent; the numbers of the records.
std::vector<uint64_t> drain(OutputLog& log) {
  std::vector<uint64_t> numbers;
  for (; const OutputRecord* record = log.next(); log.sent()) numbers.push_back(record->number);
  return numbers;
}

using Numbers = std::vector<uint64_t>;

TEST(OutputLog, NumbersFromZeroAndKeepsTheContent) {
  OutputLog log;
  log.append(3, Stream::kErr, "hello");
  ASSERT_NE(log.next(), nullptr);
  EXPECT_EQ(log.next()->number, 0U);
  EXPECT_EQ(log.next()->rank, 3U);
  EXPECT_EQ(log.next()->stream, Stream::kErr);
  EXPECT_EQ(log.next()->data, "hello");
  log.append(0, Stream::kOut, "x");
  EXPECT_EQ(drain(log), (Numbers{0, 1}));
  EXPECT_EQ(drain(log), Numbers{});
}

TEST(OutputLog, ANewLinkGetsWhatIsNotAcknowledged) {
  OutputLog log;
  for (int i = 0; i < 5; i++) log.append(0, Stream::kOut, "x");
  drain(log);
  ASSERT_TRUE(log.acknowledge(2));
  ASSERT_TRUE(log.resume(0));  // an agent that holds nothing
  EXPECT_EQ(drain(log), (Numbers{2, 3, 4}));
  ASSERT_TRUE(log.resume(4));  // one that holds some, though it has not acknowledged it
  EXPECT_EQ(drain(log), (Numbers{4}));
  ASSERT_TRUE(log.resume(0));  // what was only held is kept
  EXPECT_EQ(drain(log), (Numbers{2, 3, 4}));
}

TEST(OutputLog, IsFullUntilAcknowledged) {
  OutputLog log(1000);
  log.append(0, Stream::kOut, std::string(999 - OutputLog::kRecordCost, 'x'));
  EXPECT_FALSE(log.full());
  log.append(0, Stream::kOut, "x");
  EXPECT_TRUE(log.full());
  drain(log);
  EXPECT_TRUE(log.full());  // sent is not written
  EXPECT_FALSE(log.overfull());
  ASSERT_TRUE(log.acknowledge(1));
  EXPECT_FALSE(log.full());
}

TEST(OutputLog, TinyRecordsFillItToo) {
  OutputLog log(1 << 20);
  int records = 0;
  for (; !log.full(); records++) log.append(0, Stream::kOut, "x");
  EXPECT_LT(records, 10'000);
}

TEST(OutputLog, RefusesWhatCannotBe) {
  OutputLog log;
  log.append(0, Stream::kOut, "x");
  EXPECT_FALSE(log.acknowledge(1));  // not sent yet
  EXPECT_FALSE(log.resume(2));
  ASSERT_TRUE(log.resume(1));
  EXPECT_TRUE(log.acknowledge(1));
  EXPECT_TRUE(log.acknowledge(0));  // an old one: nothing new
  EXPECT_EQ(log.end(), 1U);
}

TEST(InputBuffer, PassesOnAndCounts) {
  InputBuffer input;
  ASSERT_TRUE(input.offer(0, "hello ", false));
  ASSERT_TRUE(input.offer(6, "world", false));
  EXPECT_EQ(input.pending(), "hello world");
  EXPECT_EQ(input.received(), 11U);
  EXPECT_EQ(input.passed_on(), 0U);
  input.passed(6);
  EXPECT_EQ(input.pending(), "world");
  EXPECT_EQ(input.passed_on(), 6U);
  EXPECT_FALSE(input.finished());
}

TEST(InputBuffer, WhatComesTwiceIsDroppedAndGapsAreRefused) {
  InputBuffer input;
  ASSERT_TRUE(input.offer(0, "abcdef", false));
  ASSERT_TRUE(input.offer(3, "defghi", false));
  EXPECT_EQ(input.pending(), "abcdefghi");
  ASSERT_TRUE(input.offer(0, "abc", false));
  EXPECT_EQ(input.pending(), "abcdefghi");
  auto r = input.offer(10, "k", false);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().kind(), ErrorKind::kProtocol);
  EXPECT_EQ(input.received(), 9U);
}

TEST(InputBuffer, FinishedOnceTheLastByteIsPassedOn) {
  InputBuffer input;
  ASSERT_TRUE(input.offer(0, "ab", true));
  EXPECT_TRUE(input.closed());
  EXPECT_FALSE(input.finished());
  EXPECT_TRUE(input.offer(0, "ab", true));  // the agent says it again on a new link
  EXPECT_FALSE(input.offer(2, "c", false));
  input.passed(2);
  EXPECT_TRUE(input.finished());
}

TEST(InputBuffer, IsBounded) {
  InputBuffer input;
  ASSERT_TRUE(input.offer(0, std::string(InputBuffer::kMost, 'x'), false));
  EXPECT_FALSE(input.offer(InputBuffer::kMost, "y", false));
}

TEST(InputBuffer, DiscardsOnceNobodyReads) {
  InputBuffer input;
  ASSERT_TRUE(input.offer(0, "abc", false));
  input.close();
  EXPECT_TRUE(input.closed());
  EXPECT_TRUE(input.finished());
  EXPECT_EQ(input.passed_on(), 3U);
  ASSERT_TRUE(input.offer(3, "def", false));
  EXPECT_TRUE(input.pending().empty());
  EXPECT_EQ(input.passed_on(), 6U);
}

}  // namespace
}  // namespace stillpoint::supervisor
