// Small questions about strings that come out of a record.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace stillpoint::statefile {

bool is_utf8(std::string_view text);        // well-formed, as RFC 3629 has it
bool is_plain_path(std::string_view path);  // absolute, without a ".." component
std::string bytes_to_hex(std::string_view bytes);
std::optional<std::string> bytes_from_hex(std::string_view hex);  // lower case only

}  // namespace stillpoint::statefile
