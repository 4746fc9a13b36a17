#include "common/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

namespace stillpoint::log {

namespace {

struct State {
  std::shared_ptr<spdlog::logger> logger;
  std::function<void()> before_line;
  std::function<void(Level, const std::string&)> listener;
  bool priorities = false;
};

State& state() {
  static State s = [] {
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_st>();
    State made{std::make_shared<spdlog::logger>("stillpoint", sink), {}, {}, false};
    made.logger->set_pattern("%n: %v");
    return made;
  }();
  return s;
}

// As in <syslog.h>.
const char* priority(spdlog::level::level_enum level) {
  if (level >= spdlog::level::err) return "<3>";
  if (level == spdlog::level::warn) return "<4>";
  return level == spdlog::level::info ? "<6>" : "<7>";
}

Level level_of(spdlog::level::level_enum level) {
  if (level >= spdlog::level::err) return Level::kError;
  if (level == spdlog::level::warn) return Level::kWarning;
  return level == spdlog::level::info ? Level::kInfo : Level::kDebug;
}

void line(spdlog::level::level_enum level, std::string text) {
  State& s = state();
  if (!s.logger->should_log(level)) return;
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  if (s.listener) return s.listener(level_of(level), text);
  if (s.priorities) text.insert(0, priority(level));
  if (s.before_line) s.before_line();
  s.logger->log(level, spdlog::string_view_t(text));
  s.logger->flush();
}

}  // namespace

void set_level(Level least) {
  static constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                          spdlog::level::warn, spdlog::level::err};
  state().logger->set_level(kLevels[static_cast<int>(least)]);
}

void set_name(const std::string& program) {
  State& s = state();
  auto renamed = s.logger->clone(program);
  renamed->set_pattern(s.priorities ? "%v" : "%n: %v");
  s.logger = renamed;
}

void set_priorities(bool on) {
  state().priorities = on;
  state().logger->set_pattern(on ? "%v" : "%n: %v");
}

void set_listener(std::function<void(Level, const std::string& text)> listener) {
  state().listener = std::move(listener);
}

void set_before_line(std::function<void()> hook) {
  state().before_line = std::move(hook);
}

void relay(Level level, const std::string& text) {
  static constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                          spdlog::level::warn, spdlog::level::err};
  line(kLevels[static_cast<int>(level)], text);
}

void debug(const std::string& text) {
  line(spdlog::level::debug, text);
}
void info(const std::string& text) {
  line(spdlog::level::info, text);
}
void warning(const std::string& text) {
  line(spdlog::level::warn, "warning: " + text);
}
void error(const std::string& text) {
  line(spdlog::level::err, "error: " + text);
}

}  // namespace stillpoint::log
