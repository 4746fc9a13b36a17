#include "launcher/supervisor/rank.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "common/paths.h"
#include "common/process.h"

namespace stillpoint::supervisor {

namespace {

constexpr std::string_view kDefaultPath = "/usr/local/bin:/usr/bin:/bin";

// What the child tells when it fails before exec; nothing (end of file) means that the program
// runs.
enum class Step : int { kDirectory, kDescriptors, kExec };
struct Failure {
  Step step;
  int error_number;
};

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (const std::string& s : strings) result.push_back(const_cast<char*>(s.c_str()));
  result.push_back(nullptr);
  return result;
}

// All that the child uses, made before the fork.
struct Prepared {
  std::vector<std::string> candidates;
  std::vector<char*> argv, env;
  int in = -1, out = -1, err = -1, report = -1;
  const RankSpec* spec = nullptr;
};

[[noreturn]] void give_up(int report, Step step) {
  const Failure failure{step, errno};
  // If even this fails, the exit status still says that something went wrong.
  if (::write(report, &failure, sizeof failure) != sizeof failure) _exit(125);
  _exit(126);
}

void reset_signals() {
  for (int number = 1; number < NSIG; number++) ::signal(number, SIG_DFL);  // some refuse: fine
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Like execvp: a file that may not be run is remembered while others are tried.  But a file that is
// neither a binary nor begins with #! is not given to a shell: mpirun does not, either, and a
// damaged binary is no script.
int try_candidates(Prepared& p) {
  int error_number = ENOENT;
  for (const std::string& path : p.candidates) {
    ::execve(path.c_str(), p.argv.data(), p.env.data());
    if (errno == ENOENT || errno == ENOTDIR) continue;
    error_number = errno;
    if (errno != EACCES) break;
  }
  return error_number;
}

// In the child.  Async-signal-safe calls only.
int become_rank(Prepared& p) {
  ::setpgid(0, 0);
  reset_signals();
  if (p.spec->umask) ::umask(*p.spec->umask);
  if (p.spec->descriptors) ::setrlimit(RLIMIT_NOFILE, &*p.spec->descriptors);
  if (::chdir(p.spec->directory.c_str()) != 0) give_up(p.report, Step::kDirectory);
  // Above the standard descriptors already (these are open in the supervisor), so none overwrites
  // another.
  if (::dup2(p.in, 0) < 0 || ::dup2(p.out, 1) < 0 || ::dup2(p.err, 2) < 0)
    give_up(p.report, Step::kDescriptors);
  if (::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
    give_up(p.report, Step::kDescriptors);
  errno = try_candidates(p);
  give_up(p.report, Step::kExec);
}

std::string reason_of(int error_number, const std::vector<std::string>& candidates,
                      const std::string& directory) {
  struct stat s{};
  for (const std::string& path : candidates) {
    if (::stat(paths::absolute(path, directory).c_str(), &s) != 0) continue;
    if (S_ISDIR(s.st_mode) && error_number == EACCES) return "it is a directory";
    if (error_number == ENOENT) return "the interpreter that it names does not exist";
  }
  return system_error("", error_number).what().substr(2);  // without ": "
}

Error explain(const Failure& failure, const RankSpec& spec, const Prepared& p) {
  const auto kind = failure.step == Step::kExec &&
                            (failure.error_number == ENOENT || failure.error_number == ENOTDIR)
                        ? ErrorKind::kNoSuchProgram
                        : ErrorKind::kNotExecutable;
  const std::string what = "cannot run " + spec.argv.front() + " in " + spec.directory + ": ";
  if (failure.step != Step::kExec) {
    const char* doing = failure.step == Step::kDirectory ? "entering the directory" : "descriptors";
    return Error(kind, what + system_error(doing, failure.error_number).what());
  }
  const bool searched = spec.argv.front().find('/') == std::string::npos;
  if (searched && kind == ErrorKind::kNoSuchProgram &&
      reason_of(failure.error_number, p.candidates, spec.directory).starts_with("No such"))
    return Error(kind, what + "no program of that name on PATH");
  return Error(kind, what + reason_of(failure.error_number, p.candidates, spec.directory));
}

// Waits for the child's word.  None: it runs the program.
Result<std::optional<Failure>> await_exec(int report, Deadline deadline) {
  for (;;) {
    pollfd p{report, POLLIN, 0};
    const int ready = ::poll(&p, 1, deadline.poll_timeout());
    if (ready < 0 && errno != EINTR) return fail_errno("poll");
    if (ready == 0 && deadline.passed())
      return fail(ErrorKind::kTimeout, "waited too long for the program's file to be loaded");
    if (ready <= 0) continue;
    Failure failure{};
    const ssize_t n = ::read(report, &failure, sizeof failure);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("read");
    if (n == 0) return std::nullopt;
    return failure;
  }
}

struct RankPipes {
  Pipe in, out, err, report;
};

Result<RankPipes> make_pipes(bool wants_input) {
  std::array<Pipe, 4> pipes;
  for (size_t i = wants_input ? 0 : 1; i < pipes.size(); i++) {
    auto pipe = make_pipe();
    if (!pipe) return fail(pipe.error());
    pipes[i] = std::move(*pipe);
  }
  if (!wants_input) {
    auto null = open_file("/dev/null", O_RDONLY);
    if (!null) return fail(null.error());
    pipes[0].read = std::move(*null);
  }
  for (const int fd : {pipes[0].write.get(), pipes[1].read.get(), pipes[2].read.get()})
    if (fd >= 0)
      if (auto r = set_nonblocking(fd, true); !r) return fail(r.error());
  return RankPipes{std::move(pipes[0]), std::move(pipes[1]), std::move(pipes[2]),
                   std::move(pipes[3])};
}

}  // namespace

std::vector<std::string> program_candidates(const std::string& program, const Environment& env) {
  if (program.find('/') != std::string::npos) return {program};
  std::vector<std::string> candidates;
  std::string_view path = value_of(env, "PATH");
  if (path.empty()) path = kDefaultPath;
  for (;;) {
    const size_t colon = path.find(':');
    const std::string_view directory = path.substr(0, colon);
    candidates.push_back(directory.empty() ? "./" + program : paths::join(directory, program));
    if (colon == std::string_view::npos) return candidates;
    path.remove_prefix(colon + 1);
  }
}

Result<RankProcess> start_rank(const RankSpec& spec, Deadline deadline) {
  auto pipes = make_pipes(spec.wants_input);
  if (!pipes) return fail(pipes.error().during("pipes for a rank"));
  Prepared p;
  p.candidates = program_candidates(spec.argv.front(), spec.env);
  p.argv = pointers(spec.argv);
  p.env = pointers(spec.env);
  p.in = pipes->in.read.get();
  p.out = pipes->out.write.get();
  p.err = pipes->err.write.get();
  p.report = pipes->report.write.get();
  p.spec = &spec;

  auto child = fork_child([&p] { return become_rank(p); });
  if (!child) return fail(child.error().during("starting a rank"));
  ::setpgid(child->pid(), child->pid());  // both sides do it: whoever is first
  child->leads_group();
  pipes->report.write.reset();
  auto failure = await_exec(pipes->report.read.get(), deadline);
  if (!failure) {
    child->send(SIGKILL);
    child->release();  // it may be stuck in the kernel: reaped whenever it ends
    return fail(failure.error().during("starting " + spec.argv.front()));
  }
  if (*failure) return fail(explain(**failure, spec, p));
  return RankProcess{child->release(), std::move(pipes->in.write), std::move(pipes->out.read),
                     std::move(pipes->err.read)};
}

}  // namespace stillpoint::supervisor
