#include "criu-glue/statefile/record.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "criu-glue/statefile/test_support.h"
#include "criu-glue/statefile/text.h"

namespace stillpoint::statefile {
namespace {

using nlohmann::ordered_json;
using test::sample_manifest;

Manifest full_manifest() {
  Manifest m = sample_manifest();
  m.restarted_from = 2;
  m.containers[0].images = {{"pages-1.img", 123456789012, Digest{1, 2, 3}}, {"core-1.img", 0, {}}};
  m.containers[0].statefile_size = 99;
  m.containers[0].statefile_digest = Digest{255};
  return m;
}

TEST(Record, SurvivesJson) {
  const Manifest m = full_manifest();
  const std::string text = to_json(m);
  auto back = manifest_from_json(text);
  ASSERT_TRUE(back) << back.error().line();
  EXPECT_EQ(to_json(*back), text);
  EXPECT_EQ(back->argv, m.argv);
  EXPECT_EQ(back->cpu.flags, m.cpu.flags);
  EXPECT_EQ(back->times.verify, 5u);
  EXPECT_TRUE(back->tag_output);
  const auto& c = back->containers.at(0);
  EXPECT_EQ(c.images.at(0).size, 123456789012u);
  EXPECT_EQ(c.images.at(0).digest, (Digest{1, 2, 3}));
  EXPECT_EQ(c.ranks.at(1).pid, 13);
  EXPECT_TRUE(c.files.at(0).writable);
  EXPECT_EQ(c.mounts.at(0).type, "nfs4");
}

TEST(Record, OneContainerSurvivesJson) {
  const ContainerRecord c = full_manifest().containers[0];
  auto back = container_from_json(to_json(c));
  ASSERT_TRUE(back) << back.error().line();
  EXPECT_EQ(to_json(*back), to_json(c));
}

TEST(Record, WhatWasInFlightSurvivesJson) {
  ContainerRecord c = full_manifest().containers[0];
  c.in_flight = {.connections = 12, .bytes = 3456, .closed_windows = 7};
  auto back = container_from_json(to_json(c));
  ASSERT_TRUE(back) << back.error().line();
  EXPECT_EQ(back->in_flight.connections, 12u);
  EXPECT_EQ(back->in_flight.bytes, 3456u);
  EXPECT_EQ(back->in_flight.closed_windows, 7u);
  for (const char* field : {"connections", "bytes", "closed_windows"}) {
    auto json = ordered_json::parse(to_json(c));
    json["in_flight"].erase(field);
    auto less = container_from_json(json.dump());
    ASSERT_FALSE(less) << field;
    EXPECT_THAT(less.error().what(), testing::HasSubstr(std::string("in_flight.") + field));
  }
}

// A job that has no checkpoint yet has facts all the same.
TEST(Record, FactsNeedNoContainersAndNoEpoch) {
  Manifest m = full_manifest();
  m.epoch = 0;
  m.containers.clear();
  const std::string text = to_json(m);
  auto facts = facts_from_json(text);
  ASSERT_TRUE(facts) << facts.error().line();
  EXPECT_EQ(to_json(*facts), text);
  EXPECT_FALSE(manifest_from_json(text));
}

TEST(Record, FactsAreCheckedAndContainersAreLeftOut) {
  auto json = ordered_json::parse(to_json(full_manifest()));
  auto facts = facts_from_json(json.dump());
  ASSERT_TRUE(facts) << facts.error().line();
  EXPECT_TRUE(facts->containers.empty());
  json["containers"] = "whatever they are";
  EXPECT_TRUE(facts_from_json(json.dump()));
  json.erase("containers");
  ASSERT_TRUE(facts_from_json(json.dump()));
  const auto whole = json;
  for (const auto& [key, value] : whole.items()) {
    auto less = whole;
    less.erase(key);
    auto result = facts_from_json(less.dump());
    ASSERT_FALSE(result) << key;
    EXPECT_EQ(result.error().kind(), ErrorKind::kDamaged);
  }
  json["job"] = "ring@1";
  EXPECT_FALSE(facts_from_json(json.dump()));
}

TEST(Record, KeepsBytesThatAreNotUtf8) {
  Manifest m = full_manifest();
  m.argv = {"\xff\xfe", "caf\xc3\xa9", "tab\there\n"};
  m.containers[0].files[0].path = "/data/\x80 file";
  auto back = manifest_from_json(to_json(m));
  ASSERT_TRUE(back) << back.error().line();
  EXPECT_EQ(back->argv, m.argv);
  EXPECT_EQ(back->containers[0].files[0].path, "/data/\x80 file");
}

TEST(Record, IgnoresFieldsItDoesNotKnow) {
  auto json = ordered_json::parse(to_json(full_manifest()));
  json["weather"] = {1, 2, 3};
  EXPECT_TRUE(manifest_from_json(json.dump()));
}

// Every field in turn is missing, or of another type.
void spoil_each(ordered_json& root, ordered_json& node) {
  for (auto it = node.begin(); it != node.end(); ++it) {
    const ordered_json good = it.value();
    if (node.is_object() && !good.is_null()) {
      for (const ordered_json& bad : {ordered_json(nullptr), ordered_json(-1), ordered_json(1.5),
                                      ordered_json(uint64_t{1} << 63), ordered_json("\xc3\xa9"),
                                      ordered_json::array({17}), ordered_json::object()}) {
        if (bad.type() == good.type()) continue;
        it.value() = bad;
        auto result = manifest_from_json(root.dump());
        ASSERT_FALSE(result) << it.key() << " = " << bad.dump();
        EXPECT_EQ(result.error().kind(), ErrorKind::kDamaged);
        EXPECT_THAT(result.error().what(), testing::HasSubstr(it.key()));
      }
      it.value() = good;
    }
    if (good.is_structured()) spoil_each(root, it.value());
  }
}

TEST(Record, EveryFieldIsChecked) {
  auto json = ordered_json::parse(to_json(full_manifest()));
  spoil_each(json, json);
}

TEST(Record, EveryFieldIsNeeded) {
  const auto json = ordered_json::parse(to_json(full_manifest()));
  for (const auto& [key, value] : json.items()) {
    auto less = json;
    less.erase(key);
    auto result = manifest_from_json(less.dump());
    ASSERT_FALSE(result) << key;
    EXPECT_THAT(result.error().what(), testing::HasSubstr(key + " is missing"));
  }
}

struct Spoil {
  const char* pointer;
  ordered_json value;
};

class BadValue : public testing::TestWithParam<Spoil> {};

TEST_P(BadValue, IsRefused) {
  auto json = ordered_json::parse(to_json(full_manifest()));
  json[ordered_json::json_pointer(GetParam().pointer)] = GetParam().value;
  auto result = manifest_from_json(json.dump());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kDamaged);
}

INSTANTIATE_TEST_SUITE_P(
    Record, BadValue,
    testing::Values(
        Spoil{"/job", "../ring"}, Spoil{"/job", ""}, Spoil{"/epoch", 0},
        Spoil{"/uid", uint64_t{1} << 32}, Spoil{"/stdout_bytes", uint64_t{1} << 54},
        Spoil{"/containers", ordered_json::array()}, Spoil{"/argv/0", std::string("a\0b", 3)},
        Spoil{"/argv/0", std::string(200000, 'x')}, Spoil{"/argv/0", {{"hex", "4"}}},
        Spoil{"/argv/0", {{"hex", "zz"}}}, Spoil{"/argv/0", {{"hex", "00"}}},
        Spoil{"/containers/0/index", 1}, Spoil{"/containers/0/statefile", "../../etc/passwd"},
        Spoil{"/containers/0/statefile", "c1.h5"}, Spoil{"/containers/0/statefile_digest", "00"},
        Spoil{"/containers/0/statefile_digest", std::string(64, 'G')},
        Spoil{"/containers/0/images/0/name", "a/b"}, Spoil{"/containers/0/images/0/name", ".."},
        Spoil{"/containers/0/images/0/name", ""},
        Spoil{"/containers/0/images/0/name", "core-1.img"},
        Spoil{"/containers/0/images/0/name", std::string(256, 'x')},
        Spoil{"/containers/0/images/0/size", (uint64_t{1} << 50) + 1},
        Spoil{"/containers/0/ranks/0/rank", 2}, Spoil{"/containers/0/ranks/0/rank", 1},
        Spoil{"/containers/0/ranks/0/pid", uint64_t{1} << 31},
        Spoil{"/containers/0/files/0/path", "relative"},
        Spoil{"/containers/0/files/0/path", "/a/../b"}, Spoil{"/containers/0/files/0/path", "/.."},
        Spoil{"/containers/0/mounts/0/destination", "home"}));

TEST(Record, TooManyIsRefused) {
  auto json = ordered_json::parse(to_json(full_manifest()));
  for (const auto& [where, most] :
       {std::pair("/argv", 65536u), std::pair("/containers/0/images", 65536u),
        std::pair("/containers/0/files", 65536u), std::pair("/containers", 4096u)}) {
    auto more = json;
    auto& list = more[ordered_json::json_pointer(where)];
    const auto one = list[0];
    while (list.size() <= most) list.push_back(one);
    auto result = manifest_from_json(more.dump());
    ASSERT_FALSE(result) << where;
    EXPECT_THAT(result.error().what(), testing::HasSubstr("is not a list of at most"));
  }
}

TEST(Record, GarbageIsRefused) {
  const std::string good = to_json(full_manifest());
  for (size_t length = 0; length + 2 < good.size(); length += 7)
    EXPECT_FALSE(manifest_from_json(good.substr(0, length)));
  for (const std::string& text :
       {std::string("[]"), std::string("null"), std::string("{}"), good + "x", "\xff" + good,
        std::string(1 << 20, '['), "{\"a\\\"" + std::string(1 << 20, '['),
        std::string("{\"job\":\"\xff\"}")}) {
    auto result = manifest_from_json(text);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind(), ErrorKind::kDamaged);
  }
}

TEST(Record, BracketsInStringsAreNoDepth) {
  Manifest m = full_manifest();
  m.argv = {"[[[[[[[[[[[[{{{{{{\\", "\"[[[[[[[[[[[[[[[[", "\\\"{{{{{{{{{{{{{"};
  auto back = manifest_from_json(to_json(m));
  ASSERT_TRUE(back) << back.error().line();
  EXPECT_EQ(back->argv, m.argv);
}

TEST(Record, DigestsAsHex) {
  Digest digest{};
  digest[0] = 0xab, digest[31] = 0x01;
  EXPECT_EQ(to_hex(digest), "ab" + std::string(60, '0') + "01");
  EXPECT_EQ(digest_from_hex(to_hex(digest)).value(), digest);
  EXPECT_FALSE(digest_from_hex(std::string(64, 'A')));
  EXPECT_FALSE(digest_from_hex(std::string(62, '0')));
}

TEST(Text, KnowsUtf8) {
  for (const char* good :
       {"", "abc", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"})
    EXPECT_TRUE(is_utf8(good));
  for (const char* bad : {"\x80", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "a\xff", "\xe2\x82"})
    EXPECT_FALSE(is_utf8(bad));
}

}  // namespace
}  // namespace stillpoint::statefile
