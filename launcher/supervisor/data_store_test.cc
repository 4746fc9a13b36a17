#include "launcher/supervisor/data_store.h"

#include <gtest/gtest.h>

namespace stillpoint::supervisor {
namespace {

TEST(DataStore, FindsWhatWasPublishedOnce) {
  DataStore store;
  ASSERT_TRUE(store.publish({1, "port", "value"}));
  auto again = store.publish({2, "port", "other"});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind(), ErrorKind::kBusy);
  const auto found = store.find({"nothing", "port"});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].rank, 1U);
  EXPECT_EQ(found[0].value, "value");
}

TEST(DataStore, OnlyThePublisherTakesItBack) {
  DataStore store;
  ASSERT_TRUE(store.publish({1, "a", ""}));
  ASSERT_TRUE(store.publish({1, "b", ""}));
  ASSERT_TRUE(store.publish({2, "c", ""}));
  store.unpublish(2, {"a"});
  EXPECT_EQ(store.find({"a"}).size(), 1U);
  store.unpublish(1, {"a"});
  EXPECT_EQ(store.find({"a", "b", "c"}).size(), 2U);
  store.unpublish(1, {});
  EXPECT_EQ(store.find({"a", "b", "c"}).size(), 1U);
}

TEST(DataStore, LookupsWaitForAllTheirKeys) {
  DataStore store;
  int answers = 0;
  ASSERT_TRUE(store.await({"a", "b"}, [&](const auto& found) {
    EXPECT_EQ(found.size(), 2U);
    answers++;
    ASSERT_TRUE(store.publish({0, "answer", ""}));  // from within
  }));
  ASSERT_TRUE(store.publish({1, "a", ""}));
  EXPECT_EQ(answers, 0);
  ASSERT_TRUE(store.publish({1, "b", ""}));
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(store.find({"answer"}).size(), 1U);
  ASSERT_TRUE(store.await({"a"}, [&](const auto&) { answers++; }));
  EXPECT_EQ(answers, 2);
}

TEST(DataStore, IsBounded) {
  DataStore store(1000);
  ASSERT_TRUE(store.publish({1, "a", std::string(500, 'x')}));
  auto more = store.publish({1, "b", std::string(500, 'x')});
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().kind(), ErrorKind::kNoSpace);
  store.unpublish(1, {"a"});
  EXPECT_TRUE(store.publish({1, "b", std::string(500, 'x')}));
  for (size_t i = 0; i < DataStore::kMostWaiting; i++)
    ASSERT_TRUE(store.await({"never"}, [](const auto&) {}));
  EXPECT_FALSE(store.await({"never"}, [](const auto&) {}));
}

}  // namespace
}  // namespace stillpoint::supervisor
