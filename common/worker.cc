#include "common/worker.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>

namespace stillpoint {

namespace {

// On the pipe: a tag, a 32-bit length, that many bytes.  Both ends are this same binary.
enum Tag : char { kProgress = 'P', kResult = 'R', kError = 'E' };
constexpr size_t kHead = 1 + sizeof(uint32_t);
constexpr uint32_t kMostBytes = 64u << 20;

std::string message(Tag tag, std::string_view payload) {
  std::string m(1, tag);
  const auto size = static_cast<uint32_t>(payload.size());
  m.append(reinterpret_cast<const char*>(&size), sizeof size);
  m.append(payload);
  return m;
}

std::string encode_error(const Error& e) {
  const int kind = static_cast<int>(e.kind());
  std::string payload(reinterpret_cast<const char*>(&kind), sizeof kind);
  return payload + e.what() + '\0' + e.remedy();
}

Error decode_error(std::string_view payload) {
  int kind = static_cast<int>(ErrorKind::kInternal);
  if (payload.size() < sizeof kind)
    return Error(ErrorKind::kInternal, "a worker's error was cut short");
  std::memcpy(&kind, payload.data(), sizeof kind);
  payload.remove_prefix(sizeof kind);
  const size_t zero = payload.find('\0');
  return Error(static_cast<ErrorKind>(kind), std::string(payload.substr(0, zero)),
               zero == payload.npos ? "" : std::string(payload.substr(zero + 1)));
}

int64_t now_ms() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void reset_signals() {
  sigset_t none;
  sigemptyset(&none);
  for (int s = 1; s < NSIG; s++) ::signal(s, SIG_DFL);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGINT, SIG_IGN);  // Ctrl-C is for the job; the parent decides what becomes of us
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

Result<std::string> run_body(const Identity* user, const Worker::Body& body, Progress& progress) {
  if (user)
    if (auto r = become(*user); !r) return fail(r.error());
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // after become(): a change of uid clears it
  try {
    return body(progress);
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kSystem, "out of memory");
  } catch (const std::exception& e) {
    return fail(ErrorKind::kInternal, e.what());
  }
}

}  // namespace

void Progress::add(uint64_t bytes) {
  const uint64_t done = __atomic_add_fetch(&done_, bytes, __ATOMIC_RELAXED);
  const int64_t now = now_ms();
  int64_t last = __atomic_load_n(&last_sent_, __ATOMIC_RELAXED);
  if (now - last < 50) return;
  if (!__atomic_compare_exchange_n(&last_sent_, &last, now, false, __ATOMIC_RELAXED,
                                   __ATOMIC_RELAXED))
    return;
  const uint64_t numbers[2] = {done, __atomic_load_n(&total_, __ATOMIC_RELAXED)};
  // Under PIPE_BUF, so that messages of several threads do not mix.
  (void)write_all(fd_,
                  message(kProgress, {reinterpret_cast<const char*>(numbers), sizeof numbers}));
}

Result<Worker> Worker::start(std::string name, const Identity* user, const Body& body) {
  auto pipe = make_pipe();
  if (!pipe) return fail(pipe.error());
  auto child = fork_child([&] {
    ::setpgid(0, 0);
    reset_signals();
    Progress progress(pipe->write.get());
    const auto result = run_body(user, body, progress);
    const auto sent =
        result ? write_all(pipe->write.get(), message(kResult, *result))
               : write_all(pipe->write.get(), message(kError, encode_error(result.error())));
    return sent ? 0 : static_cast<int>(ErrorKind::kInternal);
  });
  if (!child) return fail(child.error());
  ::setpgid(child->pid(), child->pid());  // in both, so that neither has to wait for the other
  child->leads_group();
  if (auto r = set_nonblocking(pipe->read.get(), true); !r) return fail(r.error());
  Worker worker;
  worker.name_ = std::move(name);
  worker.child_ = std::move(*child);
  worker.pipe_ = std::move(pipe->read);
  return worker;
}

std::optional<Result<std::string>> Worker::take_message() {
  while (in_.size() >= kHead) {
    uint32_t size;
    std::memcpy(&size, in_.data() + 1, sizeof size);
    if (size > kMostBytes) return fail(ErrorKind::kInternal, name_ + ": a message too large");
    if (in_.size() < kHead + size) return std::nullopt;
    const char tag = in_[0];
    const std::string payload = in_.substr(kHead, size);
    in_.erase(0, kHead + size);
    if (tag == kResult) return Result<std::string>(payload);
    if (tag == kError) return fail(decode_error(payload));
    uint64_t numbers[2];
    if (payload.size() != sizeof numbers)
      return fail(ErrorKind::kInternal, name_ + ": bad progress");
    std::memcpy(numbers, payload.data(), sizeof numbers);
    progress_ = {numbers[0], numbers[1]};
  }
  return std::nullopt;
}

std::optional<Result<std::string>> Worker::read() {
  char buffer[65536];
  for (;;) {
    const ssize_t n = ::read(pipe_.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return std::nullopt;
    if (n > 0) {
      in_.append(buffer, static_cast<size_t>(n));
      if (auto result = take_message()) {
        child_.kill();  // it is on its way out; what it left behind in its group goes too
        return result;
      }
      continue;
    }
    auto ended = child_.wait(Deadline::in(std::chrono::seconds(10)), name_);
    kill();
    return fail(ErrorKind::kInternal,
                name_ + " died: " + (ended ? ended->describe() : ended.error().what()));
  }
}

Result<std::string> Worker::finish(Deadline deadline) {
  for (;;) {
    if (auto result = read()) return *result;
    if (deadline.passed()) {
      kill();
      return fail(ErrorKind::kTimeout, name_ + " took too long and was ended");
    }
    pollfd p{pipe_.get(), POLLIN, 0};
    ::poll(&p, 1, deadline.poll_timeout());
  }
}

void Worker::kill() {
  child_.kill();
}

}  // namespace stillpoint
