#include "common/units.h"

#include <array>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <optional>
#include <vector>

namespace stillpoint {

namespace {

constexpr uint64_t kSecond = 1000, kMinute = 60 * kSecond, kHour = 60 * kMinute, kDay = 24 * kHour;
constexpr uint64_t kMost = 365 * kDay;

std::optional<uint64_t> whole_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size() || value > kMost) return std::nullopt;
  return value;
}

std::optional<uint64_t> with_unit(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, uint64_t>, 5> kUnits = {
      {{"ms", 1}, {"s", kSecond}, {"m", kMinute}, {"h", kHour}, {"d", kDay}}};
  for (const auto& [suffix, factor] : kUnits) {
    if (!text.ends_with(suffix)) continue;
    const auto number = whole_number(text.substr(0, text.size() - suffix.size()));
    if (!number || *number > kMost / factor) return std::nullopt;
    return *number * factor;
  }
  return std::nullopt;
}

std::optional<std::vector<uint64_t>> colon_list(std::string_view text) {
  std::vector<uint64_t> fields;
  for (;;) {
    const size_t colon = text.find(':');
    const auto number = whole_number(text.substr(0, colon));
    if (!number || *number > kMost / kDay * 24 * 60 * 60) return std::nullopt;
    fields.push_back(*number);
    if (colon == text.npos) return fields;
    text.remove_prefix(colon + 1);
  }
}

std::optional<uint64_t> slurm_form(std::string_view text) {
  uint64_t days = 0;
  const size_t dash = text.find('-');
  if (dash != text.npos) {
    const auto number = whole_number(text.substr(0, dash));
    if (!number || *number > 365) return std::nullopt;
    days = *number;
    text.remove_prefix(dash + 1);
  }
  const auto f = colon_list(text);
  if (!f || f->size() > 3) return std::nullopt;
  const auto at = [&](size_t i) { return i < f->size() ? (*f)[i] : 0; };
  if (dash != std::string_view::npos)
    return days * kDay + at(0) * kHour + at(1) * kMinute + at(2) * kSecond;
  if (f->size() == 3) return at(0) * kHour + at(1) * kMinute + at(2) * kSecond;
  return at(0) * kMinute + at(1) * kSecond;
}

}  // namespace

Result<Milliseconds> parse_duration(std::string_view text) {
  auto value = with_unit(text);
  if (!value) value = slurm_form(text);
  if (!value || *value == 0 || *value > kMost)
    return fail(ErrorKind::kUsage, "'" + std::string(text) + "' is no time",
                "write minutes, HH:MM:SS, D-HH, or a number with a unit: 500ms, 10s, 5m, 2h, 1d "
                "(at most 365d)");
  return Milliseconds(*value);
}

Result<uint64_t> parse_number(std::string_view text, std::string_view what, uint64_t least,
                              uint64_t most) {
  uint64_t value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size() || value < least || value > most)
    return fail(ErrorKind::kUsage, std::string(what) + " takes a whole number from " +
                                       std::to_string(least) + " to " + std::to_string(most) +
                                       ", not '" + std::string(text) + "'");
  return value;
}

std::string format_duration(Milliseconds duration) {
  const auto ms = static_cast<uint64_t>(std::max<int64_t>(duration.count(), 0));
  char text[64];
  if (ms < kSecond)
    std::snprintf(text, sizeof text, "%lu ms", ms);
  else if (ms < kMinute)
    std::snprintf(text, sizeof text, "%.1f s", static_cast<double>(ms) / kSecond);
  else if (ms < kHour)
    std::snprintf(text, sizeof text, "%lu min %02lu s", ms / kMinute, ms % kMinute / kSecond);
  else
    std::snprintf(text, sizeof text, "%lu h %02lu min", ms / kHour, ms % kHour / kMinute);
  return text;
}

std::string format_bytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes);
  int unit = -1;
  while (value >= 1024 && unit < 5) value /= 1024, unit++;
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %s", value, kUnits[unit]);
  return text;
}

std::string format_rate(uint64_t bytes, Milliseconds in) {
  const double seconds = static_cast<double>(std::max<int64_t>(in.count(), 1)) / 1000;
  return format_bytes(static_cast<uint64_t>(static_cast<double>(bytes) / seconds)) + "/s";
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace stillpoint
