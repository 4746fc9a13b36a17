// A tree over places 0 to n-1, each with up to kFan below it: along it contributions are gathered
// and news is spread.  A place's neighbours follow from its number; up to kFan + 1 places are a
// star around place 0.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ranges>

namespace stillpoint::supervisor::fan {

inline constexpr uint32_t kFan = 32;

constexpr uint32_t above(uint32_t place) {  // of any but place 0
  return (place - 1) / kFan;
}

constexpr auto below(uint32_t place, uint32_t places) {
  const uint64_t first = uint64_t{place} * kFan + 1;
  const auto bound = [places](uint64_t at) {
    return static_cast<uint32_t>(std::min<uint64_t>(at, std::max(places, 1U)));
  };
  return std::views::iota(bound(first), bound(first + kFan));
}

}  // namespace stillpoint::supervisor::fan
