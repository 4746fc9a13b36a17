#include "common/wire/frame.h"

#include <gtest/gtest.h>

#include <random>

namespace stillpoint::wire {
namespace {

TEST(Frame, ComesBackHoweverItIsCut) {
  const std::string stream = frame("one") + frame("") + frame(std::string(1000, 'x'));
  for (size_t step = 1; step < 40; step++) {
    FrameReader reader;
    std::vector<std::string> got;
    for (size_t at = 0; at < stream.size(); at += step) {
      reader.feed(std::string_view(stream).substr(at, step));
      for (;;) {
        auto next = reader.next();
        ASSERT_TRUE(next);
        if (!*next) break;
        got.push_back(**next);
      }
    }
    ASSERT_EQ(got.size(), 3u);
    EXPECT_EQ(got[0], "one");
    EXPECT_EQ(got[2].size(), 1000u);
  }
}

TEST(Frame, OversizedIsRefused) {
  FrameReader reader(10);
  reader.feed(frame(std::string(11, 'x')));
  const auto next = reader.next();
  ASSERT_FALSE(next);
  EXPECT_EQ(next.error().kind(), ErrorKind::kProtocol);
}

TEST(Frame, NoiseNeverCrashes) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; round++) {
    FrameReader reader(4096);
    for (int i = 0; i < 8; i++) {
      std::string noise(random() % 64, '\0');
      for (char& c : noise) c = static_cast<char>(random());
      reader.feed(noise);
      while (true) {
        auto next = reader.next();
        if (!next || !*next) break;
        ASSERT_LE((*next)->size(), 4096u);
      }
    }
  }
}

}  // namespace
}  // namespace stillpoint::wire
