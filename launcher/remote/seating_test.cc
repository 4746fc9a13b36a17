#include "launcher/remote/seating.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace stillpoint::remote {
namespace {

using ::testing::HasSubstr;

Hosts hosts(const std::vector<std::pair<std::string, uint32_t>>& named) {
  Hosts made;
  for (const auto& [name, slots] : named) {
    auto& host = *made.Add();
    host.set_name(name);
    host.set_slots(slots);
  }
  return made;
}

// "a:0,1 b:2"
std::string text(const Result<std::vector<agent::Seat>>& seats) {
  if (!seats) return seats.error().line();
  std::string all;
  for (const auto& seat : *seats) {
    all += (all.empty() ? "" : " ") + seat.node + ":";
    for (size_t i = 0; i < seat.ranks.size(); i++)
      all += (i ? "," : "") + std::to_string(seat.ranks[i]);
  }
  return all;
}

TEST(SeatsOfRanks, AreBlocksOfEvenSize) {
  EXPECT_EQ(text(seats_for(4, hosts({{"a", 0}, {"b", 0}}))), "a:0,1 b:2,3");
  EXPECT_EQ(text(seats_for(7, hosts({{"a", 0}, {"b", 0}, {"c", 0}}))), "a:0,1,2 b:3,4 c:5,6");
  EXPECT_EQ(text(seats_for(1, hosts({{"a", 0}}))), "a:0");
}

TEST(SeatsOfRanks, FillTheSlotsHostByHost) {
  EXPECT_EQ(text(seats_for(4, hosts({{"b", 3}, {"a", 1}}))), "b:0,1,2 a:3");
  EXPECT_EQ(text(seats_for(3, hosts({{"a", 2}, {"b", 2}}))), "a:0,1 b:2");
  EXPECT_EQ(text(seats_for(2, hosts({{"a", UINT32_MAX}, {"b", UINT32_MAX}}))), "a:0,1");
}

TEST(SeatsOfRanks, HostsThatGetNoneAreLeftOut) {
  EXPECT_EQ(text(seats_for(2, hosts({{"a", 0}, {"b", 0}, {"c", 0}}))), "a:0 b:1");
  EXPECT_EQ(text(seats_for(2, hosts({{"a", 2}, {"b", 2}}))), "a:0,1");
}

TEST(SeatsOfRanks, WhatCannotBeIsUsage) {
  struct Case {
    uint32_t ranks;
    Hosts hosts;
    std::string says;
  };
  for (const auto& [ranks, named, says] : {
           Case{5, hosts({{"a", 2}, {"b", 2}}), "5 ranks, but the hosts have 4 slots"},
           Case{2, hosts({}), "no hosts are named"},
           Case{2, hosts({{"a", 0}, {"b", 0}, {"a", 0}}), "a is named twice"},
           Case{2, hosts({{"a", 1}, {"", 1}}), "without a name"},
           Case{2, hosts({{"a", 2}, {"b", 0}}), "some have none"},
           Case{2, hosts({{"a", 0}, {"b", 2}}), "some have none"},
       }) {
    const auto seats = seats_for(ranks, named);
    ASSERT_FALSE(seats) << says;
    EXPECT_EQ(seats.error().kind(), ErrorKind::kUsage);
    EXPECT_THAT(seats.error().line(), HasSubstr(says));
  }
}

// Of four containers with two ranks each.
statefile::Manifest dumped() {
  statefile::Manifest manifest;
  for (uint32_t i = 0; i < 4; i++) {
    statefile::ContainerRecord container;
    container.index = i;
    container.hostname = "old" + std::to_string(i);
    for (const uint32_t rank : {i + 4, i}) container.ranks.push_back({.rank = rank, .program = {}});
    manifest.containers.push_back(container);
  }
  return manifest;
}

TEST(SeatsOfContainers, AreWhereTheyWereUnlessHostsAreNamed) {
  EXPECT_EQ(text(seats_for(dumped(), Hosts())), "old0:0,4 old1:1,5 old2:2,6 old3:3,7");
}

TEST(SeatsOfContainers, AreBlocksOnFewerHosts) {
  EXPECT_EQ(text(seats_for(dumped(), hosts({{"x", 0}, {"y", 0}}))), "x:0,4 x:1,5 y:2,6 y:3,7");
  EXPECT_EQ(text(seats_for(dumped(), hosts({{"x", 0}, {"y", 0}, {"z", 0}}))),
            "x:0,4 x:1,5 y:2,6 z:3,7");
  EXPECT_EQ(text(seats_for(dumped(), hosts({{"x", 0}}))), "x:0,4 x:1,5 x:2,6 x:3,7");
}

TEST(SeatsOfContainers, TakeNoMoreHostsThanThereAreContainers) {
  const auto many = hosts({{"u", 0}, {"v", 0}, {"w", 0}, {"x", 0}, {"y", 0}, {"z", 0}});
  EXPECT_EQ(text(seats_for(dumped(), many)), "u:0,4 v:1,5 w:2,6 x:3,7");
}

TEST(SeatsOfContainers, HostsAreChecked) {
  for (const auto& bad :
       {hosts({{"x", 0}, {"x", 0}}), hosts({{"", 0}}), hosts({{"x", 1}, {"y", 0}})}) {
    const auto seats = seats_for(dumped(), bad);
    ASSERT_FALSE(seats);
    EXPECT_EQ(seats.error().kind(), ErrorKind::kUsage);
  }
}

}  // namespace
}  // namespace stillpoint::remote
