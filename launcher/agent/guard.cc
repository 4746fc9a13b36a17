#include "launcher/agent/guard.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "common/wire/frame.h"

namespace stillpoint::agent {

namespace {

// One frame per note: cgroup, '\0', staging.  An empty frame dismisses.
std::string encode(const JobNote& note) {
  return wire::frame(note.cgroup + '\0' + note.staging);
}

void decode(const std::string& payload, JobNote& note) {
  const size_t zero = payload.find('\0');
  note.cgroup = payload.substr(0, zero);
  note.staging = zero == payload.npos ? "" : payload.substr(zero + 1);
}

// Keeps nothing of the agent's but the pipe and the lock: whoever waits for the end of its output
// must not wait for us.
void let_go(int pipe, int lock) {
  ::setsid();
  ::signal(SIGPIPE, SIG_IGN);
  for (int s : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT}) ::signal(s, SIG_IGN);
  ::dup2(pipe, 0);
  ::dup2(lock, 1);
  ::close_range(2, ~0U, 0);
  ::prctl(PR_SET_NAME, "stillpoint-guard");
}

int watch(JobNote note) {
  wire::FrameReader frames;
  char buffer[4096];
  for (;;) {
    const ssize_t n = ::read(0, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return clean_up(note) ? 0 : 1;  // the agent is gone
    frames.feed({buffer, static_cast<size_t>(n)});
    for (auto next = frames.next(); next && *next; next = frames.next()) {
      if ((*next)->empty()) return 0;
      decode(**next, note);
    }
  }
}

}  // namespace

Result<Guard> Guard::start(const JobClaim& claim, const std::string& job) {
  auto pipe = make_pipe();
  if (!pipe) return fail(pipe.error());
  auto child = fork_child([&] {
    let_go(pipe->read.get(), claim.lock());
    return watch({.job = job, .cgroup = {}, .staging = {}, .uid = 0, .agent_pid = 0});
  });
  if (!child) return fail(child.error());
  return Guard(std::move(*child), std::move(pipe->write));
}

Result<> Guard::tell(const JobNote& note) {
  return write_all(pipe_.get(), encode(note));
}

void Guard::dismiss() {
  (void)write_all(pipe_.get(), wire::frame(""));
  pipe_.reset();
  (void)child_.wait(Deadline::in(std::chrono::seconds(5)), "the guard");
}

}  // namespace stillpoint::agent
