#include "criu-glue/statefile/text.h"

#include <cstdint>

namespace stillpoint::statefile {

namespace {

struct Sequence {
  size_t length = 0;  // 0: no character starts like this
  uint32_t value = 0, least = 0;
};

Sequence sequence_of(uint8_t first) {
  if (first < 0x80) return {1, first, 0};
  if ((first & 0xe0) == 0xc0) return {2, first & 0x1fu, 0x80};
  if ((first & 0xf0) == 0xe0) return {3, first & 0x0fu, 0x800};
  if ((first & 0xf8) == 0xf0) return {4, first & 0x07u, 0x10000};
  return {};
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    auto [length, value, least] = sequence_of(static_cast<uint8_t>(text[at]));
    if (length == 0 || text.size() - at < length) return false;
    for (size_t i = 1; i < length; ++i) {
      const auto next = static_cast<uint8_t>(text[at + i]);
      if ((next & 0xc0) != 0x80) return false;
      value = value << 6 | (next & 0x3fu);
    }
    const bool surrogate = value >= 0xd800 && value < 0xe000;
    if (value < least || value > 0x10ffff || surrogate) return false;
    at += length;
  }
  return true;
}

bool is_plain_path(std::string_view path) {
  if (!path.starts_with('/')) return false;
  return !(std::string(path) + '/').contains("/../");
}

std::string bytes_to_hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * bytes.size());
  for (char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::optional<std::string> bytes_from_hex(std::string_view hex) {
  if (hex.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  bytes.reserve(hex.size() / 2);
  for (size_t i = 0; i < hex.size(); i += 2) {
    const int high = hex_value(hex[i]), low = hex_value(hex[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    bytes += static_cast<char>(high << 4 | low);
  }
  return bytes;
}

}  // namespace stillpoint::statefile
