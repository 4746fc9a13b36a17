#include "launcher/agent/output_relay.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "common/fd.h"
#include "launcher/agent/testing/fixture.h"

namespace stillpoint::agent {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Pipes in place of standard output and error while it lives.  What a test finds out it keeps until
// then: its own messages would go there, too.
class Streams {
 public:
  Streams() : out_(replace(STDOUT_FILENO, kept_[0])), err_(replace(STDERR_FILENO, kept_[1])) {}
  ~Streams() {
    ::dup2(kept_[0].get(), STDOUT_FILENO);
    ::dup2(kept_[1].get(), STDERR_FILENO);
  }
  std::string out() const { return all_of(out_); }
  std::string err() const { return all_of(err_); }
  void nobody_reads() { out_.reset(); }

 private:
  static Fd replace(int fd, Fd& kept) {
    std::fflush(nullptr);
    auto pipe = make_pipe();
    kept.reset(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    ::dup2(pipe->write.get(), fd);
    ::fcntl(pipe->read.get(), F_SETFL, O_NONBLOCK);
    return std::move(pipe->read);
  }
  static std::string all_of(const Fd& fd) {
    std::string text;
    char bytes[65536];
    for (ssize_t n; (n = ::read(fd.get(), bytes, sizeof bytes)) > 0;)
      text.append(bytes, static_cast<size_t>(n));
    return text;
  }
  Fd kept_[2];
  Fd out_, err_;
};

class OutputRelayTest : public ::testing::Test {
 protected:
  OutputRelay& make(bool tag = false) {
    return relay_.emplace(
        io_.get_executor(), tag,
        [this](uint32_t part, uint64_t next) {
          acknowledged_.push_back(std::to_string(part) + ":" + std::to_string(next));
        },
        [this] { gone_++; });
  }
  void take(uint32_t part, uint64_t number, const std::string& data,
            link::Stream stream = link::STDOUT) {
    link::Output record;
    record.set_number(number);
    record.set_rank(part + 10);
    record.set_stream(stream);
    record.set_data(data);
    relay_->take(part, record);
  }
  bool drained(Milliseconds time = 20s) { return run(io_, relay_->drained(Deadline::in(time))); }
  bool hold(Milliseconds time = 20s) { return run(io_, relay_->hold(Deadline::in(time))); }

  asio::io_context io_;
  std::optional<OutputRelay> relay_;
  std::vector<std::string> acknowledged_;
  int gone_ = 0;
};

TEST_F(OutputRelayTest, WritesInOrderAndAcknowledges) {
  std::string out, err;
  WrittenBytes bytes;
  {
    const Streams streams;
    make();
    take(0, 4, "one\n");
    take(1, 0, "two\n");
    take(0, 5, "three\n", link::STDERR);
    EXPECT_TRUE(drained());
    bytes = relay_->acknowledged();
    out = streams.out(), err = streams.err();
    relay_.reset();
  }
  EXPECT_EQ(out, "one\ntwo\n");
  EXPECT_EQ(err, "three\n");
  EXPECT_EQ(bytes.out, 8u);
  EXPECT_EQ(bytes.err, 6u);
  EXPECT_THAT(acknowledged_, ElementsAre("0:5", "1:1", "0:6"));
}

TEST_F(OutputRelayTest, HeldItWritesNothingUntilItIsReleased) {
  std::string before, during, after;
  bool held = false, drained_while_held = true;
  size_t acknowledged = 0;
  {
    const Streams streams;
    make();
    take(0, 0, "before\n");
    (void)drained();
    held = hold();
    before = streams.out();
    take(0, 1, "during\n");
    drained_while_held = drained(50ms);
    during = streams.out();
    acknowledged = acknowledged_.size();
    relay_->release();
    (void)drained();
    after = streams.out();
    relay_.reset();
  }
  EXPECT_TRUE(held);
  EXPECT_EQ(before, "before\n");
  EXPECT_FALSE(drained_while_held);
  EXPECT_EQ(during, "");
  EXPECT_EQ(acknowledged, 1u);
  EXPECT_EQ(after, "during\n");
  EXPECT_THAT(acknowledged_, ElementsAre("0:1", "0:2"));
}

TEST_F(OutputRelayTest, WhatIsDroppedIsNeverWritten) {
  std::string out;
  bool empty = false;
  {
    const Streams streams;
    make();
    (void)hold();
    take(0, 0, "in the dump\n");
    relay_->drop();
    empty = drained();
    relay_->release();
    settle(io_);
    out = streams.out();
    relay_.reset();
  }
  EXPECT_TRUE(empty);
  EXPECT_EQ(out, "");
  EXPECT_THAT(acknowledged_, IsEmpty());
}

TEST_F(OutputRelayTest, ARecordThatIsHalfWrittenIsWrittenToItsEnd) {
  const std::string large(200'000, 'x');  // more than a pipe holds
  bool held = true, empty = false;
  size_t acknowledged_before = 1;
  std::string out;
  {
    const Streams streams;
    make();
    take(0, 0, large);
    take(0, 1, "never\n");
    held = hold(100ms);
    relay_->drop();
    acknowledged_before = acknowledged_.size();
    for (const auto deadline = Deadline::in(20s); !empty && !deadline.passed();) {
      out += streams.out();
      empty = drained(5ms);
    }
    out += streams.out();
    relay_.reset();
  }
  EXPECT_FALSE(held);
  EXPECT_EQ(acknowledged_before, 0u);
  EXPECT_TRUE(empty);
  EXPECT_TRUE(out == large) << out.size();
  EXPECT_THAT(acknowledged_, ElementsAre("0:1"));
}

TEST_F(OutputRelayTest, TheRankStandsInFrontOfEachLine) {
  std::string out, err;
  {
    const Streams streams;
    make(true);
    take(0, 0, "a\nb");
    take(0, 1, "c\n");
    take(1, 0, "d\n", link::STDERR);
    (void)drained();
    out = streams.out(), err = streams.err();
    relay_.reset();
  }
  EXPECT_EQ(out, "[1,10]<stdout>: a\n[1,10]<stdout>: bc\n");
  EXPECT_EQ(err, "[1,11]<stderr>: d\n");
}

TEST_F(OutputRelayTest, AReaderThatHasGoneIsToldOnce) {
  auto* const before = ::signal(SIGPIPE, SIG_IGN);
  bool empty = false;
  {
    Streams streams;
    make();
    streams.nobody_reads();
    take(0, 0, "one\n");
    take(0, 1, "two\n");
    empty = drained();
    relay_.reset();
  }
  ::signal(SIGPIPE, before);
  EXPECT_TRUE(empty);
  EXPECT_EQ(gone_, 1);
  EXPECT_THAT(acknowledged_, ElementsAre("0:1", "0:2"));  // the ranks are not held up
}

}  // namespace
}  // namespace stillpoint::agent
