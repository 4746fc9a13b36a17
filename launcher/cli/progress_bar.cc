#include "launcher/cli/progress_bar.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "common/fd.h"
#include "common/log.h"
#include "common/units.h"

namespace stillpoint::cli {

namespace {

size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 40) return 80;
  return size.ws_col;
}

}  // namespace

ProgressBar::ProgressBar() : terminal_(::isatty(STDERR_FILENO)) {
  log::set_before_line([this] { erase(); });
}

ProgressBar::~ProgressBar() {
  erase();
  log::set_before_line({});
}

void ProgressBar::update(const std::string& phase, uint64_t done, uint64_t total) {
  if (phase != phase_) {
    phase_ = phase;
    started_ = std::chrono::steady_clock::now();
  }
  done_ = done;
  total_ = std::max(total, done);
  if (terminal_) draw();
}

void ProgressBar::finished() {
  erase();
  phase_.clear();
}

void ProgressBar::draw() {
  const auto took =
      std::chrono::duration_cast<Milliseconds>(std::chrono::steady_clock::now() - started_);
  const double share = total_ ? static_cast<double>(done_) / static_cast<double>(total_) : 0;
  std::string figures =
      " " + format_bytes(done_) + " of " + format_bytes(total_) + ", " + format_rate(done_, took);
  if (share > 0.01 && took.count() > 300) {
    const auto left = static_cast<int64_t>(static_cast<double>(took.count()) * (1 - share) / share);
    figures += ", " + format_duration(Milliseconds(left)) + " left";
  }
  const std::string head = phase_ + " [";
  const size_t used = head.size() + figures.size() + 2;
  const size_t width =
      terminal_width() > used + 10 ? std::min<size_t>(terminal_width() - used - 1, 40) : 10;
  const auto full = static_cast<size_t>(share * static_cast<double>(width));
  std::string text =
      "\r\033[K" + head + std::string(full, '#') + std::string(width - full, '.') + "]" + figures;
  (void)write_all(STDERR_FILENO, text);
  drawn_ = true;
}

void ProgressBar::erase() {
  if (drawn_) (void)write_all(STDERR_FILENO, "\r\033[K");
  drawn_ = false;
}

}  // namespace stillpoint::cli
