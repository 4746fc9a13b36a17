// Durations and sizes as people write them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/error.h"

namespace stillpoint {

using Milliseconds = std::chrono::milliseconds;

// Slurm's forms (minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes,
// days-hours:minutes:seconds) and a number with a unit: 500ms, 10s, 5m, 2h, 1d.  Positive and at
// most 365 days; kUsage otherwise.
Result<Milliseconds> parse_duration(std::string_view text);

// A whole decimal number from least to most; kUsage otherwise.  `what` names it in the error.
Result<uint64_t> parse_number(std::string_view text, std::string_view what, uint64_t least,
                              uint64_t most);

std::string format_duration(
    Milliseconds duration);                // "850 ms", "12.3 s", "4 min 05 s", "2 h 03 min"
std::string format_bytes(uint64_t bytes);  // "512 B", "1.4 MiB"
std::string format_rate(uint64_t bytes, Milliseconds in);  // "1.2 GiB/s"
std::string utc_now();                                     // "2026-11-21T05:30:12Z"

}  // namespace stillpoint
