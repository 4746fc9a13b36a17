// What is said to people while something runs: one line each on standard error, "stillpoint: ..."
// in front. Control characters of the text (it may hold names that users chose) are replaced.
#pragma once

#include <functional>
#include <string>

#include "common/error.h"

namespace stillpoint::log {

enum class Level { kDebug, kInfo, kWarning, kError };

void set_level(Level least);                // default: kInfo
void set_name(const std::string& program);  // what stands in front; default "stillpoint"
// Lines begin with their syslog priority in place of the program's name ("<4>warning: ..."), as
// the journal takes them.
void set_priorities(bool on);
// Called before a line is written, so that a progress bar can take itself off the terminal.
void set_before_line(std::function<void()> hook);

// A line from elsewhere, which says itself what it is ("warning: ...").
void relay(Level level, const std::string& text);
// Where lines go instead of standard error, without the name in front; none: there.
void set_listener(std::function<void(Level, const std::string& text)> listener);

void debug(const std::string& text);
void info(const std::string& text);
void warning(const std::string& text);
void error(const std::string& text);
inline void error(const Error& e) {
  error(e.line());
}

}  // namespace stillpoint::log
